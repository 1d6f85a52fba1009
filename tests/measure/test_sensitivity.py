import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from small import QUICK, make_folder, shake

from prunelab import (
    evaluate,
    find_weights,
    load_data,
    load_model,
    make_plan,
    measure_retrained,
    measure_sensitivity,
    prune,
    score_filters,
    trace,
    train,
)
from prunelab.data import FileSplit
from prunelab.measure.store import Store
from prunelab.utils.intervals import wilson

TRAIN_EPOCH = "prunelab.training.loop._train_epoch"
COLUMNS = ["layer", "ratio", "removed", "filters", "correct", "total", "accuracy", "loss"]


def note_in(steps):
    """For `on_progress`: a list gets how many there are in all, once for each that is done."""
    return lambda done, total: steps.append(total)


@pytest.fixture(scope="module")
def model():
    return load_model("resnet20", weights=find_weights("resnet20-digits"))


@pytest.mark.parametrize("criterion", ["l1", "mean_mean"])
@pytest.mark.parametrize("order", ["smallest", "random"])
def test_equals_the_plain_loop(model, few_digits, order, criterion):
    digits = few_digits
    how = dict(criterion=criterion, order=order, seed=3)
    layers, ratios = ["conv_2", "stage3"], [0.3, 0.6]
    found = measure_sensitivity(model, digits, layers=layers, ratios=ratios, **how)
    assert list(found.columns)[:8] == COLUMNS
    graph = trace(model, next(digits.val.batches(1))[0])
    for row in found.to_dict("records"):
        plan = make_plan(graph, {row["layer"]: row["ratio"]}, data=digits, **how)
        expected = evaluate(prune(model, plan), digits.val)
        assert (row["correct"], row["total"]) == (expected.correct, expected.total)
        assert row["loss"] == pytest.approx(expected.loss, rel=1e-4)
        assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    found = found.set_index(["layer", "ratio"])
    assert found.loc[("stage3", 0.3), "filters"] == 3 * 64
    assert found.loc[("conv_2", 0.3), "removed"] == 5


def test_resnet34_on_a_folder_of_large_images(tmp_path):
    folder = make_folder(tmp_path / "imagenet", (96, 80), counts=(10, 3))
    data = load_data(folder, device="cpu", image_size=72, val_fraction=0.4)
    assert isinstance(data.val, FileSplit)
    torch.save(shake(load_model("resnet34", num_classes=2)).state_dict(), tmp_path / "r34.pth")
    model = load_model("resnet34", num_classes=2, weights=tmp_path / "r34.pth")
    # Fig. 7 (a), and (b)
    found = measure_sensitivity(model, data, layers=["conv_2", "shortcut_2"], ratios=[0.5])
    graph = trace(model, torch.zeros(1, 3, 72, 72))
    for row in found.to_dict("records"):
        expected = evaluate(prune(model, make_plan(graph, {row["layer"]: row["ratio"]})), data.val)
        assert (row["correct"], row["total"]) == (expected.correct, 8)
        assert row["loss"] == pytest.approx(expected.loss, rel=1e-4)


def test_equal_counts_are_measured_once_and_refused_layers_are_listed(model, digits):
    steps = []
    found = measure_sensitivity(model, digits, ratios=[0.02, 0.04], on_progress=note_in(steps))
    # one filter of 16 or 32, and 2 or 3 of 64; on the 143 images, in batches of 128
    assert len(steps) == steps[0] == 2 * (1 + 3 * 1 + 3 * 2 + 3 * 2)
    assert set(found["layer"]) == {f"layer{s}.{i}.conv1" for s in (1, 2, 3) for i in range(3)}
    assert set(found["stage"]) == {"stage1", "stage2", "stage3"}
    assert found[found["ratio"] == 0]["correct"].nunique() == 1
    refused = found.attrs["refused"]
    assert "layer1.0.conv2" not in set(found["layer"])
    assert all(refused.values())
    groups = trace(model, torch.zeros(1, 3, 32, 32)).groups
    assert set(refused) | set(found["layer"]) == {group.leader for group in groups}


def test_few_images_first_then_all(model, digits, tmp_path):
    steps, how = [], dict(layers=["conv_2"], ratios=[0.5])
    kept = dict(batch_size=48, store=tmp_path / "counts.jsonl", on_progress=note_in(steps))

    def measure(images=None):
        return measure_sensitivity(model, digits.val, images=images, **how, **kept)

    few = measure(images=48)
    assert set(few["total"]) == {48}
    assert len(steps) == 2
    every = measure()
    assert set(every["total"]) == {143}
    assert len(steps) == 2 + 4  # the first 48 images were known
    wide, narrow = (found["accuracy_high"] - found["accuracy_low"] for found in (few, every))
    assert (narrow < wide).all()
    assert measure().equals(every)
    assert len(steps) == 6
    fresh = measure_sensitivity(model, digits.val, **how)
    assert (fresh["correct"] == every["correct"]).all()


