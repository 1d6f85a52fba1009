"""A run killed at any moment ends, started again, in the rows that it would have had. `make kills` does it 20 times."""

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

from prunelab.results import read_log

HERE = Path(__file__).parent
KILLS = int(os.environ.get("PRUNELAB_KILLS", "2"))
TIMES = ["seconds", "latency_ms"]
SCRIPT = """
import sys, torch
from functools import partial
from small import few
from prunelab import experiment, load_data, load_recipe, replay
print("started", flush=True)
torch.set_num_threads(1)
say = lambda done, total: print(f"  {done} of {total} images", flush=True)
experiment.train = partial(experiment.train, save_every=3, on_batch=say)
changes = ["baseline.epochs=2", "retrain.epochs=1", "prune.schedule=rounds", "prune.rounds=2", "baseline.patience=9"]
replay(load_recipe("digits-quick", changes), data=few(load_data("digits", device="cpu")), device="cpu", out=sys.argv[1])
print("done", flush=True)
"""


def run(out: Path, lines: int | None = None, seconds: float = 0) -> list[str]:
    """What a run printed until it was done; or killed, so many seconds after so many lines."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
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
    assert hashes.nunique() == len(hashes) == 4
    names = [sorted(os.listdir(out / "digits-quick-0")) for out in (killed, whole)]
    assert [name for name in names[0] if not name.startswith(".")] == names[1]


def test_killed_at_any_moment(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert run(whole)[-1] == "done\n"
    chance = random.Random(KILLS)
    kills = 0
    for _ in range(10 * KILLS):
        wanted = {"lines": chance.randint(1, 20), "seconds": chance.uniform(0, 1)} if kills < KILLS else {}
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
