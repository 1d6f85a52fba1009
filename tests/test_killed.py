"""A run killed at any moment ends, started again, in the rows that it would have had. `make kills` does it 20 times."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
KILLS = int(os.environ.get("PRUNELAB_KILLS", "3"))
TIMES = ["seconds", "latency_ms"]
SCRIPT = """
import sys, torch
from functools import partial
from small import few
from prunelab import experiment, load_data, load_recipe, replay
print("started", flush=True)
torch.set_num_threads(1)
experiment.train = partial(experiment.train, save_every=1)
changes = ["baseline.epochs=3", "retrain.epochs=2", "prune.schedule=rounds", "prune.rounds=2", "baseline.patience=9"]
replay(load_recipe("digits-quick", changes), data=few(load_data("digits", device="cpu")), device="cpu", out=sys.argv[1])
print("done", flush=True)
"""


def run(out: Path, kill_after: float | None = None) -> list[str]:
    """What a run printed until it was done, or killed so many seconds after its imports."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.readline().strip()
    if kill_after is not None:
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL)
    return [first, *process.communicate()[0].splitlines()]


def read(out: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(out / "digits-quick-0" / name).drop(columns=TIMES, errors="ignore")


def test_killed_at_any_moment(tmp_path):
    began = time.monotonic()
    assert run(tmp_path / "whole")[-1] == "done"
    longest = (time.monotonic() - began) / 3
    moments = random.Random(KILLS)
    kills = 0
    for _ in range(20 * KILLS):
        lines = run(tmp_path / "killed", moments.uniform(0, longest) if kills < KILLS else None)
        if lines[-1] == "done" and kills < KILLS:
            for path in (tmp_path / "killed").glob("digits-quick-0/*"):
                path.unlink()  # done before all the kills: once more from the beginning
            continue
        if lines[-1] == "done":
            break
        kills += 1
        print(f"kill {kills}: {lines[-1].strip()}")
    assert (kills, lines[-1]) == (KILLS, "done")
    for name in ("rows.csv", "history.csv"):
        pd.testing.assert_frame_equal(read(tmp_path / "killed", name), read(tmp_path / "whole", name), check_exact=True)
    hashes = read(tmp_path / "killed", "rows.csv")["weights"]
    assert hashes.nunique() == len(hashes) == 4
    names = [sorted(os.listdir(tmp_path / out / "digits-quick-0")) for out in ("killed", "whole")]
    assert [name for name in names[0] if not name.startswith(".")] == names[1]
