"""Sweeps on Dask, with real worker processes: killed, restarted, and with nothing shared but S3."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fake_points import begun, run_fake

from prunelab import compare_points, load_sweep, read_sweep, run_sweep
from prunelab.experiments.sweep import on_dask
from prunelab.experiments.sweep.on_dask import plan_workers
from prunelab.utils.tensors import peek_header

TESTS = Path(__file__).parents[1]
MANY = """
recipes: digits-quick
seeds: [0, 1]
set: {baseline.epochs: 1, prune.ratios: {"*": "{ratio}"}}
grid: {ratio: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], retrain.lr: [0.1, 0.01, 0.001, 0.0001]}
"""
SMALL = {
    "recipes": "digits-quick",
    "seeds": [0, 1],
    "set": {
        "model.name": "small:tiny_network",
        "baseline.epochs": 12,
        "retrain.epochs": 2,
        "retrain.lr": 0.01,
        "continued": False,
        "scratch": None,
        "sensitivity": [],
        "prune.ratios": {"*": "{ratio}"},
    },
    "grid": {"ratio": [0.2, 0.4]},
}


@pytest.fixture
def many(tmp_path):
    """Fifty points, two of them baselines."""
    path = tmp_path / "many.yaml"
    path.write_text(MANY)
    return load_sweep(path)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_workers_of_this_machine_see_one_gpu_each(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    plan = plan_workers(2, gpus=2, cores=8)
    assert [own["env"]["CUDA_VISIBLE_DEVICES"] for own in plan.values()] == ["0", "1"]
    assert [own["resources"] for own in plan.values()] == [{"GPU": 1}] * 2
    assert {own["env"]["OMP_NUM_THREADS"] for own in plan.values()} == {"4"}
    without = plan_workers(2, gpus=0, cores=2)
    assert all("CUDA_VISIBLE_DEVICES" not in own["env"] for own in without.values())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-7a")  # what a batch scheduler gave
    given = plan_workers(2, gpus=2, cores=8)
    assert [own["env"]["CUDA_VISIBLE_DEVICES"] for own in given.values()] == ["2", "GPU-7a"]
    more = plan_workers(3, gpus=2, cores=8)
    assert more["worker-2"] == {
        "env": {**more["worker-2"]["env"], "CUDA_VISIBLE_DEVICES": ""},
        "resources": {},
    }


def test_fifty_points_and_a_worker_killed_in_the_middle(many, told, tmp_path):
    victim = "digits-quick,ratio=0.3,lr=0.01-1"
    (told / f"die-{victim}").touch()
    points = run_sweep(many, out=tmp_path, workers=2)
    assert len(points) == 50
    assert set(points["state"]) == {"done"}
    ran = begun(told)
    assert ran.count(victim) == 2
    # what the worker had in hand may be begun again, and nothing that was done
    assert len(ran) <= 52
    assert set(ran[:2]) == {"digits-quick-baseline-0", "digits-quick-baseline-1"}


def test_a_point_that_kills_its_workers_is_given_up(many, told, tmp_path, monkeypatch):
    victim = "digits-quick,ratio=0.3,lr=0.01-1"
    monkeypatch.setattr(on_dask, "run_point", kills_always)
    points = run_sweep(many, out=tmp_path, workers=2, retries=1)
    failed = points[points["state"] == "failed"]
    assert [f"{p}-{s}" for p, s in zip(failed["point"], failed["seed"], strict=True)] == [victim]
    assert "its worker was lost" in failed["error"].iloc[0]
    assert (points["state"] == "done").sum() == 49


def kills_always(point, address, sweep):
    """As `run_fake`, but for one point."""
    if point.key == "digits-quick,ratio=0.3,lr=0.01-1":
        os.kill(os.getpid(), signal.SIGKILL)
    return run_fake(point, address, sweep)


def test_each_point_has_a_gpu_of_its_own(many, told, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    few = many.model_copy(update={"seeds": (0,), "grid": {"ratio": (0.1, 0.2, 0.3)}})
    run_sweep(few, out=tmp_path)  # as many workers as GPUs
    seen = {line.split()[1] for line in (told / "begun").read_text().splitlines()}
    assert seen == {"0", "1"}


@pytest.mark.parametrize("wants", [{"device": "cuda"}, {"resources": {"MEMORY": 2.0}}])
def test_what_no_worker_has_is_said_at_once(many, told, tmp_path, monkeypatch, wants):
    name = "GPU=1" if "device" in wants else "MEMORY=2"
    began = time.monotonic()
    with pytest.raises(ValueError, match=f"no worker has {name}: of 2, the best has 0"):
        run_sweep(many.model_copy(update=wants), out=tmp_path, workers=2)
    assert time.monotonic() - began < 60
    assert not (told / "begun").exists()


def test_no_scheduler_there(many, told, tmp_path, monkeypatch):
    monkeypatch.setattr(on_dask, "PATIENCE", "1s")
    with pytest.raises(OSError, match="no Dask scheduler answers at tcp://127"):
        run_sweep(many, out=tmp_path, scheduler=f"tcp://127.0.0.1:{free_port()}")


class Cluster:
    """A scheduler and workers, as one starts them by hand."""

    def __init__(self, port: int, told: Path, workers: int = 2) -> None:
        self.address = f"tcp://127.0.0.1:{port}"
        here = {**os.environ, "PYTHONPATH": str(TESTS), "PRUNELAB_FAKE": str(told)}
        dask = [sys.executable, "-m", "dask"]
        own = ["--host", "127.0.0.1", "--no-dashboard"]
        commands = [[*dask, "scheduler", "--port", str(port), *own]]
        place = str(told.parent / "dask")
        commands += [
            [*dask, "worker", self.address, "--nthreads", "1", *own, "--local-directory", place]
        ] * workers
        how = {"env": here, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes = [subprocess.Popen(c, start_new_session=True, **how) for c in commands]

    def kill(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_scheduler_that_is_restarted(many, told, tmp_path, monkeypatch):
    monkeypatch.setattr(on_dask, "PATIENCE", "2s")
    port = free_port()
    (told / "slow").write_text("0.2")
    first = Cluster(port, told)
    later: list[Cluster] = []

    def restart() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if (told / "begun").exists() and len(begun(told)) > 10:
                break
            time.sleep(0.05)
        first.kill()
        (told / "slow").unlink()
        later.append(Cluster(port, told))

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        points = run_sweep(many, out=tmp_path, scheduler=first.address)
    finally:
        thread.join()
        for cluster in later:
            cluster.kill()
    assert set(points["state"]) == {"done"}
    assert later, "it was over before"
    ran = begun(told)
    assert len(ran) >= 50
    assert len(ran) <= 50 + 4  # at most what both workers had in hand


@pytest.fixture
def s3(monkeypatch) -> Iterator[str]:
    """The address of a bucket of a server on loopback."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    here = f"http://127.0.0.1:{port}"
    told = {"AWS_ENDPOINT_URL": here, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    for name, value in {**told, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(urllib.request.Request(f"{here}/runs", method="PUT"))
                break
            except OSError:
                time.sleep(0.2)
        yield "s3://runs/sweeps"
    finally:
        server.kill()
        server.wait()


def test_kept_where_nothing_else_is_shared(many, told, s3, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    few = many.model_copy(
        update={"grid": {"ratio": (0.1, 0.2, 0.3)}, "settings": {"prune.ratios": {"*": "{ratio}"}}}
    )
    victim = "digits-quick,ratio=0.2-1"
    (told / f"die-{victim}").touch()
    points = run_sweep(few, out=s3, workers=2)
    assert set(points["state"]) == {"done"}
    assert len(begun(told)) <= 8 + 2
    for left in tmp_path.glob("prunelab-*"):  # another machine
        shutil.rmtree(left)
    again = read_sweep(f"{s3}/many")
    assert again["test_accuracy"].tolist() == points["test_accuracy"].tolist()
    before = begun(told)
    assert set(run_sweep(few, out=s3, workers=2)["state"]) == {"done"}
    assert begun(told) == before


@pytest.mark.slow
def test_a_worker_that_a_batch_scheduler_stops_saves(told, tmp_path):
    """SIGTERM to a `dask worker` in the midst of an epoch."""
    cluster = Cluster(free_port(), told, workers=1)
    command = [sys.executable, "-m", "prunelab", "sweep", "digits-small", "--out", str(tmp_path)]
    command += ["--set", "baseline.epochs=50", "--scheduler", cluster.address]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        folder = tmp_path / "digits-small" / "digits-quick-baseline-0"
        wait_for(folder / "log.jsonl")
        time.sleep(1)
        cluster.processes[1].terminate()
        assert cluster.processes[1].wait(30) == 0
        assert peek_header(folder / "baseline.safetensors")["part"]["batches"] > 0
        assert not (folder / ".owner.json").exists()
        assert run.poll() is None  # it waits for another worker
        run.terminate()
        assert run.wait(60) == 143
    finally:
        run.kill()
        cluster.kill()


@pytest.mark.slow
def test_six_points_on_digits_two_at_a_time(tmp_path, monkeypatch):
    """`digits-small` in small, of which a worker is killed and which Ctrl-C stops, in trainings."""
    out, small = tmp_path / "o", tmp_path / "small.yaml"
    small.write_text(yaml.safe_dump(SMALL))
    command = [sys.executable, "-m", "prunelab", "sweep", str(small), "--out", str(out)]
    command += ["--workers", "2", "--set", "model.name=small:tiny_network"]
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    pipe = subprocess.PIPE
    run = subprocess.Popen(
        command, stdout=pipe, stderr=pipe, start_new_session=True, preexec_fn=listen
    )
    try:
        first, second = (out / "small" / f"digits-quick-baseline-{i}" for i in (0, 1))
        wait_for(first / "log.jsonl")
        os.kill(json.loads((first / ".owner.json").read_text())["pid"], signal.SIGKILL)
        wait_for(second / "finished.json")
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does, to all
        _, errors = run.communicate(timeout=100)
    finally:
        run.kill()
    assert run.returncode == 130, errors
    assert b"the same command goes on from there" in errors
    points = read_sweep(out / "small")
    assert set(points["state"]) == {"done", "waiting"}
    assert not list(out.glob("*/*/.owner.json"))
    again = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stdout + again.stderr
    points = read_sweep(out / "small")
    assert set(points["state"]) == {"done"}
    assert len(points) == 6
    compared = compare_points(points)
    assert compared["n"].tolist() == [2] * 3
    assert compared["error"].iloc[0] < 0.1  # of the least pruned ones
    for point, seed in zip(points["point"], points["seed"], strict=True):
        assert (out / "small" / f"{point}-{seed}" / "replay.ipynb").exists()
    once_more = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert "6 points: 6 done" in once_more.stdout
    assert "waiting" not in once_more.stdout


def wait_for(path: Path) -> None:
    until = time.monotonic() + 300
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.2)
    assert path.exists()


def listen() -> None:
    """A process that a shell starts in the background would not hear Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
