"""A disk that is full or may not be written to: a sentence, nothing lost, and then it goes on."""

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from small import tiny_network

from prunelab import (
    TrainSettings,
    load_pruned,
    load_recipe,
    make_plan,
    measure_sensitivity,
    prune,
    read_rows,
    read_table,
    replay,
    save_pruned,
    save_weights,
    trace,
    train,
    write_table,
)
from prunelab.experiments import gather_rows
from prunelab.experiments.log import read_log
from prunelab.measure.store import Store
from prunelab.utils.seals import append_line, read_note, write_note
from prunelab.utils.tensors import hash_tensors

SIZE = 4 * 2**20
BLOCK = 4096
X = torch.zeros(1, 3, 32, 32)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB, where one may mount such."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk cannot be mounted here: the root user can")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, free: int) -> Path:
    """A file that leaves so many bytes free."""
    path = disk / "filler"
    room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    path.write_bytes(bytes(max(room - free, 0)))
    return path


def lock(disk: Path) -> Callable[[], object]:
    """Make a disk read-only; what is returned makes it writable again."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    return lambda: subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def make_work(data) -> dict[str, tuple[Callable[[Path, int], object], Callable[[Path], object]]]:
    """{file: (write it a first or second time, what it holds)}."""
    torch.manual_seed(0)
    model = tiny_network()
    plan = make_plan(trace(model, X), {"*": 0.5})
    small = prune(model, plan)
    frame = pd.concat([read_rows()] * 10).drop(columns="evidence")
    about = {"weights": "w"}
    settings = TrainSettings(epochs=2, lr=0.01, batch_size=64, milestones=())

    def learn(folder: Path, turn: int) -> None:
        torch.manual_seed(0)
        train(tiny_network(), data, settings, checkpoint=folder / "t.safetensors", save_every=turn)

    def trained(folder: Path) -> object:
        torch.manual_seed(0)
        own = tiny_network()
        return train(own, data, settings, checkpoint=folder / "t.safetensors")["epoch"].tolist()

    return {
        "a table": (
            lambda folder, turn: write_table(folder / "t.csv", frame.iloc[: 90 + turn]),
            lambda folder: read_table(folder / "t.csv")["weights"].tolist(),
        ),
        "gathered rows": (
            lambda folder, turn: gather_rows(
                frame.iloc[: 11 + turn].assign(seed=range(11 + turn)), folder / "rows.csv"
            ),
            lambda folder: read_rows(folder / "rows.csv")["weights"].tolist(),
        ),
        "a note": (
            lambda folder, turn: write_note(folder / "n.json", {"turn": turn, "x": "y" * 9000}),
            lambda folder: read_note(folder / "n.json"),
        ),
        "a log": (
            lambda folder, turn: append_line(
                folder / "log.jsonl", {"kind": "k", "epoch": turn, "x": "y" * 9000, "s": 1}
            ),
            lambda folder: read_log(folder)["epoch"].tolist(),
        ),
        "a store of counts": (
            lambda folder, turn: Store(folder / "c.jsonl", about).add(
                ("y" * 9000, turn, 0, 9), 5, 0.5
            ),
            lambda folder: list(Store(folder / "c.jsonl", about).found),
        ),
        "a pruned network": (
            lambda folder, turn: save_pruned(
                folder / "p.safetensors", small, plan, info={"turn": turn}
            ),
            lambda folder: hash_tensors(load_pruned(folder / "p.safetensors", model).state_dict()),
        ),
        "weights": (
            lambda folder, turn: save_weights(folder / "w.safetensors", model, info={"turn": turn}),
            lambda folder: (folder / "w.safetensors").stat().st_size,
        ),
        "a training": (learn, trained),
    }


WORK = ["a table", "gathered rows", "a note", "a log", "a store of counts", "a pruned network"]
WORK += ["weights", "a training"]


@pytest.mark.parametrize("name", WORK)
def test_a_full_disk(name, disk, few_digits, times, tally, chance):
    write, read = make_work(few_digits)[name]
    assert list(make_work(few_digits)) == WORK
    for _ in range(2 * times):
        write(disk, 1)
        before, names = read(disk), sorted(os.listdir(disk))
        if name == "a training":  # which would only be read
            (disk / "t.safetensors").unlink()
            names.remove("t.safetensors")
        filler = fill(disk, BLOCK * chance.choice([0, 0, 1]))
        tally(f"A full disk, for {name}", False)
        with pytest.raises(OSError, match=re.escape(str(disk))) as told:
            write(disk, 2)
        assert told.value.errno == errno.ENOSPC
        filler.unlink()
        if name != "a training":
            kept = read(disk)
            assert kept[: len(before)] == before if isinstance(kept, list) else kept == before
            assert sorted(os.listdir(disk)) == names
        write(disk, 2)
        read(disk)
        tally(f"A full disk, for {name}", True)
        for path in disk.iterdir():
            path.unlink()


@pytest.mark.parametrize("name", WORK)
def test_a_disk_that_may_only_be_read(name, disk, few_digits, times, tally):
    write, read = make_work(few_digits)[name]
    write(disk, 1)
    before = read(disk)
    if name == "a training":
        (disk / "t.safetensors").unlink()
    tally(f"A read-only disk, for {name}", False)
    unlock = lock(disk)
    try:
        with pytest.raises(OSError, match=re.escape(str(disk))):
            write(disk, 2)
        if name != "a training":
            assert read(disk) == before
    finally:
        unlock()
    write(disk, 2)
    assert name == "a training" or read(disk)
    tally(f"A read-only disk, for {name}", True)


@pytest.fixture
def no_one() -> Iterator[None]:
    """Someone who may write nowhere, if we are root; else we are."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.mark.parametrize("name", WORK)
