"""Every teaching notebook runs by papermill, cut short, on images from a folder.

Nobody is at the knobs.
"""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
import torch
import yaml
from small import make_folder

from prunelab import load_model

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SHORT: dict[str, dict] = {
    "00_start_here": {"epochs": 1, "retrain_epochs": 1, "batch_size": 4},
    "01_filter_norms": {},
    "02_removing_a_filter": {},
    "03_sensitivity": {"ratios": [0.4], "alone": 0.4, "budgets": [0.9], "model": "resnet32"},
    "04_across_layers": {"ratio": 0.3, "ratios": [0.5]},
    "05_retraining": {
        "retrain": {"epochs": 2, "rates": [0.01], "channels_last": True},
        "scratch": {"epochs": 1, "lr": 0.05},
        "alone": {"layers": ["conv_2"], "ratios": [0.5], "epochs": 1},
        "batch_size": 4,
        "model": "resnet32",
    },
    "06_which_criterion": {
        "ratios": [0.4, 0.6],
        "criteria": ["l1", "var_l2"],
        "images": 0,
        "per": "stage",
        "draws": 1,
        "model": "resnet32",
    },
    "08_into_use": {"retrain_epochs": 1},
}
ALONE = ("04_across_layers",)  # it looks at no images
WHOLE = {
    "07_what_time_it_saves",
    "lab_views",
    "paper_criteria",
    "paper_figures",
    "report",
    "sweep",
    "sweep_views",
}  # which `make nbval` runs as they are


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """{name: (what papermill said, the notebook that came out)}; two at a time."""
    folder = tmp_path_factory.mktemp("papermill")
    images = make_folder(folder / "images")
    for model in ("resnet20", "resnet32"):
        fresh = load_model(model, num_classes=2).state_dict()
        torch.save(fresh, folder / f"{model}.pth")

    def run(name: str) -> tuple[subprocess.CompletedProcess, Path]:
        given = {**SHORT[name], "interactive": False}
        if name not in ALONE:
            given["data"] = str(images)
        if name not in ALONE and not name.startswith("00"):
            given["weights"] = str(folder / f"{given.get('model', 'resnet20')}.pth")
        source, made = NOTEBOOKS / f"{name}.ipynb", folder / f"{name}.ipynb"
        command = [sys.executable, "-m", "papermill", str(source), str(made)]
        command += ["-y", yaml.safe_dump(given), "--no-progress-bar", "-k", "python3"]
        here = {**os.environ, "PRUNELAB_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=here, cwd=folder)
        return done, made

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(SHORT, pool.map(run, SHORT), strict=True))


@pytest.mark.parametrize("name", SHORT)
def test_it_runs_headless(executed, name):
    done, path = executed[name]
    assert done.returncode == 0, done.stderr[-2000:]
    cells = nbformat.read(path, as_version=4).cells
    assert all(cell.execution_count for cell in cells if cell.cell_type == "code")
    shown = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    assert not any("application/vnd.jupyter.widget-view+json" in data for data in shown)


def test_every_teaching_notebook_is_here():
    assert {path.stem for path in NOTEBOOKS.rglob("*.ipynb")} - {"lab", "replay"} == {
        *SHORT,
        *WHOLE,
    }


# what is said of the network and images that a lesson has by default; recipes are stored ones
STALE = re.compile(r"resnet20(?!-pruned)|ResNet-20|[Dd]igits?\b|8 ?× ?8|\b(143|359|1,295)\b")


@pytest.mark.parametrize("name", ["03_sensitivity", "05_retraining", "06_which_criterion"])
def test_with_other_parameters_no_sentence_is_stale(executed, name):
    """Another network, other images, other ratios; what is stored of photographs stays true."""
    _, path = executed[name]
    told = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            text = output.get("text") or "".join(
                output.get("data", {}).get(kind, "") for kind in ("text/markdown", "text/plain")
            )
            told += [line for line in text.splitlines() if "CIFAR-10 (JPEG)" not in line]
    assert any(re.search(r"\d+ of \d+", line) for line in told)
    assert not [line for line in told if STALE.search(line)]


def test_with_its_own_parameters_such_sentences_are_found():
    """The check above can fail: the stored notebooks hold what it looks for."""
    for name in ("03_sensitivity", "05_retraining", "06_which_criterion"):
        assert STALE.search((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
