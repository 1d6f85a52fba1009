"""Filters picked by hand stay or go, whatever their score."""

import warnings

import pytest
import torch
from torch import nn

from prunelab import (
    compare_with_silenced,
    load_model,
    load_recipe,
    make_plan,
    prune,
    score_filters,
    trace,
)
from prunelab.experiments.steps import plan_by_recipe
from prunelab.pruning import score_statistics

X = torch.zeros(1, 3, 32, 32)
LAYER = "layer1.0.conv1"  # conv_2, of 16 filters


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    return trace(load_model("resnet20"), X)


@pytest.fixture(scope="module")
def ranked(graph):
    """The filters of conv_2, smallest norm first."""
    return score_filters(graph)[LAYER].argsort().tolist()


def gone(graph, ratio, **how):
    return make_plan(graph, {"conv_2": ratio}, **how).removed.get(LAYER, [])


def test_the_dropped_are_the_first_of_those_that_go(graph, ranked):
    *_, second, largest = ranked
    assert gone(graph, 0.25, drop={"conv_2": [largest]}) == sorted([largest, *ranked[:3]])
    assert gone(graph, 0, drop={LAYER: [largest]}) == [largest]
    assert gone(graph, 0.1, drop={LAYER: ranked[-5:]}) == sorted(ranked[-5:])
    either = {"conv_2": [largest], LAYER: (second, largest)}  # two names of one layer
    assert gone(graph, 0, drop=either) == sorted([second, largest])


def test_the_kept_are_the_last(graph, ranked):
    assert gone(graph, 0.25, keep={"conv_2": ranked[:2]}) == sorted(ranked[2:6])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # fewer go than the ratio says, and nothing is said
        assert gone(graph, 0.9, keep={"conv_2": ranked[:8]}) == sorted(ranked[8:])
        assert gone(graph, 0.99, keep={"conv_2": ranked[:2]}) == sorted(ranked[2:])
    both = {"keep": {"conv_2": ranked[:1]}, "drop": {"conv_2": ranked[-1:]}}
    assert gone(graph, 0.25, **both) == sorted([ranked[-1], *ranked[1:4]])


@pytest.mark.parametrize("order", ["largest", "random"])
def test_other_orders(graph, ranked, order):
    picked = {"keep": {"conv_2": ranked[-3:]}, "drop": {"conv_2": ranked[:3]}}
    found = gone(graph, 0.5, order=order, **picked)
    assert len(found) == 8
    assert set(ranked[:3]) <= set(found) <= set(ranked[:-3])


def test_hand_picks_win_over_align(graph, ranked):
    def left(ratio, **picked):
        return 16 - len(gone(graph, ratio, align=8, **picked))

    assert left(0.3, drop={"conv_2": ranked[-2:]}) == 14  # 11 would be rounded up to 16
    assert left(0.5, drop={"conv_2": ranked[-2:]}) == 8
    assert left(0.5, keep={"conv_2": ranked[:3]}) == 8
    assert left(0.5, keep={"conv_2": ranked[:9]}) == 16  # at least 9 stay: the next multiple
    assert left(0, drop={"conv_2": ranked[:10]}) == 6


def test_greedy(graph):
    torch.manual_seed(0)
    vgg = trace(load_model("vgg16"), X)
    plan = make_plan(vgg, {"*": 0.5}, strategy="greedy")
    first, second = plan.removed["features.0"], plan.removed["features.3"]
    picked = {"keep": {"conv_1": first[:4]}, "drop": {"conv_2": plan.keep["features.3"][:4]}}
    other = make_plan(vgg, {"*": 0.5}, strategy="greedy", **picked)
    assert set(other.keep["features.0"]) >= set(first[:4])
    assert set(other.removed["features.3"]) >= set(plan.keep["features.3"][:4])
    assert len(other.removed["features.3"]) == len(second)


def test_any_name_stands_for_the_group():
    graph = trace(load_model("resnet18"), torch.zeros(1, 3, 64, 64))
    by_leader = make_plan(graph, {}, drop={"conv1": [5]})
    for layer in graph.group_of("conv1").layers:
        assert make_plan(graph, {}, drop={layer: [5]}).keep == by_leader.keep
        assert 5 not in by_leader.keep[layer]


class Grouped(nn.Sequential):
    def __init__(self):
        layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.Flatten()
        super().__init__(*layers, nn.LazyLinear(2))


