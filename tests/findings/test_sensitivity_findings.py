"""Sentences of notebooks 03 and 04, and the correlation that they tell of."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from prunelab import (
    compare_plans,
    find_weights,
    findings,
    load_model,
    make_plan,
    rank_filters,
    trace,
)


def curves(correct: dict[str, int], total: int = 1000, ratio: float = 0.5, **about) -> pd.DataFrame:
    """Curves of two points: the whole network with 900 right, and what is left of each layer."""
    rows = []
    for place, (name, right) in enumerate(correct.items()):
        for at, removed, own in ((0.0, 0, 900), (ratio, 8, right)):
            rows.append(
                {
                    "layer": name,
                    "paper_name": f"conv_{place + 2}",
                    "stage": f"stage{1 + place * 2 // len(correct)}",
                    "ratio": at,
                    "removed": removed,
                    "filters": 16,
                    "correct": own,
                    "total": total,
                    "accuracy": own / total,
                    "loss": 1 - own / total,
                    **about,
                }
            )
    return pd.DataFrame(rows)


def norms(steepness: dict[str, float], **about) -> pd.DataFrame:
    """Two filters a layer, of shares 1 and what makes it so steep."""
    rows = []
    for name, steep in steepness.items():
        rows += [{"layer": name, "share": share, **about} for share in (1, 1 - 2 * steep)]
    return pd.DataFrame(rows)


# --- curves ---


def test_what_harms_most_and_least_is_told():
    said = findings.describe_sensitivity(curves({"a": 890, "b": 500, "c": 700, "d": 895}), 0.4)
    assert "900 of 1,000" in said
    assert "50 % of the filters of conv_3, which harms most" in said
    assert "500 of 1,000" in said
    assert "conv_5, which harms least" in said
    assert "2 of 4 layers lose more" in said
    # between stages: means 695 and 797.5 of 746.25; within: 195² · 2 + 97.5² · 2
    share = 51.25**2 * 4 / (51.25**2 * 4 + 195**2 * 2 + 97.5**2 * 2)
    assert f"explains {100 * share:.0f} %" in said
    assert "2 stages put together at random would explain 33 %" in said


def test_a_layer_that_gains_is_not_harmed():
    said = findings.describe_sensitivity(curves({"a": 990, "b": 500}), 0.5)
    assert "1 of 2 layers lose more" in said


def test_stages_explain_nothing_where_all_layers_are_alike():
    assert "explains" not in findings.describe_sensitivity(curves({"a": 800, "b": 800}), 0.5)
    assert "explains" not in findings.describe_sensitivity(curves(dict.fromkeys("abcd", 800)), 0.5)
    assert findings.describe_sensitivity(pd.DataFrame(), 0.5) == ""


# --- steepness ---


def test_steepness_is_the_area_above_the_line():
    torch.manual_seed(0)
    graph = trace(load_model("vgg16_x0_25"), torch.zeros(1, 3, 32, 32))
    ranked = rank_filters(graph)
    names = {group.leader: 700 + 10 * i for i, group in enumerate(graph.groups)}
    points = findings.pair_steepness(ranked, curves(names))
    assert points["layer"].tolist() == list(names)
    for _, row in points.iterrows():
        weight = graph.filters(row["layer"]).abs().sum((1, 2, 3))
        assert row["steepness"] == pytest.approx(
            float(1 - (weight / weight.max()).mean()), abs=1e-5
        )
        assert row["lost"] == pytest.approx(0.9 - names[row["layer"]] / 1000)


def test_frames_are_joined_by_network_and_layer():
    steep = {"a": 0.1, "b": 0.2, "c": 0.3}
    one, other = {"model": "m", "weights": "1"}, {"model": "m", "weights": "2"}
    both = pd.concat([norms(steep, **one), norms({"a": 0.4}, **other)])
    measured = curves({"a": 800, "b": 700, "z": 1}, **one, data="photographs")
    points = findings.pair_steepness(both, measured)
    assert points["layer"].tolist() == ["a", "b"]
    assert points["steepness"].tolist() == pytest.approx([0.1, 0.2])
    assert points["lost"].tolist() == pytest.approx([0.1, 0.2])
    assert set(points["network"]) == {"m, photographs"}
    assert findings.pair_steepness(pd.DataFrame(), measured).empty


def pairs(steepness, lost, name="n") -> pd.DataFrame:
    return pd.DataFrame({"network": name, "steepness": steepness, "lost": lost, "ratio": 0.5})


def test_the_correlation_is_spearmans():
    generator = np.random.default_rng(3)
    steepness, lost = generator.normal(size=12), generator.integers(0, 6, 12)  # with ties
    row = findings.correlate_steepness(pairs(steepness, lost)).iloc[0]
    truth = spearmanr(steepness, lost)
    assert row["rho"] == pytest.approx(truth.statistic)
    assert row["p"] == pytest.approx(truth.pvalue, abs=0.03)
    assert row["rho_low"] < row["rho"] < row["rho_high"]
    assert row.equals(findings.correlate_steepness(pairs(steepness, lost)).iloc[0])


def test_chance_reaches_far_with_few_layers():
    """Critical values of Spearman's ρ, two-sided, 5 %: 0.700 with 9 layers, 0.560 with 13."""
    for layers, critical in ((9, 0.700), (13, 0.560)):
        row = findings.correlate_steepness(pairs(range(layers), range(layers))).iloc[0]
        assert row["chance"] == pytest.approx(critical, abs=0.04)
        assert row["rho"] == pytest.approx(1)
        assert row["p"] < 0.001