def test_a_store_knows_layers_by_any_of_their_names_and_not_other_weights(model, digits, tmp_path):
    path, steps = tmp_path / "counts.jsonl", []
    how = dict(ratios=[0.5], store=path, on_progress=note_in(steps))
    one = measure_sensitivity(model, digits, layers=["conv_2"], **how)
    two = measure_sensitivity(model, digits, layers=["layer1.0.conv1"], **how)
    assert len(steps) == 4
    assert (one["correct"] == two["correct"]).all()
    torch.manual_seed(0)
    measure_sensitivity(load_model("resnet20"), digits, layers=["conv_2"], **how)
    measure_sensitivity(model, digits, layers=["conv_2"], criterion="l2", **how)
    assert len(steps) == 12


def test_stopped_and_resumed(model, digits, tmp_path):
    path = tmp_path / "counts.jsonl"

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    how = dict(layers=["conv_2", "conv_4"], ratios=[0.2, 0.5, 0.9], store=path)
    sentence = r"stopped after 5 of 14 counts; .* the same call goes on from there"
    with pytest.raises(KeyboardInterrupt, match=sentence):
        measure_sensitivity(model, digits, on_progress=stop, **how)
    assert len(path.read_text().splitlines()) == 5
    steps = []
    resumed = measure_sensitivity(model, digits, on_progress=note_in(steps), **how)
    assert steps[0] == len(steps) == 9
    del how["store"]
    assert (measure_sensitivity(model, digits, **how)["correct"] == resumed["correct"]).all()


MEMORY = r"""
import re, sys, torch
from prunelab import load_data, load_model, measure_sensitivity
torch.manual_seed(0)
layers = ["conv_8"] if sys.argv[1] == "few" else ["conv_7", "conv_8", "conv_9"]
ratios = [0.5] if sys.argv[1] == "few" else [0.1, 0.2, 0.3, 0.4, 0.5]
digits = load_data("digits", device="cpu")
measure_sensitivity(load_model("vgg16"), digits, layers=layers, ratios=ratios, images=64)
print(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])  # of this process alone
"""


def most_memory(which):
    command = [sys.executable, "-c", MEMORY, which]
    # what is freed goes back at once, so that the peak is the same each time
    how = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **how}
    )
    return int(run.stdout)


def test_memory_does_not_grow_with_ratios_and_layers():
    few, many = most_memory("few"), most_memory("many")
    assert many < few + 60_000  # kB; 15 copies of conv_8 and its reader would be 280 MB
    assert many < 2_000_000


def test_progress_says_what_is_left(model, digits, tmp_path, capsys):
    how = dict(layers=["conv_2"], ratios=[0.5], store=tmp_path / "counts.jsonl")
    measure_sensitivity(model, digits, images=100, **how)
    measure_sensitivity(model, digits, images=143, batch_size=100, **how)
    measure_sensitivity(model, digits, images=143, batch_size=100, progress=True, **how)
    assert capsys.readouterr().out == ""  # all known: nothing to say
    lines = (tmp_path / "counts.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "counts.jsonl").write_text("".join(lines[:-1]))
    measure_sensitivity(model, digits, images=143, batch_size=100, progress=True, **how)
    assert "3 of 4 were measured before" in capsys.readouterr().out


def test_the_model_stays_as_it_was(digits):
    torch.manual_seed(0)
    model = shake(load_model("resnet20")).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure_sensitivity(model, digits, layers=["conv_2"], ratios=[0.5], images=20)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_wilsons_interval():
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)
    low, high = wilson(81, 263)  # Newcombe 1998, Table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_bad_input(model, digits):
    with pytest.raises(ValueError, match="unknown layer 'conv_100'"):
        measure_sensitivity(model, digits, layers=["conv_2", "conv_100"])
    with pytest.raises(ValueError, match="'conv_3' cannot be pruned"):
        measure_sensitivity(model, digits, layers=["conv_3"])
    with pytest.raises(ValueError, match="images must be a whole number from 1 to 143"):
        measure_sensitivity(model, digits, images=0)
    with pytest.raises(ValueError, match="takes a data set or a split, not list"):
        measure_sensitivity(model, [1, 2])
    with pytest.raises(ValueError, match="the data 10 classes"):
        measure_sensitivity(load_model("resnet20", num_classes=3), digits, layers=["conv_2"])


def test_plans_take_scores_of_ones_own(model):
    graph = trace(model, torch.zeros(1, 3, 32, 32))

    def keep(**how):
        return make_plan(graph, {"*": 0.4}, **how).keep

    assert keep(scores=score_filters(graph, "l2")) == keep(criterion="l2")
    backwards = {layer: -own for layer, own in score_filters(graph).items()}
    assert keep(scores=backwards) == keep(order="largest")
    sentence = r"one number for each of the 16 filters of layer1.0.conv1; got none"
    with pytest.raises(ValueError, match=sentence):
        make_plan(graph, {"conv_2": 0.4}, scores={})


def test_one_store_for_a_split_and_its_data_set(model, digits, tmp_path):
    how = dict(layers=["conv_2"], ratios=[0.5], store=tmp_path / "counts.jsonl")
    measure_sensitivity(model, digits, **how)
    measure_sensitivity(model, digits.val, **how)
    assert len((tmp_path / "counts.jsonl").read_text().splitlines()) == 2 * 2
    assert len(Store(tmp_path / "counts.jsonl", {}).found) == 4


