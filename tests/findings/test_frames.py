"""Frames are kept with their evidence, each in place of its like, and say what they stand on."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from prunelab import findings, load_data, load_model
from prunelab.findings import frames
from prunelab.utils.tensors import hash_tensors

ABOUT = {"model": "resnet20", "data": "digits", "split": "validation", "weights": "ab12", "seed": 0}
ABOUT |= {"torch": "2.15.0", "device": "cpu"}


def make_frame(*correct: int) -> pd.DataFrame:
    layers = [f"conv_{i}" for i in range(len(correct))]
    return pd.DataFrame({"layer": layers, "correct": correct, "total": 10})


def test_a_frame_takes_the_place_of_its_like(tmp_path):
    findings.keep_frame("orders", make_frame(1, 2), ABOUT, tmp_path)
    findings.keep_frame("orders", make_frame(3), ABOUT | {"model": "vgg16"}, tmp_path)
    again = ABOUT | {"torch": "2.16.0", "device": "cuda"}  # it is measured anew: no other frame
    path = findings.keep_frame("orders", make_frame(7, 8), again, tmp_path)
    assert path == tmp_path / "orders.csv"
    found = findings.read_frame("orders", tmp_path)
    assert found["correct"].tolist() == [3, 7, 8]
    assert found["network"].tolist() == ["vgg16, digits", *["resnet20, digits"] * 2]
    assert set(found["torch"]) == {"2.15.0", "2.16.0"}


def test_numbers_of_the_evidence_are_numbers(tmp_path):
    """Beside a frame without it, a column of whole numbers comes back as 0.0."""
    findings.keep_frame("orders", make_frame(1), ABOUT, tmp_path)
    for right in (2, 3):
        findings.keep_frame("orders", make_frame(right), ABOUT | {"epochs": 0}, tmp_path)
    assert findings.read_frame("orders", tmp_path)["correct"].tolist() == [1, 3]


def test_what_is_stored_is_of_our_networks():
    """Whoever looks at a figure finds the network that it was measured on."""
    ours = set()
    for path in (Path(__file__).parents[2] / "data" / "checkpoints").rglob("*-cifar10-jpeg.*"):
        model = path.name.removesuffix("-cifar10-jpeg.safetensors")
        if "pruned" not in model and "chosen" not in model:
            ours.add(hash_tensors(load_model(model, weights=path).state_dict()))
    for figure in frames.FIGURES:
        stored = findings.read_frame(figure)
        if len(stored):
            assert set(stored["weights"]) <= ours, figure


@pytest.mark.parametrize(
    "other", [{"weights": "cd"}, {"seed": 1}, {"data": "x"}, {"split": "test"}]
)
def test_frames_of_other_evidence_stand_beside(tmp_path, other):
    findings.keep_frame("orders", make_frame(1), ABOUT, tmp_path)
    findings.keep_frame("orders", make_frame(2), ABOUT | other, tmp_path)
    assert len(findings.read_frame("orders", tmp_path)) == 2


def test_evidence_that_a_stored_frame_lacks_makes_it_another(tmp_path):
    findings.keep_frame("orders", make_frame(1), ABOUT, tmp_path)
    findings.keep_frame("orders", make_frame(2), ABOUT | {"criterion": "l1"}, tmp_path)
    assert findings.read_frame("orders", tmp_path)["correct"].tolist() == [1, 2]


def test_rows_are_picked(tmp_path):
    for model in ("resnet20", "vgg16", "resnet56"):
        findings.keep_frame("norms", make_frame(1), ABOUT | {"model": model}, tmp_path)
    found = findings.read_frame("norms", tmp_path, model=["resnet20", "resnet56"], seed=0)
    assert found["model"].tolist() == ["resnet20", "resnet56"]
    with pytest.raises(
        ValueError, match=r"unknown column of norms.csv 'modle'; did you mean 'model'"
    ):
        findings.read_frame("norms", tmp_path, modle="resnet20")


def test_nothing_stored_is_an_empty_frame(tmp_path):
    found = findings.read_frame("norms", tmp_path, model="resnet20")
    assert found.empty
    assert {"network", "model"} <= set(found)
    assert findings.describe_evidence(found) == "Nothing is stored of this figure yet."


def test_an_unknown_figure_is_named(tmp_path):
    with pytest.raises(ValueError, match="unknown figure 'order'; did you mean 'orders'"):
        findings.keep_frame("order", make_frame(1), ABOUT, tmp_path)
    with pytest.raises(ValueError, match="unknown figure"):
        findings.read_frame("fig_2b", tmp_path)


def test_the_evidence_is_said(tmp_path):
    findings.keep_frame("orders", make_frame(1), ABOUT, tmp_path)
    said = findings.describe_evidence(findings.read_frame("orders", tmp_path))
    assert said == "Stored: resnet20 on digits, 10 validation images (weights ab12)."


def test_evidence_is_of_the_network_that_was_measured():
    data = load_data("digits")
    one, other = load_model("resnet20"), load_model("resnet20")
    noted = [
        findings.note_evidence(network, data, model="resnet20", seed=3) for network in (one, other)
    ]
    assert list(noted[0]) == list(ABOUT)
    assert noted[0]["weights"] != noted[1]["weights"]
    assert noted[0]["data"] == data.name
    assert noted[0]["seed"] == 3


def test_what_is_stored_with_the_project_has_its_evidence():
    for figure in frames.FIGURES:
        found = findings.read_frame(figure)
        if len(found):
            assert {*ABOUT} <= set(found), figure
            assert found[["model", "data", "weights"]].notna().all(axis=None), figure
            assert "digits" not in set(found["data"]), figure  # those are measured live


def test_networks_one_by_one():
    rows = make_frame(1, 2).assign(network="m, d")
    two = pd.concat([rows.assign(weights="1" * 32), rows.assign(weights="2" * 32)])
    parts = findings.by_network(pd.concat([two, rows.assign(network="n, d", weights="3" * 32)]))
    assert list(parts) == ["m, d (weights 11111111)", "m, d (weights 22222222)", "n, d"]
    assert all(len(own) == 2 for own in parts.values())
    assert list(findings.by_network(rows)) == ["m, d"]
    assert list(findings.by_network(make_frame(1))) == [""]
    assert findings.by_network(pd.DataFrame(columns=["network"])) == {}


def test_digits_are_explained_and_nothing_else():
    digits = load_data("digits")
    assert "with 143 of them to validate on" in findings.explain_digits(digits)
    assert findings.explain_digits(replace(digits, name="photographs")) == ""
