import math
from functools import partial

import numpy as np
import pytest
import torch

from prunelab import (
    PruningPlan,
    feature_maps,
    load_model,
    make_plan,
    measure_cost,
    prune,
    rank_filters,
    score_filters,
    score_statistics,
    total_cost,
    trace,
)
from prunelab.pruning.selection import count_removed

X = torch.zeros(1, 3, 32, 32)


@pytest.fixture
def graph():
    torch.manual_seed(0)
    return trace(load_model("resnet20"), X)


def test_counting():
    assert count_removed(0.3, 10) == 3  # though 0.3 · 10 > 3 in floats
    assert [count_removed(0.1, 16, how) for how in ("ceil", "floor", "round")] == [2, 1, 2]
    assert count_removed(0.99, 16) == 15  # never the last one
    assert count_removed(0, 16) == 0
    for n in (16, 32, 64, 100, 512):
        for tenths in range(10):
            assert count_removed(tenths / 10, n) == min(-(-tenths * n // 10), n - 1)


@pytest.mark.parametrize(("criterion", "power"), [("l1", 1), ("l2", 2)])
def test_scores_are_norms(graph, criterion, power):
    for name, scores in score_filters(graph, criterion).items():
        weight = graph.model.get_submodule(name).weight
        for j in range(len(weight)):
            expected = sum(abs(v) ** power for v in weight[j].flatten().tolist()) ** (1 / power)
            assert math.isclose(scores[j], expected, rel_tol=1e-4)


def test_orders(graph):
    def keep(order, seed=3):
        plan = make_plan(graph, {"conv_2": 0.5}, order=order, seed=seed)
        return plan.keep["layer1.0.conv1"]

    norms = score_filters(graph)["layer1.0.conv1"]
    assert keep("smallest") == sorted(norms.topk(8).indices.tolist())
    assert keep("largest") == sorted(norms.topk(8, largest=False).indices.tolist())
    assert keep("random") == keep("random") != keep("random", seed=4)


def test_greedy_leaves_out_the_kernels_of_removed_maps():
    torch.manual_seed(0)
    model = load_model("vgg16")
    graph = trace(model, X)
    plan = make_plan(graph, {"*": 0.5}, strategy="greedy")
    convs = [model.get_submodule(name) for name in graph.layers]
    left = [0, 1, 2]
    for name, conv in zip(graph.layers, convs, strict=True):  # §3.3, by hand
        norms = conv.weight[:, left].abs().sum((1, 2, 3))
        left = sorted(norms.topk(len(norms) // 2).indices.tolist())
        assert plan.keep[name] == left
    assert plan.keep != make_plan(graph, {"*": 0.5}).keep


def test_the_narrower_key_wins(graph):
    plan = make_plan(graph, {"*": 0.5, "stage1": 0.25, "conv_4": 0})
    removed = {name: len(gone) for name, gone in plan.removed.items()}
    assert "layer1.1.conv1" not in removed
    assert removed["layer1.0.conv1"] == 4
    assert removed["layer2.0.conv1"] == 16
    assert make_plan(graph, {"conv_4": 0, "stage1": 0.25, "*": 0.5}).keep == plan.keep


@pytest.mark.parametrize("ratio", [1.0, -0.1, float("nan"), "0.5", None, True])
def test_bad_ratios(graph, ratio):
    with pytest.raises(ValueError, match=r"the ratio of 'conv_2' must be a number in \[0, 1\)"):
        make_plan(graph, {"conv_2": ratio})


def test_bad_keys_and_choices(graph):
    with pytest.raises(ValueError, match="unknown layer 'conv_99'; did you mean 'conv_9'"):
        make_plan(graph, {"conv_99": 0.5})
    words = "'conv_3' cannot be pruned: its maps are added to those of a shortcut that fills up "
    with pytest.raises(ValueError, match=words + "with zero maps"):
        make_plan(graph, {"conv_3": 0.5})
    with pytest.raises(ValueError, match="unknown criterion 'L1'; did you mean 'l1'"):
        make_plan(graph, {"*": 0.5}, criterion="L1")
    with pytest.raises(ValueError, match="unknown strategy 'gredy'; did you mean 'greedy'"):
        make_plan(graph, {"*": 0.5}, strategy="gredy")
    with pytest.raises(ValueError, match="ratios maps layers"):
        make_plan(graph, 0.5)
    takers = {
        "make_plan": partial(make_plan, ratios={"*": 0.5}), "score_filters": score_filters,
        "score_statistics": partial(score_statistics, data=None), "measure_cost": measure_cost,
        "total_cost": total_cost, "feature_maps": partial(feature_maps, layer="a", images=X),
        "prune": lambda model: prune(model, make_plan(graph, {}), graph=model),
    }  # fmt: skip
    for name, taker in takers.items():
        words = rf"{name} takes the graph of trace\(model, example_input\), not CifarResNet"
        with pytest.raises(ValueError, match=words):
            taker(graph.model)
    for seed in ("a", 1.5, -1, None):
        with pytest.raises(ValueError, match=f"seed must be a whole number.*got {seed!r}"):
            make_plan(graph, {"*": 0.5}, seed=seed)
    with pytest.raises(ValueError, match="prune takes a model and a plan"):
        prune(graph, make_plan(graph, {}))
    assert make_plan(graph, {"*": np.float32(0.5)}).removed


def test_two_ratios_for_tied_layers():
    graph = trace(load_model("resnet18"), torch.zeros(1, 3, 64, 64))
    words = r"'layer1.0.conv2' and 'layer1.1.conv2' are tied.*not 0.3 and 0.5"
    with pytest.raises(ValueError, match=words):
        make_plan(graph, {"layer1.0.conv2": 0.3, "layer1.1.conv2": 0.5})
    assert make_plan(graph, {"layer1.0.conv2": 0.3, "layer1.1.conv2": 0.3}).removed


def test_a_ratio_that_would_empty_a_layer_leaves_one_filter_and_says_so(graph):
    words = "would remove all 16 filters of layer1.0.conv1; one stays"
    with pytest.warns(UserWarning, match=words):
        plan = make_plan(graph, {"conv_2": 0.99})
    assert len(plan.keep["layer1.0.conv1"]) == 1


def test_json(graph):
    plan = make_plan(graph, {"*": 0.3})
    assert PruningPlan.from_json(plan.to_json()) == plan
    for text, sentence in [
        ("{", "not a pruning plan"),
        ('{"keep": {}}', "not a pruning plan"),
        ("[]", "not a pruning plan"),
        ('{"keep": {"a": ["x"]}, "widths": {"a": 3}, "input_shapes": []}', "not a pruning plan"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            PruningPlan.from_json(text)
    with pytest.raises(ValueError, match="must be sorted, distinct"):
        PruningPlan.from_json(plan.to_json().replace('"conv1": [0, 1,', '"conv1": [1, 0,'))


def test_rounds_speak_of_the_original_filters(graph):
    first = make_plan(graph, {"stage1": 0.5})
    small = prune(graph.model, first)
    second = make_plan(trace(small, X), {"stage1": 0.5, "stage2": 0.25})
    assert set(second.keep["layer1.0.conv1"]) < set(first.keep["layer1.0.conv1"])
    assert second.widths == first.widths
    twice, once = prune(small, second), prune(graph.model, second)
    pairs = zip(twice.state_dict().values(), once.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(ValueError, match="which were already removed"):
        prune(twice, first)


def test_an_edited_plan_must_keep_tied_layers_together():
    graph = trace(load_model("resnet18"), torch.zeros(1, 3, 64, 64))
    plan = make_plan(graph, {})
    keep = {**plan.keep, "layer1.0.conv2": plan.keep["layer1.0.conv2"][1:]}
    broken = PruningPlan(keep, plan.widths, plan.input_shapes)
    with pytest.raises(ValueError, match="tied layers must keep the same filters"):
        prune(graph.model, broken)


def test_ranked_filters(graph):
    ranked = rank_filters(graph, make_plan(graph, {"*": 0.25}))
    layer = ranked[ranked["layer"] == "layer1.0.conv1"]
    assert layer["share"].is_monotonic_decreasing
    assert list(layer["fate"]) == ["kept"] * 12 + ["removed"] * 4
    assert set(ranked.loc[ranked["paper_name"] == "conv_1", "fate"]) == {"fixed"}


def test_a_plan_made_by_hand_of_tuples_and_numpy_s_numbers():
    keep = {"a": (0, 2), "b": np.flatnonzero([1, 0, 1, 1]), "c": range(2)}
    shapes = [torch.zeros(1, 3, 8, 8).shape]
    plan = PruningPlan(keep, {"a": np.int64(4), "b": 4, "c": 2}, shapes)
    assert plan.keep == {"a": [0, 2], "b": [0, 2, 3], "c": [0, 1]}
    assert PruningPlan.from_json(plan.to_json()) == plan
    with pytest.raises(ValueError, match="this is not a pruning plan"):
        PruningPlan({"a": [True]}, {"a": 4}, shapes)
