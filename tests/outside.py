"""An installed wheel, used from an empty folder far from the clone. `make matrix` runs it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pytest

import prunelab
from prunelab import charts, find_weights, load_model, load_recipe, recipe_names
from prunelab.utils.paths import find_notebook

PRUNELAB = Path(sys.executable).with_name("prunelab")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    for name in ("PRUNELAB_RUNS", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")


def run(*arguments: str) -> str:
    done = subprocess.run([PRUNELAB, *arguments], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout


def test_it_is_the_wheel():
    assert Path(prunelab.__file__).is_relative_to(sys.prefix)


def test_every_command_says_what_it_does():
    commands = re.findall(r"^│ ([a-z]+) ", run("--help"), re.MULTILINE)
    assert {"lab", "prune", "replay", "sweep", "report", "export"} <= set(commands)
    for command in commands:
        run(command, "--help")


def test_what_it_carries_is_found():
    assert "digits-quick" in recipe_names()
    for name in recipe_names():
        load_recipe(name)
    for name in ("lab", "replay", "sweep"):
        assert find_notebook(name).is_file()
    load_model("resnet20", weights=find_weights("resnet20-digits"))


def test_a_replay_a_report_and_a_chart():
    """The main job, two minutes or so."""
    run("replay", "digits-quick")
    folder = Path("data", "runs", "digits-quick-0")
    rows = pd.read_csv(folder / "rows.csv").set_index("kind")
    assert rows.loc["retrained", "flops"] == 28_017_280
    assert rows.loc["retrained", "test_accuracy"] > 0.95
    assert "digits-quick" in run("report")
    frame = pd.read_csv(folder / "sensitivity.csv")
    assert json.loads(charts.sensitivity(frame).to_json())


def test_the_lab_opens_its_notebook():
    lab = subprocess.Popen([PRUNELAB, "lab", "--no-browser", "--port", "0"])
    runtime, deadline, about = Path(os.environ["JUPYTER_RUNTIME_DIR"]), time.monotonic() + 90, []
    while not about and lab.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        about = list(runtime.glob("jpserver-*.json"))
    server = json.loads(about[0].read_text())
    address = f"{server['url']}doc/tree/lab.ipynb?token={server['token']}"
    with urllib.request.urlopen(address, timeout=60) as page:
        assert "JupyterLab" in page.read().decode()
    lab.send_signal(signal.SIGTERM)
    assert lab.wait(30) == 143
