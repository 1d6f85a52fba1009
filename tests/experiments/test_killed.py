"""A run killed at any moment ends, started again, in the rows that it would have had.

`make kills` does it 20 times.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pandas as pd

from prunelab import read_log

TESTS = Path(__file__).parents[1]
KILLS = int(os.environ.get("PRUNELAB_KILLS", "2"))
TIMES = ["seconds", "latency_ms"]
SCRIPT = """
import sys, torch
from functools import partial
from small import few
from prunelab import load_data, load_recipe, replay
from prunelab.experiments import rows, trainings
rows.TURNS = 1
print("started", flush=True)
torch.set_num_threads(1)
say = lambda done, total: print(f"  {done} of {total} images", flush=True)
trainings.train = partial(trainings.train, save_every=3, on_batch=say)
changes = ["baseline.epochs=2", "retrain.epochs=1", "baseline.patience=9"]
changes += ["prune.schedule=rounds", "prune.rounds=2"]
recipe = load_recipe("digits-quick", changes)
replay(recipe, data=few(load_data("digits", device="cpu")), device="cpu", out=sys.argv[1])
print("done", flush=True)
"""


def run(out: Path, lines: int | None = None, seconds: float = 0) -> list[str]:
    """What a run printed until it was done; or killed, so many seconds after so many lines."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    said = list(islice(process.stdout, lines))
    if lines is not None:
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    return (said + process.communicate()[0].splitlines(keepends=True)) or [""]


def read(out: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(out / "digits-quick-0" / name).drop(columns=TIMES, errors="ignore")


def check(killed: Path, whole: Path) -> None:
    for name in ("rows.csv", "history.csv"):
        pd.testing.assert_frame_equal(read(killed, name), read(whole, name), check_exact=True)
    logs = [read_log(out / "digits-quick-0").drop(columns="seconds") for out in (killed, whole)]
    pd.testing.assert_frame_equal(*logs, check_exact=True)
    hashes = read(killed, "rows.csv")["weights"]
    assert hashes.nunique() == len(hashes) == 5
    names = [sorted(os.listdir(out / "digits-quick-0")) for out in (killed, whole)]
    assert [name for name in names[0] if not name.startswith(".")] == names[1]


def test_killed_at_any_moment(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert run(whole)[-1] == "done\n"
    chance = random.Random(KILLS)
    kills = 0
    for _ in range(10 * KILLS):
        wanted = {}
        if kills < KILLS:
            wanted = {"lines": chance.randint(1, 20), "seconds": chance.uniform(0, 1)}
        lines = run(killed, **wanted)
        if lines[-1] != "done\n":
            kills += 1
            where = " / ".join(line.strip() for line in lines if not line.startswith("  "))
            print(f"kill {kills}: {where}: {lines[-1].strip()}")
            continue
        check(killed, whole)
        if not wanted:
            break
        shutil.rmtree(killed)  # done before all the kills: once more from the beginning
    assert (kills, lines[-1]) == (KILLS, "done\n")
