"""Work that is killed or stopped at any moment ends, started again, in what it would have given."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pandas as pd
import pytest

from prunelab import read_log, read_table

TESTS = Path(__file__).parents[1]
TIMES = ["seconds", "latency_ms"]
BEGIN = """
import json, signal, sys, torch
from functools import partial
from pathlib import Path
from small import few, tiny_network
from prunelab import *
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
torch.set_num_threads(1)
torch.manual_seed(0)
out, data = Path(sys.argv[1]), few(load_data("digits", device="cpu"))
say = lambda done, total: print(f"  {done} of {total}", flush=True)
print("started", flush=True)
"""
REPLAY = """
from prunelab.experiments import rows, trainings
rows.TURNS = 1
trainings.train = partial(trainings.train, save_every=3, on_batch=say)
changes = ["model.name=small:tiny_network", "prune.ratios={'*': 0.3}", "sensitivity=[conv_1]"]
changes += ["baseline.epochs=2", "retrain.epochs=1", "baseline.patience=9"]
changes += ["prune.schedule=rounds", "prune.rounds=2"]
replay(load_recipe("digits-quick", changes), data=data, device="cpu", out=out)
print("done", flush=True)
"""
SENSITIVITY = """
found = measure_sensitivity(
    tiny_network(), data, ratios=[0.25, 0.5, 0.75], batch_size=4, store=out / "counts.jsonl",
    on_progress=say,
)
write_table(out / "sensitivity.csv", found)
print("done", flush=True)
"""
LAB = """
import os
os.environ["PRUNELAB_RUNS"] = str(out / "runs")
from prunelab.lab import Lab
from prunelab.lab.state import retraining
retraining.train = partial(retraining.train, save_every=2)
lab = Lab(tiny_network(), data)
lab.ratios = {"0": 0.5}
lab.actions.epochs.value = 3
job = lab.actions.retrain.job
job.observe(lambda change: say(*change["new"]), "at")
job.start()
while job.running:
    job.join(0.1)
found = {"weights": hash_tensors(lab.state.trained.state_dict()), "message": job.message}
(out / "found.json").write_text(json.dumps(found))
print("done", flush=True)
"""


def read(path: Path) -> pd.DataFrame:
    return read_table(path).drop(columns=TIMES, errors="ignore")


def check_replay(killed: Path, whole: Path) -> None:
    one, other = (out / "digits-quick-0" for out in (killed, whole))
    for name in ("rows.csv", "history.csv"):
        pd.testing.assert_frame_equal(read(one / name), read(other / name), check_exact=True)
    logs = [read_log(folder).drop(columns="seconds") for folder in (one, other)]
    pd.testing.assert_frame_equal(*logs, check_exact=True)
    hashes = read(one / "rows.csv")["weights"]
    assert hashes.nunique() == len(hashes) == 5
    names = [sorted(os.listdir(folder)) for folder in (one, other)]
    assert [name for name in names[0] if not name.startswith(".")] == names[1]


def check_sensitivity(killed: Path, whole: Path) -> None:
    one, other = (read(out / "sensitivity.csv") for out in (killed, whole))
    # the last bit of a loss depends on which networks see a batch together
    pd.testing.assert_series_equal(one.pop("loss"), other.pop("loss"), rtol=1e-6)
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def check_lab(killed: Path, whole: Path) -> None:
    one, other = (json.loads((out / "found.json").read_text()) for out in (killed, whole))
    assert one == other


WORK = {
    "replay": (REPLAY, check_replay, 20),
    "sensitivity": (SENSITIVITY, check_sensitivity, 100),
    "the lab's retraining": (LAB, check_lab, 10),
}


def run(script: str, out: Path, number: int = 0, lines: int = 0, seconds: float = 0) -> list[str]:
    """What work printed until it was done, or was sent a signal so many seconds after a line."""
    out.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BEGIN + script, str(out)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    said = list(islice(process.stdout, lines or None))
    if lines:
        time.sleep(seconds)
        process.send_signal(number)
    rest, errors = process.communicate()
    said += rest.splitlines(keepends=True)
    stopped = any(word in errors for word in ("KeyboardInterrupt", "Terminated"))
    assert stopped or not errors or "Error" not in errors, errors
    return said or [""]


SIGNALS = ["SIGKILL", "SIGTERM", "SIGINT"]
QUICK = {"replay": SIGNALS[:1], "sensitivity": SIGNALS[1:2], "the lab's retraining": SIGNALS[2:]}


@pytest.mark.parametrize("work", WORK)
def test_stopped_at_any_moment(work, tmp_path, times, tally, chance):
    script, check, lines = WORK[work]
    whole = tmp_path / "whole"
    assert run(script, whole)[-1] == "done\n"
    signals = QUICK[work] if times == 1 else (SIGNALS * times)[:times]
    killed = tmp_path / "killed"
    for name in signals:
        fault, sent = f"{name} at a random moment of {work}", getattr(signal, name)
        for _ in range(20):  # until it is not done before
            moment = chance.randint(1, lines), chance.uniform(0, 1 / lines)
            if run(script, killed, sent, *moment)[-1] != "done\n":
                break
            shutil.rmtree(killed)
        else:
            raise AssertionError("it was done before every signal")
        tally(fault, False)
        if times > 1 and chance.random() < 0.5:  # else the next signal comes to what it left
            assert run(script, killed)[-1] == "done\n"
            check(killed, whole)
            shutil.rmtree(killed)
        tally(fault, True)
    if killed.exists():
        assert run(script, killed)[-1] == "done\n"
        check(killed, whole)
