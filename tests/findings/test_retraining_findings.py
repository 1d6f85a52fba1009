"""What is said of retraining: counted by hand beside what is computed."""

import pandas as pd
import pytest
import torch
from small import tiny_network
from test_orders_findings import make_rows

from prunelab import findings, load_model, make_plan, prune, trace
from prunelab.training import Metrics


@pytest.fixture
def alone():
    counts = {("conv_2", 0.0): 900, ("conv_2", 0.5): 300, ("conv_2", 0.9): 100}
    back = {("conv_2", 0.0): 900, ("conv_2", 0.5): 905, ("conv_2", 0.9): 800}
    regained = findings.note_continued(make_rows(back, way="retrained"), Metrics(910, 1000, 0.2))
    return pd.concat([make_rows(counts, way="not retrained"), regained])


def test_the_control_is_the_whole_network_trained_on(alone):
    whole = alone[(alone["way"] == "retrained") & (alone["removed"] == 0)].iloc[0]
    assert (whole["correct"], whole["accuracy"], whole["loss"]) == (910, 0.91, 0.2)
    assert whole["accuracy_low"] < 0.91 < whole["accuracy_high"]
    with pytest.raises(ValueError, match="1,000 images and the whole one on 10"):
        findings.note_continued(alone, Metrics(9, 10, 0.2))


def test_what_came_back_is_told(alone):
    told = findings.describe_regained(alone).splitlines()
    assert len(told) == 2
    assert "2 of 2 networks that lost filters of one layer are below the whole net" in told[0]
    assert "(conv_2 at 50 % and conv_2 at 90 %). That one has 900 of 1,000" in told[0]
    assert told[1].startswith("Retrained, 1 of 2 networks")
    assert (
        "trained on for as long by more than chance (conv_2 at 90 %). That one has 910" in told[1]
    )
    assert "the lowest, conv_2 at 90 %, 800 of 1,000" in told[1]
    assert "Of 1, 1,000 images show no loss" in told[1]
    named = findings.describe_regained(alone.assign(network="a, b", epochs=20)).splitlines()
    assert named[1].startswith("**a, b**: Retrained for 20 epochs, 1 of 2")
    few_bits = alone.assign(epochs=1, precision="bfloat16")
    told = findings.describe_regained(few_bits).splitlines()
    assert told[1].startswith("Retrained for 1 epoch in bfloat16, 1 of 2")
    assert findings.describe_regained(alone[:0]) == ""


def test_layers_are_spread():
    graph = trace(load_model("vgg16"), torch.zeros(1, 3, 32, 32))
    names = [graph.shapes[layer].paper_name for layer in findings.spread_layers(graph)]
    assert names == ["conv_1", "conv_7", "conv_13"]


def test_the_second_round_ends_where_once_would():
    graph = trace(network := tiny_network(), torch.zeros(1, 3, 32, 32))
    first = prune(network, make_plan(graph, {"*": 0.25}))
    second = prune(first, findings.plan_second_round(first, graph, 0.5))
    once = make_plan(graph, {"*": 0.5})
    kept = second.pruning_plan.keep
    assert {name: len(own) for name, own in kept.items()} == {
        name: len(own) for name, own in once.keep.items()
    }
