from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from prunelab import (
    TrainSettings,
    choose_ratios,
    compare_ratios,
    evaluate,
    load_model,
    make_plan,
    measure_cost,
    measure_sensitivity,
    prune,
    total_cost,
    trace,
    train,
    uniform_ratios,
)
from prunelab.measure.search import Search, list_choices
from prunelab.utils.tensors import hash_tensors

RATIOS = (0.25, 0.5, 0.75)


@pytest.fixture(scope="module")
def found(model, digits):
    return measure_sensitivity(model, digits, ratios=RATIOS)


def made_up(graph, seed=0, layers=None, ratios=RATIOS):
    """Curves that fall at random."""
    draw = np.random.default_rng(seed)
    rows = []
    for layer in layers or [g.leader for g in graph.groups if g.prunable]:
        correct, loss = 1000, 0.1
        for ratio in (0.0, *ratios):
            correct -= int(draw.integers(0, 200)) if ratio else 0
            loss += float(draw.uniform(-0.1, 1)) if ratio else 0
            rows.append((layer, ratio, round(100 * ratio), correct, 1000, loss))
    return pd.DataFrame(rows, columns=["layer", "ratio", "removed", "correct", "total", "loss"])


def share(graph, ratios, key="flops", **how):
    total = total_cost(graph, make_plan(graph, ratios, **how))
    return total.loc["after", key] / total.loc["before", key]


@pytest.mark.parametrize("per", ["layer", "stage"])
@pytest.mark.parametrize("limit", [0.9, 0.7, 0.5])
def test_never_over_the_budget(graph, found, limit, per):
    ratios = choose_ratios(found, graph, max_flops=limit, per=per)
    assert share(graph, ratios) <= limit
    assert share(graph, ratios) == pytest.approx(ratios.predicted["flops"])
    assert 0 < ratios.predicted["accuracy"] <= found["accuracy"].iloc[0]  # of the whole network
    if per == "stage":
        assert set(ratios) <= {"stage1", "stage2", "stage3"}


def test_other_budgets_and_alignment(graph, found):
    assert share(graph, choose_ratios(found, graph, max_params=0.6), "params") <= 0.6
    both = choose_ratios(found, graph, max_params=0.6, max_flops=0.55)
    assert share(graph, both, "params") <= 0.6
    assert share(graph, both) <= 0.55
    number = choose_ratios(found, graph, max_flops=25_000_000)
    assert measure_cost(graph, make_plan(graph, number))["flops_after"].sum() <= 25_000_000
    aligned = choose_ratios(found, graph, max_flops=0.7, align=8)
    assert share(graph, aligned, align=8) <= 0.7


def loss_of(frame, ratios):
    """What a choice loses by the rule: the sum of what each layer adds, curves never falling."""
    lost = 0.0
    for layer, curve in frame.groupby("layer"):
        highest = np.maximum.accumulate((curve["loss"] - curve["loss"].iloc[0]).to_numpy())
        lost += highest[list(curve["ratio"]).index(ratios.get(layer, 0.0))]
    return lost


@pytest.mark.parametrize("seed", range(5))
def test_as_good_as_trying_all(graph, seed):
    layers = [f"layer{block}.conv1" for block in ("1.0", "1.1", "2.0", "3.0", "3.2")]
    frame = made_up(graph, seed, layers)
    levels = product((0.0, *RATIOS), repeat=len(layers))
    tried = [dict(zip(layers, ratios, strict=True)) for ratios in levels]
    costs = [share(graph, ratios) for ratios in tried]
    losses = [loss_of(frame, ratios) for ratios in tried]
    for limit in (0.95, 0.9, 0.85):
        best = min(loss for loss, cost in zip(losses, costs, strict=True) if cost <= limit)
        ours = loss_of(frame, choose_ratios(frame, graph, max_flops=limit))
        assert ours <= best * 1.1 + 1e-4  # 0 to 6 % over the best of all


def test_the_cost_of_neighbours_is_exact():
    torch.manual_seed(0)
    graph = trace(load_model("vgg16"), torch.zeros(1, 3, 32, 32))
    frame = made_up(graph)
    search = Search(graph, list_choices(frame, graph, "layer", 1), 1.0, 1)
    for seed in range(5):
        levels = np.random.default_rng(seed).integers(0, 4, len(search.choices)).tolist()
        ratios = {c.key: c.ratios[level] for c, level in zip(search.choices, levels, strict=True)}
        ours = search._costs(search._narrow(levels)[None])
        total = total_cost(graph, make_plan(graph, ratios)).loc["after"]
        assert ours["flops"][0] == total["flops"]
        assert ours["params"][0] == total["params"]


def test_a_layer_along_places_counts_for_the_channels_that_are_left():
    along = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(2), nn.Linear(36, 36))
    mixer = [*along, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 2)]
    graph = trace(nn.Sequential(*mixer), torch.zeros(1, 3, 8, 8))
    search = Search(graph, list_choices(made_up(graph), graph, "layer", 1), 1.0, 1)
    for level, ratio in enumerate((0.0, *RATIOS)):
        total = total_cost(graph, make_plan(graph, {"0": ratio})).loc["after"]
        assert search._costs(search._narrow([level])[None])["flops"][0] == total["flops"]
    assert share(graph, uniform_ratios(graph, max_flops=0.3)) <= 0.3