def test_a_folder_that_one_may_not_write_to(name, few_digits, tmp_path, tally, no_one):
    write, _ = make_work(few_digits)[name]
    folder = tmp_path / "mine" if os.getuid() == 0 else Path("/")
    tally(f"No permission, for {name}", False)
    with pytest.raises(PermissionError, match=re.escape(str(folder))):
        write(folder, 1)
    tally(f"No permission, for {name}", True)


def test_a_replay_goes_on_when_there_is_room_again(disk, few_digits, tmp_path, tally, chance):
    changes = ["baseline.epochs=1", "retrain.epochs=1", "scratch=null"]
    recipe = load_recipe("digits-quick", changes)
    how = {"data": few_digits, "device": "cpu"}
    whole = replay(recipe, out=tmp_path / "whole", **how)
    fault = "A disk that fills up during a replay"
    # the baseline's checkpoint takes about 2.2 MB, and twice that while it is replaced
    for free in (0, 2_400_000):
        tally(fault, False)
        filler = fill(disk, free)
        with pytest.raises(OSError, match=re.escape(str(disk))):
            replay(recipe, out=disk, **how)
        filler.unlink()
        tally(fault, True)
    subprocess.run(["mount", "-o", f"remount,size={8 * SIZE}", str(disk)], check=True)
    rows = replay(recipe, out=disk, **how)
    columns = ["kind", "weights", "test_accuracy", "flops"]
    assert rows[columns].equals(whole[columns])


def test_sensitivity_cannot_be_kept(disk, few_digits, tally):
    fault = "A full disk during a sensitivity"
    torch.manual_seed(0)
    model = tiny_network()
    how = {"ratios": [0.5], "batch_size": 4}
    whole = measure_sensitivity(model, few_digits, **how)
    tally(fault, False)
    filler = fill(disk, BLOCK)
    with pytest.raises(OSError, match=re.escape(str(disk))):
        measure_sensitivity(model, few_digits, store=disk / "c.jsonl", **how)
    filler.unlink()
    again = measure_sensitivity(model, few_digits, store=disk / "c.jsonl", **how)
    assert again.equals(whole)
    tally(fault, True)
