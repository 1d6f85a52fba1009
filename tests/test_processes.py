"""Several processes of one run compute what one computes (two gloo processes on the CPU)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from prunelab import load_recipe, processes
from prunelab.cli import _replay_together

SCRIPT = """
import copy, json, sys, torch
from dataclasses import replace
from small import QUICK, few
from prunelab import evaluate, load_data, load_model, processes, train
torch.set_num_threads(1)
if processes.started_by_torchrun():
    processes.join("cpu")
torch.manual_seed(processes.rank())  # the first one's weights are taken
data = few(load_data("digits", device="cpu"))
cut = replace(data.train, images=data.train.images[:250], labels=data.train.labels[:250])
class Exact(torch.nn.Module):  # in float64, rounding does not grow into a difference that one could see
    def __init__(self):
        super().__init__()
        self.network = load_model("resnet20").double()

    def forward(self, images):
        return self.network(images.double())


model = Exact()
settings = replace(QUICK, batch_size=83, epochs=2)  # 83, 83, 83 and one image, which is left out
data = replace(data, train=cut)
def stop(done, total):
    if done == 250 + 2 * 83:
        raise KeyboardInterrupt


if processes.count() > 1:  # stopped within the second epoch, and gone on from there
    try:
        train(copy.deepcopy(model), data, settings, checkpoint=sys.argv[1], save_every=2, on_batch=stop)
    except KeyboardInterrupt:
        pass
history = train(model, data, settings, checkpoint=sys.argv[1], progress=True)
found = evaluate(model, data.test, batch_size=59)  # the last batch leaves a process with nothing
if processes.rank() == 0:
    print(json.dumps([history.drop(columns="seconds").to_dict("list"), found.correct, found.loss]))
"""
HERE = Path(__file__).parent
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def start(arguments: list[str], **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


def test_two_processes_learn_what_one_learns(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    runs = [start([str(tmp_path / "script.py"), str(tmp_path / "one")])]
    runs.append(start([*TORCHRUN, str(tmp_path / "script.py"), str(tmp_path / "two")]))
    said = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    lines = [out.strip().splitlines() for out, _ in said]
    assert ["epoch" in line for line in lines[1][:-1]] == [True, True]  # the first one alone prints
    assert lines[1][0] == "1 of 2 epochs and 2 batches were done before"
    (one, correct, loss), (two, also, same) = (json.loads(line[-1]) for line in lines)
    for column in one:
        assert two[column] == pytest.approx(one[column], rel=1e-5), column
    assert (also, same) == (correct, pytest.approx(loss, rel=1e-5))


def test_a_synced_norm_is_torchs():
    """For one process: forward, backward and running statistics."""
    torch.manual_seed(0)
    x = torch.randn(6, 5, 4, 4, dtype=torch.float32) * 3 + 1
    ours, theirs = nn.BatchNorm2d(5), nn.BatchNorm2d(5)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.arange(1, 6))
    out, expected = processes._norm_forward(ours, a), theirs(b)
    for y in (out, expected):
        y.square().mul(torch.arange(4)).sum().backward()
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-3)
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor)


def test_what_a_process_says_that_was_left_alone(monkeypatch, tmp_path):
    def lose(*_, **__):
        raise RuntimeError("Connection reset by peer\nmore")

    monkeypatch.setattr("prunelab.processes.join", lambda device: device)
    monkeypatch.setattr("prunelab.experiment.replay", lose)
    with pytest.raises(ValueError, match=r"the same command goes on from there \(Connection reset by peer\)$"):
        _replay_together(load_recipe("digits-quick"), "digits", "cpu", 0, tmp_path)


def test_a_process_that_dies_ends_all_and_the_run_goes_on(folder, tmp_path):
    command = [
        *TORCHRUN,
        "-m",
        "prunelab",
        "replay",
        "digits-quick",
        "--data",
        str(folder),
        "--out",
        str(tmp_path / "o"),
    ]
    for change in ("baseline.epochs=20", "sensitivity=[]", "retrain.epochs=1", "scratch=null", "baseline.batch_size=5"):
        command += ["--set", change]
    run = start(command, start_new_session=True)
    checkpoint, deadline = tmp_path / "o" / "digits-quick-0" / "baseline.safetensors", time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(workers[1]), signal.SIGKILL)
    _, errors = run.communicate(timeout=120)
    assert run.returncode != 0
    assert "Signal 9" in errors or "the same command goes on from there" in errors
    again = start(command)
    printed, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert "of 20 epochs were done before" in printed
    rows = pd.read_csv(tmp_path / "o" / "results.csv")
    assert list(rows["kind"]) == ["baseline", "pruned", "retrained"]
    assert set(rows["processes"]) == {2}
    assert set(rows["epochs"]) == {20, 0, 1}
