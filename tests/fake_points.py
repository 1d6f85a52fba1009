"""Points of a sweep that train nothing: what a worker leaves, in a tenth of a second."""

import os
import signal
import time
from pathlib import Path

import pandas as pd

from prunelab.experiments.sweep.points import Point
from prunelab.experiments.sweep.storage import Place
from prunelab.experiments.sweep.task import FAILED, Outcome, note_failure
from prunelab.utils.ownership import owning


def run_fake(point: Point, address: str, sweep: str) -> Outcome:
    """In place of `run_point`. What it does is told by files in PRUNELAB_FAKE.

    `slow` holds seconds; `die-KEY` is taken away and the process killed; `fail-KEY` fails.
    """
    told = Path(os.environ["PRUNELAB_FAKE"])
    place = Place(address, role="work")
    place.wait_for_owner(point.key)
    folder = place.folder / point.key
    with place.pushing(point.key), owning(folder, wait=True):
        place.pull(point.key, exactly=True)
        (folder / FAILED).unlink(missing_ok=True)
        replay = point.replay(place.folder)
        with open(told / "begun", "a") as file:
            file.write(f"{point.key} {os.environ.get('CUDA_VISIBLE_DEVICES', '-') or 'none'}\n")
        slow = told / "slow"
        time.sleep(float(slow.read_text()) if slow.exists() else 0.01)
        die = told / f"die-{point.key}"
        if die.exists():
            die.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if (told / f"fail-{point.key}").exists():
            note_failure(folder, "ValueError: it was told to", str(folder / "its.ipynb"))
            return Outcome("failed", "ValueError: it was told to", str(folder / "its.ipynb"))
        flops = 100 - 10 * len(point.settings)
        row = {"recipe": point.name, "kind": "retrained", "seed": point.seed, "epochs": 1}
        row |= {"test_accuracy": 0.9, "n_test": 100, "flops": flops, "flops_removed": 0.1}
        row |= {"dataset": "digits", "device": "cpu", "params": 7, "seconds": 1, "n_train": 10}
        pd.DataFrame([row]).to_csv(folder / "rows.csv", index=False)
        replay._finished.note()
    return Outcome("done")


def begun(told: Path) -> list[str]:
    """The points that were begun, in their order; told: PRUNELAB_FAKE."""
    path = told / "begun"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def dies_twice(point: Point, address: str, sweep: str) -> Outcome:
    """As `run_fake`, of whose kernels the first two end."""
    count = Path(os.environ["PRUNELAB_FAKE"]) / f"count-{point.key}"
    before = int(count.read_text()) if count.exists() else 0
    count.write_text(str(before + 1))
    return Outcome("died", "the kernel ended") if before < 2 else run_fake(point, address, sweep)