def test_what_cannot_be_ranked_says_so():
    few, same = pairs([1, 2, 3], [3, 2, 1], "few"), pairs([1, 2, 3, 4], [0.0] * 4, "same")
    found = findings.correlate_steepness(pd.concat([few, same]))
    assert found["rho"].isna().all()
    said = findings.describe_correlation(pd.concat([few, same]))
    assert "**few**: 3 layers at 50 %, which are too few" in said
    assert "no network here whose layers could be ranked" in said
    assert "no network" in findings.describe_correlation(few.iloc[:0])


def test_flat_and_steep_are_told_apart():
    up = list(range(10))
    flat, steep = pairs(up, up[::-1], "flat loses"), pairs(up, up, "steep loses")
    none = pairs(up, [3, 7, 1, 9, 0, 8, 2, 6, 4, 5], "neither")
    said = findings.describe_correlation(pd.concat([flat, steep, none]))
    assert "**flat loses**, 10 layers at 50 %: ρ = −1.00" in said
    assert "(p < 0.01)" in said
    assert "of 3 networks, and beyond chance in 1." in said
    assert "steep layers lose more, beyond chance, in 1" in said


# --- budgets ---


def choice(budget, chosen, uniform, predicted=0.9, total=1000):
    rows = []
    for name, right in (("chosen", chosen), ("uniform", uniform)):
        low, high = right / total - 0.02, right / total + 0.02
        row = {"choice": name, "budget": budget, "correct": right, "total": total}
        row |= {"accuracy": right / total, "accuracy_low": low, "accuracy_high": high}
        row |= {"flops_left": budget, "predicted": predicted if name == "chosen" else None}
        rows.append(row)
    return pd.DataFrame(rows)


def test_budgets_have_a_verdict_each():
    found = pd.concat([choice(0.9, 800, 600), choice(0.8, 500, 505), choice(0.7, 200, 300)])
    lines = findings.describe_budgets(found).splitlines()
    assert "chosen ones are ahead" in lines[0]
    assert "no difference that 1,000 test images show" in lines[1]
    assert "equal ones are ahead" in lines[2]
    assert lines[3] == "Ahead, of 3 budgets: chosen in 1, equal in 1 and neither in 1."
    assert findings.describe_budgets(found[found["choice"] == "chosen"]) == ""


