"""Several processes at once, and clocks that jump."""

import os
import subprocess
import sys
import time

import pytest

from prunelab import read_rows
from prunelab.utils import ownership

GATHER = """
import sys, pandas as pd
from prunelab.experiments import gather_rows
for i in range(int(sys.argv[3])):
    row = {"recipe": "r", "kind": sys.argv[2], "dataset": "d", "seed": i, "device": "cpu"}
    gather_rows(pd.DataFrame([row]), sys.argv[1])
"""


def test_four_processes_gather_into_one_file(tmp_path, times, tally):
    path, each = tmp_path / "results" / "rows.csv", 5 * times
    fault = "Four processes that gather rows into one file"
    tally(fault, False)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    commands = [[sys.executable, "-c", GATHER, str(path), name, str(each)] for name in "abcd"]
    running = [subprocess.Popen(command, env=environment) for command in commands]
    assert [process.wait() for process in running] == [0, 0, 0, 0]
    rows = read_rows(path)
    assert len(rows) == 4 * each
    assert set(rows["evidence"]) == {"measured"}
    assert [name.name for name in path.parent.iterdir()] == ["rows.csv"]
    tally(fault, True)


HOLD = """
import socket, sys, time
from pathlib import Path
socket.gethostname = lambda: "another"  # and so it is known by its signs of life alone
from prunelab.utils import ownership
ownership.TOUCH = 0.1
ownership.own(Path(sys.argv[1]))
print("mine", flush=True)
time.sleep(60)
"""


def hold(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "mine\n"
    return process


def test_a_clock_that_jumps_ahead_takes_no_folder_away(tmp_path, monkeypatch, tally):
    fault = "A clock that jumps while a folder has an owner"
    monkeypatch.setattr(ownership, "TOUCH", 0.5)
    process = hold(tmp_path)
    ahead = time.time() + 86_400
    monkeypatch.setattr(ownership, "_now", lambda folder: ahead)
    for _ in range(3):
        tally(fault, False)
        with pytest.raises(ownership.Held, match="on another"):
            ownership.own(tmp_path)
        tally(fault, True)
    process.kill()
    process.wait()
    ownership.own(tmp_path)()  # now it is dead


def test_a_clock_that_jumps_back(tmp_path, monkeypatch, tally):
    fault = "A clock that jumps back after an owner was killed"
    monkeypatch.setattr(ownership, "TOUCH", 0.2)
    process = hold(tmp_path)
    process.kill()
    process.wait()
    later = time.time() + 86_400
    os.utime(tmp_path / ownership.NAME, (later, later))  # its last sign of life, by the old clock
    tally(fault, False)
    monkeypatch.setattr(ownership, "DEAD", 1.0)
    ownership.own(tmp_path)()
    tally(fault, True)