def test_images_read_from_disk(model, tmp_path):
    folder = make_folder(tmp_path / "images", (90, 80), (12, 4))
    data = load_data(folder, device="cpu", image_size=72, val_fraction=0.5)
    assert isinstance(data.val, FileSplit)
    how = dict(layers=["conv_2"], ratios=[0.5], batch_size=5, store=tmp_path / "counts.jsonl")
    few = measure_sensitivity(model, data, images=5, **how)
    assert set(few["total"]) == {5}
    every = measure_sensitivity(model, data, **how)
    graph = trace(model, torch.zeros(1, 3, 72, 72))
    expected = evaluate(prune(model, make_plan(graph, {"conv_2": 0.5})), data.val)
    assert every["correct"].iloc[-1] == expected.correct
    assert every["loss"].iloc[-1] == pytest.approx(expected.loss, rel=1e-4)


def test_a_store_tells_forwards_apart(digits, tmp_path):
    torch.manual_seed(0)
    model = shake(load_model("resnet20"))
    how = dict(layers=["conv_2"], ratios=[0.5], images=20, store=tmp_path / "counts.jsonl")
    measure_sensitivity(model, digits, **how)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0.5  # the same weights, another network
    steps = []
    other = measure_sensitivity(model, digits, on_progress=note_in(steps), **how)
    assert len(steps) == 2
    del how["store"]
    assert other["loss"].equals(measure_sensitivity(model, digits, **how)["loss"])


def test_norms_that_mix_a_batch_are_refused(digits):
    model = load_model("resnet20")
    model.bn1 = torch.nn.BatchNorm2d(16, track_running_stats=False)
    with pytest.raises(ValueError, match="bn1 is a batch norm without running statistics"):
        measure_sensitivity(model, digits, layers=["conv_2"])


class Two(torch.nn.Module):
    """Returns its logits and more."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3)
        self.fc = torch.nn.Linear(4, 10)

    def forward(self, x):
        x = self.fc(self.b(self.a(x)).mean((2, 3)))
        return x, x.softmax(1)


def test_more_bad_input(model, digits):
    with pytest.raises(ValueError, match="batch_size must be a whole number, 1 or more; got -1"):
        measure_sensitivity(model, digits, batch_size=-1)
    with pytest.raises(ValueError, match="the model returns a tuple; it must return logits"):
        measure_sensitivity(Two(), digits)
    with pytest.raises(ValueError, match="the model returns a tuple; it must return logits"):
        evaluate(Two(), digits.val)
    with pytest.raises(ValueError, match="layers is empty"):
        measure_sensitivity(model, digits, layers=[])
    with pytest.raises(ValueError, match=r"the ratio of 'ratios' must be a number in \[0, 1\)"):
        measure_sensitivity(model, digits, ratios=["a"])
    graph = trace(model, torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="hold 16 NaN: such filters have no rank"):
        make_plan(graph, {"conv_2": 0.5}, scores={"conv_2": torch.full((16,), float("nan"))})
    with pytest.raises(ValueError, match="leave scores= out"):
        make_plan(graph, {"conv_2": 0.5}, scores={}, strategy="greedy")


def test_retrained_one_layer_at_a_time_equals_the_plain_loop(
    model, few_digits, tmp_path, monkeypatch
):
    settings = replace(QUICK, epochs=1, lr=0.01)
    how = dict(layers=["conv_2"], ratios=[0.5], checkpoints=tmp_path)
    found = measure_retrained(model, few_digits, settings, **how)
    graph = trace(model, torch.zeros(few_digits.image_shape))
    small = prune(model, make_plan(graph, {"conv_2": 0.5}))
    train(small, few_digits, settings)
    by_hand = [evaluate(network, few_digits.val).correct for network in (model, small)]
    assert list(found["correct"]) == by_hand
    before = measure_sensitivity(model, few_digits, layers=["conv_2"], ratios=[0.5])
    assert list(found.columns) == list(before.columns)
    assert found[["ratio", "removed", "total"]].equals(before[["ratio", "removed", "total"]])
    monkeypatch.setattr(TRAIN_EPOCH, lambda *_: pytest.fail("trained again"))
    assert measure_retrained(model, few_digits, settings, **how).equals(found)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"layers": ["conv_99"]}, "unknown layer 'conv_99'"),
        ({"layers": ["conv_3"]}, "'conv_3' cannot be pruned"),
        ({"ratios": [1.2]}, "1.2"),
    ],
)
def test_what_cannot_be_retrained_is_said_before_anything_is_trained(
    model, few_digits, monkeypatch, given, sentence
):
    monkeypatch.setattr(TRAIN_EPOCH, lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match=sentence):
        measure_retrained(model, few_digits, QUICK, **given)
    with pytest.raises(ValueError, match="takes a data set, as load_data gives one, not Split"):
        measure_retrained(model, few_digits.val, QUICK)