def test_promises_are_held_against_what_came_out():
    found = pd.concat([choice(0.9, 895, 600), choice(0.8, 500, 505), choice(0.7, 950, 300)])
    said = findings.describe_promises(found)
    assert said.startswith("In 1 of 3 plans the curves promised more than came out, in 1 less")
    assert "90.0 % promised, 500 of 1,000" in said
    assert findings.describe_promises(found[found["choice"] == "uniform"]) == (
        "Nothing was predicted here."
    )


# --- strategies ---


def arms(right: dict[float, tuple[int, int]], total: int = 1000, **about) -> pd.DataFrame:
    rows = []
    for ratio, both in right.items():
        for strategy, own in zip(("independent", "greedy"), both, strict=True):
            rows.append({"strategy": strategy, "ratio": ratio, "correct": own, **about})
    return pd.DataFrame(rows).assign(total=total)


def test_where_strategies_differ():
    found = arms({0.3: (800, 801), 0.5: (400, 600), 0.7: (300, 200)})
    assert findings.describe_strategies(found) == (
        "Greedy keeps more at 50 %; independent keeps more at 70 %; "
        "at 30 % no difference that 1,000 images show."
    )
    both = pd.concat([found.assign(network="m, d"), arms({0.3: (5, 6)}, network="n, d")])
    lines = findings.describe_strategies(both).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["**m, d**", "**n, d**"]
    assert lines[1].endswith("at any of 1 ratios no difference that 1,000 images show.")
    assert findings.describe_strategies(pd.DataFrame(columns=["network"])) == ""


def test_strategies_after_retraining_are_another_line():
    found = arms({0.3: (800, 801), 0.5: (400, 600)}, network="m, d")
    both = pd.concat([found.assign(epochs=0), found.assign(epochs=1)])
    lines = findings.describe_strategies(both).splitlines()
    heads = [line.partition(":")[0] for line in lines]
    assert heads == ["**m, d**", "**m, d, retrained, 1 epoch**"]
    unknown = findings.name_retrained(found.assign(epochs=None))  # of 0.7.0, beside others
    assert set(unknown["network"]) == {"m, d"}
    alone = findings.name_retrained(found.drop(columns="network").assign(epochs=2))
    assert set(alone["network"]) == {"retrained, 2 epochs"}


def test_strategies_that_only_guess_are_not_told_apart():
    right = {0.1: 900, 0.2: 500, 0.3: 101, 0.4: 100, 0.5: 100}
    rows = [(arm, r, n, 1000) for r, n in right.items() for arm in ("greedy", "independent")]
    found = pd.DataFrame(rows, columns=["strategy", "ratio", "correct", "total"])
    told = "From 30 % on neither differs from what is left at 50 %, so nothing can be told there."
    assert findings.describe_strategies(found).endswith(told)
    assert "neither" not in findings.describe_strategies(found[found["ratio"] < 0.4])
    assert "neither" not in findings.describe_strategies(found.assign(correct=990))
    apart = found.assign(correct=[900, 900, 120, 88, 120, 88, 104, 104, 104, 104])
    assert "From 40 % on" not in findings.describe_strategies(apart)


def test_overlap_of_choices():
    weights = find_weights("resnet20-digits")
    chain = trace(load_model("vgg16_x0_25"), torch.zeros(1, 3, 32, 32))
    block = trace(load_model("resnet20", weights=weights), torch.zeros(1, 3, 32, 32))
    for graph, said in (
        (chain, "from conv_1. In the other 12 layers"),
        (block, "the same filters"),
    ):
        plans = {s: make_plan(graph, {"*": 0.5}, strategy=s) for s in ("independent", "greedy")}
        compared = compare_plans(plans)
        compared["paper_name"] = [graph.shapes[layer].paper_name for layer in compared["layer"]]
        assert said in findings.describe_overlap(compared)
