"""Recipes that begin with weights: fine-tuning, a budget in place of ratios, what is compared."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from typer.testing import CliRunner

from prunelab import (
    Experiment,
    evaluate,
    find_weights,
    load_model,
    load_recipe,
    read_table,
    save_weights,
    total_cost,
)
from prunelab.cli import app

OURS = find_weights("resnet20-digits")
SHORT = ["retrain.epochs=1", "retrain.lr=0.01", "sensitivity=[]", "scratch=null"]
FROM_OURS = [f"model.weights={OURS}", *SHORT]


def run(data, out, *changes):
    return Experiment("digits-quick", changes=changes, data=data, device="cpu", out=out)


def test_the_baseline_is_trained_on_from_weights(few_digits, tmp_path):
    tuned = run(few_digits, tmp_path, *FROM_OURS, "fine_tune.epochs=1", "continued=true")
    assert tuned.recipe.fine_tune.lr == 0.01  # not a fresh network's rate
    before = load_model("resnet20", weights=OURS)
    assert not torch.equal(tuned.baseline().conv1.weight, before.conv1.weight)
    tuned.retrained()
    tuned.continued()
    rows = tuned.report().set_index("kind")
    assert list(rows.index) == ["baseline", "pruned", "retrained", "continued"]
    assert list(rows["epochs"]) == [1, 0, 1, 1]
    assert set(rows["start"]) == {OURS.name}
    assert set(rows["start_sha256"]) == {hashlib.sha256(OURS.read_bytes()).hexdigest()}
    assert rows.loc["continued", "flops"] == rows.loc["baseline", "flops"]
    assert rows.loc["continued", "flops_removed"] == 0
    weights = rows["weights"]
    assert weights["continued"] not in (weights["baseline"], weights["retrained"])
    # the run's folder is weights for the next run
    again = load_model("resnet20", weights=tuned.folder)
    assert torch.equal(again.conv1.weight, tuned.baseline().conv1.weight)


def test_a_run_goes_on_when_another_row_is_asked_for(few_digits, tmp_path):
    run(few_digits, tmp_path, *FROM_OURS).retrained()
    more = run(few_digits, tmp_path, *FROM_OURS, "continued=true")
    assert more.continued() is not None


def test_the_whole_network_is_trained_on_through_all_rounds(few_digits, tmp_path):
    rounds = ["prune.schedule=rounds", "prune.rounds=2", "continued=true"]
    found = run(few_digits, tmp_path, *FROM_OURS, *rounds)
    found.continued()
    history = found.history()
    steps = history.groupby("kind")["step"].apply(list)
    assert steps["retrained"] == steps["continued"] == [1, 2]


def test_a_budget_chooses_the_ratios(few_digits, tmp_path):
    changes = [*FROM_OURS, "prune={max_flops: 0.8, skip: [conv_2]}"]
    found = run(few_digits, tmp_path, *changes)
    plan = found.plan()
    cost = total_cost(found.graph, plan)["flops"]
    assert 0.7 * cost["before"] < cost["after"] <= 0.8 * cost["before"]
    assert len(plan.keep["layer1.0.conv1"]) == 16  # skipped
    assert set(plan.settings["ratios"]) <= set(found.sensitivity()["layer"])
    assert "conv_2" not in set(found.sensitivity()["paper_name"])


def test_accuracy_by_class(few_digits, tmp_path):
    found = run(few_digits, tmp_path, *FROM_OURS)
    found.retrained()
    found.report()
    counted = found.classes()
    assert set(counted["network"]) == {"baseline", "pruned", "retrained"}
    right = counted.groupby("network")["correct"].sum()
    assert right["retrained"] == evaluate(found.retrained(), few_digits.test).correct
    assert found.classes().equals(counted)  # from the file
    assert counted.equals(read_table(found.folder / "classes.csv").drop(columns="evidence"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["fine_tune.epochs=1"], "fine_tune trains on from weights: give model.weights"),
        (["model.new_head=true"], "leaves out the last layer of weights"),
        (
            ["model.new_head=true", f"model.weights={OURS}"],
            "a new last layer has learned nothing: say how it learns, fine_tune.epochs=10",
        ),
        (["prune.max_flops=0.7"], "one of the two"),
        (["prune={}"], "give ratios"),
        (["prune={max_flops: 0}"], "max_flops must be a number above 0"),
        (["fine_tune.epoch=1", f"model.weights={OURS}"], "did you mean 'epochs'"),
    ],
)
def test_settings_that_do_not_go_together(changes, words):
    with pytest.raises(ValueError, match=words):
        load_recipe("digits-quick", changes)


@pytest.fixture
def pictures(tmp_path):
    """300 pictures in 5 classes, of any size and aspect: stripes of 5 directions."""
    rng = np.random.default_rng(0)
    for kind in range(5):
        folder = tmp_path / "pictures" / f"direction {kind}"
        folder.mkdir(parents=True)
        for i in range(60):
            high, wide = rng.integers(70, 140, 2)
            y, x = np.mgrid[:high, :wide]
            along = x * np.cos(kind * np.pi / 5) + y * np.sin(kind * np.pi / 5)
            wave = 110 + 90 * np.sin(along / rng.uniform(1.5, 3))
            pixels = wave[..., None] * rng.uniform(0.4, 1, 3) + rng.normal(0, 10, (high, wide, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.jpg")
    return tmp_path / "pictures"


def test_from_somebodys_resnet18_to_onnx(pictures, tmp_path):
    """As a new user would: one command, from weights of 1000 classes to a file that is checked."""
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    command = [sys.executable, "-m", "prunelab", "prune", "--model", "resnet18", "--weights"]
    command += ["resnet18.pth", "--new-head", "--fine-tune", "12", "--data", "pictures"]
    command += ["--image-size", "32", "--retrain", "1", "--device", "cpu", "--out", "runs"]
    command += ["--set", "retrain.batch_size=16"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "resnet18-pictures-0.7-0"
    rows = pd.read_csv(folder / "rows.csv").set_index("kind")
    assert rows.loc["retrained", "flops_removed"] >= 0.3
    assert rows.loc["retrained", "test_accuracy"] > 0.5  # of five classes
    assert "answers" in done.stdout
    recipe = load_recipe(folder / "resnet18-pictures-0.7.yaml")
    assert (recipe.prune.max_flops, recipe.retrain.batch_size) == (0.7, 16)
    assert Path(recipe.model.weights) == tmp_path / "resnet18.pth"
    check_without_torch(folder / "pruned.onnx", pictures, rows.loc["retrained", "test_accuracy"])
    notebook = (folder / "replay.ipynb").read_bytes()
    command[command.index("--retrain") + 1] = "2"
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "is of a run with other settings; name this one (--name)" in again.stderr
    recipe = folder / "resnet18-pictures-0.7.yaml"
    refused = [sys.executable, "-m", "prunelab", "replay", str(recipe), "--out", "runs"]
    refused += ["--device", "cpu", "--set", "retrain.epochs=2"]
    again = subprocess.run(refused, capture_output=True, text=True, cwd=tmp_path)
    assert "holds another run" in again.stderr
    assert (folder / "replay.ipynb").read_bytes() == notebook


def test_a_folder_in_which_nothing_was_done_is_taken_over(few_digits, tmp_path):
    run(few_digits, tmp_path, *FROM_OURS)
    other = run(few_digits, tmp_path, *FROM_OURS, "retrain.epochs=2")
    other.baseline()
    other.report()
    with pytest.raises(ValueError, match="holds another run"):
        run(few_digits, tmp_path, *FROM_OURS)


def check_without_torch(path, pictures, accuracy):
    """An exported file by itself, on all pictures, with what its metadata says of them."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    about = json.loads(session.get_modelmeta().custom_metadata_map["prunelab"])
    mean, std = (np.array(x, "float32") for x in about["normalization"])
    assert about["classes"] == [f"direction {kind}" for kind in range(5)]
    assert about["input_shape"] == ["batch", 3, 32, 32]
    right = []
    for kind, name in enumerate(about["classes"]):
        for file in sorted((pictures / name).iterdir()):
            image = Image.open(file)
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side)).resize((32, 32))
            pixels = ((np.asarray(image, "float32") / 255 - mean) / std).transpose(2, 0, 1)
            (logits,) = session.run(None, {"images": pixels[None]})
            right.append(logits.argmax() == kind)
    assert abs(np.mean(right) - accuracy) < 0.15


