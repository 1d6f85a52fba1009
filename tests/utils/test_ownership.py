"""One owner for a folder at a time."""

import json
import os
import subprocess
import sys
import time

import pytest

from prunelab.utils import ownership
from prunelab.utils.ownership import NAME, Held, own, owning

HOLD = """
import sys, time
from pathlib import Path
from prunelab.utils.ownership import owning
with owning(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(folder, seconds):
    """Another process that owns a folder for a while, not started by ours (or so it seems)."""
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "mine\n"
    return process


def test_the_second_is_told_who_the_first_is(tmp_path):
    process = hold(tmp_path, 60)
    try:
        with pytest.raises(Held, match=f"in use by process {process.pid} on .*, since 20"):
            own(tmp_path)
    finally:
        process.kill()
        process.wait()
    with owning(tmp_path):  # what a killed process leaves is taken over
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_the_second_waits_if_asked_to(tmp_path, capsys):
    process = hold(tmp_path, 2)
    with owning(tmp_path, wait=True):
        assert process.poll() is not None or process.wait(5) == 0
    assert f"waiting for process {process.pid}" in capsys.readouterr().out


def test_a_process_owns_it_several_times_over(tmp_path):
    first, second = own(tmp_path), own(tmp_path)
    first()
    first()  # no more than once
    assert (tmp_path / NAME).exists()
    second()
    assert not (tmp_path / NAME).exists()


def test_what_a_process_starts_works_for_it(tmp_path):
    with owning(tmp_path):
        process = hold(tmp_path, 0)
        assert process.wait(20) == 0
        assert (tmp_path / NAME).exists()


@pytest.mark.parametrize(("age", "taken"), [(10, False), (100, True)])
def test_an_owner_on_another_machine_shows_signs_of_life(tmp_path, monkeypatch, age, taken):
    monkeypatch.setattr(ownership, "TOUCH", 0.05)
    about = {"host": "elsewhere", "pid": 1, "began": 0.0, "since": "2026-01-01 00:00:00"}
    path = tmp_path / NAME
    path.write_text(json.dumps(about))
    os.utime(path, (time.time() - age,) * 2)
    if taken:
        with owning(tmp_path):
            pass
    else:
        with pytest.raises(Held, match="process 1 on elsewhere, since 2026"):
            own(tmp_path)


def test_a_number_that_another_process_has_now(tmp_path):
    owner = ownership.Owner.me()
    about = {**vars(owner), "began": owner.began - 1000}
    (tmp_path / NAME).write_text(json.dumps(about))
    with owning(tmp_path):
        pass


def test_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(ownership, "TOUCH", 0.05)
    with owning(tmp_path):
        path = tmp_path / NAME
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 5
        while not path.stat().st_mtime and time.monotonic() < deadline:
            time.sleep(0.05)
        assert path.stat().st_mtime > 0


def test_of_many_at_once_one_owns(tmp_path):
    script = HOLD.replace("print", "import os; print(os.getpid()); print")
    command = [sys.executable, "-c", script, str(tmp_path), "3"]
    many = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    ends = [process.communicate() for process in many]
    assert sum("mine" in out for out, _ in ends) == 1
    assert sum("is in use by process" in said for _, said in ends) == 4


def test_what_is_owned_to_the_end_of_a_process_is_given_up(tmp_path):
    script = """
import sys, weakref
class Run: pass
run = Run()
weakref.finalize(run, int)  # of whoever was first: then ours come last
from pathlib import Path
from prunelab.utils.ownership import own
weakref.finalize(run, own(Path(sys.argv[1])))
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.iterdir())