def test_a_layer_never_gains_by_losing_more(graph):
    frame = made_up(graph)
    frame["loss"] = [1.0 - 0.001 * i for i in range(len(frame))]  # measured better, by chance
    # so no more goes than the budget asks for
    assert len(choose_ratios(frame, graph, max_flops=0.99)) == 1


def test_the_measured_time(graph, found, monkeypatch):
    asked = []

    def time(models, shape, **how):
        whole, left = (sum(p.numel() for p in m.parameters()) for m in models.values())
        asked.append(tuple(shape))
        return pd.DataFrame({"model": list(models), "time_left": [1.0, 0.5 + 0.5 * left / whole]})

    monkeypatch.setattr("prunelab.measure.budget.measure_latency", time)
    ratios = choose_ratios(found, graph, max_latency=0.85)
    assert ratios.predicted["latency"] <= 0.85
    assert set(asked) == {(3, 32, 32)}
    # a number beside a fraction
    both = choose_ratios(found, graph, max_latency=0.99, max_flops=25_000_000)
    assert total_cost(graph, make_plan(graph, both)).loc["after", "flops"] <= 25_000_000
    sentence = r"max_latency=0.5 was not met: the fastest network measured took 6"
    with pytest.raises(ValueError, match=sentence):
        choose_ratios(found, graph, max_latency=0.5)


def test_really_measured(graph, found):
    assert choose_ratios(found, graph, max_latency=1.0).predicted["latency"] <= 1


def test_uniform_ratios(graph):
    ratios = uniform_ratios(graph, max_flops=0.7)
    assert share(graph, ratios) <= 0.7
    assert share(graph, {"*": ratios["*"] - 0.001}) > 0.7
    assert uniform_ratios(graph, max_flops=1) == {"*": 0.0}
    with pytest.raises(ValueError, match=r"no ratio for all layers meets max_flops=0.01"):
        uniform_ratios(graph, max_flops=0.01)


def test_what_came_of_it(model, digits, graph, found):
    choices = {
        "uniform": uniform_ratios(graph, max_flops=0.8),
        "chosen": choose_ratios(found, graph, max_flops=0.8),
    }
    table = compare_ratios(model, digits, choices).set_index("choice")
    for name, ratios in choices.items():
        expected = evaluate(prune(model, make_plan(graph, ratios)), digits.val)
        assert table.loc[name, "correct"] == expected.correct
        assert table.loc[name, "flops_left"] <= 0.8
    assert table.loc["chosen", "predicted"] == choices["chosen"].predicted["accuracy"]
    assert pd.isna(table.loc["uniform", "predicted"])
    other = compare_ratios(model, digits, {"means": {"stage1": 0.3}}, criterion="mean_mean")
    assert len(other) == 1
    assert table.loc["chosen", "accuracy"] > table.loc["uniform", "accuracy"]


def test_what_came_of_it_after_retraining(model, few_digits):
    settings = TrainSettings(epochs=1, lr=0.01, milestones=(), batch_size=4, seed=3)
    graph, choices = trace(model, torch.zeros(few_digits.image_shape)), {"half": {"*": 0.5}}
    before = hash_tensors(model.state_dict())
    table = compare_ratios(model, few_digits, choices, graph=graph, retrain=settings)
    small = prune(model, make_plan(graph, choices["half"]))
    train(small, few_digits, settings)
    assert table["correct"].item() == evaluate(small, few_digits.val).correct
    assert hash_tensors(model.state_dict()) == before
    with pytest.raises(
        ValueError, match="train takes a data set, as load_data gives one, not Split"
    ):
        compare_ratios(model, few_digits.val, choices, retrain=settings)


def test_bad_input(graph, found):
    with pytest.raises(ValueError, match=r"a budget is missing, such as max_flops=0.7"):
        choose_ratios(found, graph)
    sentence = r"cannot meet max_flops=0.1: at the largest of each, \d+.\d% of the multiply"
    with pytest.raises(ValueError, match=sentence):
        choose_ratios(found, graph, max_flops=0.1)
    for wrong in (0, -1, "0.7", True, float("nan")):
        with pytest.raises(ValueError, match="max_flops must be a number above 0"):
            choose_ratios(found, graph, max_flops=wrong)
    with pytest.raises(ValueError, match="a fraction that may be left is at most 1"):
        choose_ratios(found, graph, max_flops=2)
    with pytest.raises(ValueError, match="choices maps names to ratios"):
        compare_ratios(graph.model, None, {"*": 0.2})
    with pytest.raises(ValueError, match="per must be 'layer' or 'stage'"):
        choose_ratios(found, graph, max_flops=0.7, per="block")
    with pytest.raises(ValueError, match=r"this one has no \['correct', 'loss'"):
        choose_ratios(found[["layer", "ratio"]], graph, max_flops=0.7)
    with pytest.raises(ValueError, match="keep the rows of ratio 0"):
        choose_ratios(found[found["removed"] > 0], graph, max_flops=0.7)
    twice = pd.concat([found, found.assign(layer="stage1")])
    sentence = r"'layer1.0.conv1' and 'stage1' both prune layer1.0.conv1"
    with pytest.raises(ValueError, match=sentence):
        choose_ratios(twice, graph, max_flops=0.7)
    some = found[found["layer"] != "layer1.0.conv1"]
    sentence = r"needs every layer of stage1; not measured: layer1.0.conv1"
    with pytest.raises(ValueError, match=sentence):
        choose_ratios(some, graph, max_flops=0.7, per="stage")