def test_a_run_that_begins_with_a_pruned_network(few_digits, tmp_path):
    first = run(few_digits, tmp_path, *FROM_OURS)
    first.retrained()
    pruned = first.folder / "pruned.safetensors"
    changes = [f"model.weights={pruned}", "retrain.epochs=1", "sensitivity=[]", "scratch=E"]
    again = run(few_digits, tmp_path / "again", *changes, "baseline.epochs=1")
    again.retrained()
    again.scratch()
    rows = again.report().set_index("kind")
    before = first.report().set_index("kind")
    assert rows.loc["baseline", "flops"] == before.loc["retrained", "flops"]
    assert rows.loc["retrained", "flops"] < rows.loc["baseline", "flops"]
    assert rows.loc["scratch-E", "flops"] == rows.loc["retrained", "flops"]
    small = again.retrained().layer1[0].conv1
    assert small.out_channels == 7  # of 16, 11 were left, and 30 % of these went
    assert again.scratch().layer1[0].conv1.out_channels == small.out_channels


@pytest.mark.parametrize("wrong", [("--model", "resnet99"), ("--max-flops", "70")])
def test_a_command_that_is_refused_leaves_nothing(tmp_path, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    save_weights("w.safetensors", load_model("resnet20"))
    command = ["prune", "--model", "resnet20", "--weights", "w.safetensors", "--data", "digits"]
    said = CliRunner().invoke(app, [*command, "--out", "runs", *wrong])
    assert said.exit_code != 0
    assert not list(Path("runs").glob("*"))