def test_units_go_together():
    model = Grouped()
    model(torch.zeros(1, 3, 8, 8))
    graph = trace(model, torch.zeros(1, 3, 8, 8))
    group = next(g for g in graph.groups if g.prunable and len(g.units) < g.size)
    unit = (group.unit_of == group.unit_of[1]).nonzero().squeeze(1).tolist()
    assert len(unit) == 2
    plan = make_plan(graph, {}, drop={group.leader: [1]})
    assert plan.removed[group.leader] == unit
    compare_with_silenced(model, plan, torch.randn(2, 3, 8, 8))
    with pytest.raises(ValueError, match="both in keep and in drop"):
        make_plan(graph, {}, drop={group.leader: unit[:1]}, keep={group.leader: unit[1:]})


def test_original_numbers_after_pruning(graph, ranked):
    first = make_plan(graph, {"conv_2": 0.5})
    small = trace(prune(graph.model, first), X)
    left = first.keep[LAYER]
    plan = make_plan(small, {}, drop={"conv_2": [ranked[0], left[1]]})  # one went before
    assert plan.keep[LAYER] == [left[0], *left[2:]]
    with pytest.raises(ValueError, match=f"has no filter {ranked[0]}; its filters are .*left of"):
        make_plan(small, {}, keep={"conv_2": [ranked[0]]})


def test_settings_say_what_was_picked_and_only_that(graph):
    plain = make_plan(graph, {"conv_2": 0.5})
    assert make_plan(graph, {"conv_2": 0.5}, keep={}, drop={"conv_4": []}) == plain
    assert "keep" not in plain.settings
    picked = make_plan(graph, {}, drop={"conv_2": iter((3, 1, 3))}).settings
    assert picked["drop"] == {"conv_2": [1, 3]}
    assert "keep" not in picked


def test_wrong_picks_are_refused(graph):
    for picked, words in [
        ({"conv_99": [0]}, "unknown layer 'conv_99'"),
        ({"stage1": [0]}, "unknown layer 'stage1'"),
        ({"conv_3": [0]}, "'layer1.0.conv2' cannot be pruned: its maps are added"),
        ({"conv_2": [16]}, r"layer1.0.conv1 has no filter 16; its filters are 0 … 15"),
        ({"conv_2": [-1]}, "a filter of 'conv_2' must be a whole number"),
        ({"conv_2": [0.5]}, "a filter of 'conv_2' must be a whole number"),
        ({"conv_2": 3}, "the filters of 'conv_2' must be a list of numbers; got 3"),
        ([3], r"keep and drop map layers to filters"),
    ]:
        for how in ("keep", "drop"):
            with pytest.raises(ValueError, match=words):
                make_plan(graph, {}, **{how: picked})
    with pytest.raises(ValueError, match=r"drop would remove all filters of layer1\.0\.conv1"):
        make_plan(graph, {}, drop={"conv_2": range(16)})
    with pytest.raises(ValueError, match="filters of conv_2 are both in keep and in drop"):
        make_plan(graph, {}, drop={"conv_2": [1, 2]}, keep={"conv_2": [2]})


def test_all_statistics_in_one_pass(graph, few_digits):
    seen = []
    found = score_statistics(
        graph, few_digits, images=100, seed=1, on_progress=lambda *at: seen.append(at)
    )
    assert seen == [(100, 100)]
    for criterion, scores in found.items():
        alone = score_filters(graph, criterion, data=few_digits, images=100, seed=1)
        assert list(scores) == list(alone)
        assert all(torch.equal(scores[name], alone[name]) for name in alone)


@pytest.mark.parametrize("criterion", ["var_l2", "taylor"])
def test_progress_and_pieces(graph, few_digits, criterion, monkeypatch):
    whole = score_filters(graph, criterion, data=few_digits)
    monkeypatch.setattr("prunelab.pruning.criteria.PIECE", 1)  # an image at a time
    seen = []
    again = score_filters(
        graph, criterion, data=few_digits, on_progress=lambda *at: seen.append(at)
    )
    assert seen == [(250, 256), (256, 256)]
    assert all(torch.equal(again[name], whole[name]) for name in whole)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_filters(graph, criterion, data=few_digits, on_progress=stop)
    assert not any(module._forward_hooks for module in graph.model.modules())


def test_a_recipe_may_pick_by_hand(graph, few_digits):
    changes = ["prune.keep={conv_2: [3]}", "prune.drop={conv_4: [1, 0]}"]
    recipe = load_recipe("resnet20-pruned-b", changes).prune
    plan = plan_by_recipe(recipe, {"conv_2": 0.9}, graph, few_digits, 0)
    assert 3 in plan.keep[LAYER]
    assert plan.removed["layer1.1.conv1"] == [0, 1]
    assert recipe.model_dump(mode="json")["drop"] == {"conv_4": [1, 0]}
    assert "keep" not in load_recipe("resnet20-pruned-b").model_dump()["prune"]
