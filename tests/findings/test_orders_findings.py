"""What is said of which filters go first: counted by hand beside what is computed."""

from functools import partial

import pandas as pd
import pytest
import torch
from small import tiny_network

from prunelab import findings, measure_sensitivity
from prunelab.utils.intervals import wilson

TOTAL = 1000


def make_rows(counts, **named):
    """Rows as of `measure_sensitivity`; counts: {(layer, ratio): correct}."""
    rows = []
    for (layer, ratio), correct in counts.items():
        low, high = wilson(correct, TOTAL)
        row = {"layer": f"net.{layer}", "paper_name": layer, "stage": "stage1", "ratio": ratio}
        row |= {"removed": round(10 * ratio), "filters": 10, "correct": correct, "total": TOTAL}
        row |= {"accuracy": correct / TOTAL, "accuracy_low": low, "accuracy_high": high}
        rows.append(row | {"loss": 1.0} | named)
    return pd.DataFrame(rows)


def curves(low, high):
    """Two layers that begin at 900 of 1,000."""
    whole = {("conv_1", 0.0): 900, ("conv_2", 0.0): 900}
    return {**whole, ("conv_1", 0.3): low, ("conv_2", 0.3): high}


@pytest.fixture
def orders():
    return pd.concat(
        [
            make_rows(curves(800, 500), order="smallest", draw=0),
            make_rows(curves(600, 700), order="random", draw=0),
            make_rows(curves(700, 710), order="random", draw=1),
            make_rows(curves(100, 490), order="largest", draw=0),
        ]
    )


def test_orders_are_told_by_their_means_and_counts(orders):
    told = findings.describe_orders(orders, 0.3)
    assert "smallest 65.0 %, random 67.8 % (2 draws, 65.0–70.5 %), largest 29.5 %" in told
    assert "more than chance in 1 of 2 (conv_1), behind in 1 (conv_2)" in told
    assert "differ by more than chance at 1 of 2 points" in told
    assert findings.describe_orders(orders[:0]) == ""


def test_the_claim_of_the_paper_is_judged(orders):
    assert "is not tested here: 30 % is the nearest" in findings.judge_smallest(orders)
    orders = at_most(orders)
    told = findings.judge_smallest(orders)
    assert "on every layer at 90 % (§4.4) does not hold here" in told
    assert "in 1 of 2, above every draw by more than chance in 1 (conv_1)" in told
    better = orders.assign(correct=orders["correct"].where(orders["order"] != "smallest", 850))
    assert "(§4.4) holds here" in findings.judge_smallest(better)
    assert "in 2 of 2, above every draw" in findings.judge_smallest(better)
    assert findings.judge_smallest(orders[:0]) == ""


def at_most(orders):
    return orders.assign(ratio=3 * orders["ratio"])


def test_stages_are_called_so(orders):
    stages = orders.assign(layer=orders["paper_name"], stage=orders["paper_name"])
    assert "the mean over 2 stages" in findings.describe_orders(stages)
    assert "on every stage" in findings.judge_smallest(stages)


def test_a_small_lead_holds_but_is_said_to_be_chance(orders):
    orders = at_most(orders)
    close = orders.assign(correct=700 + 5 * (orders["order"] == "smallest"))
    told = findings.judge_smallest(close)
    assert "holds here" in told
    assert "more than chance in 0, below every draw by more than chance in 0" in told


def test_each_network_has_a_line(orders):
    two = pd.concat([orders.assign(network="a, photographs"), orders.assign(network="b, digits")])
    assert findings.describe_orders(two).count("**a, photographs**: at 30 %") == 1
    assert len(findings.judge_smallest(two).splitlines()) == 2


def test_ways_are_split_for_the_chart(orders):
    parts = findings.split_ways(orders, "order")
    assert list(parts) == ["smallest", "random", "largest"]
    random = parts["random"].set_index(["layer", "ratio"]).loc[("conv_1", 0.3)]
    assert random["accuracy"] == 0.65
    assert random["accuracy_low"] == round(wilson(600, TOTAL)[0], 4)
    assert random["accuracy_high"] == round(wilson(700, TOTAL)[1], 4)
    assert findings.split_ways(orders[:0], "order") == {}


def test_of_many_layers_some_are_shown():
    counts = {(f"conv_{i}", ratio): 500 for i in range(13) for ratio in (0.0, 0.5)}
    frame = make_rows(counts, criterion="l1")
    shown = findings.split_ways(frame, "criterion", most=3)["l1"]
    assert list(dict.fromkeys(shown["layer"])) == ["conv_0", "conv_6", "conv_12"]
    two = pd.concat([frame.assign(network="a, x"), frame.assign(network="b, x")])
    shown = findings.split_ways(two, "criterion", most=4)["l1"]
    names = ["a: conv_0", "a: conv_12", "b: conv_0", "b: conv_12"]
    assert list(dict.fromkeys(shown["layer"])) == names
    shown = findings.split_ways(two, "criterion", most=2)["l1"]
    assert list(dict.fromkeys(shown["layer"])) == ["a: conv_6", "b: conv_6"]
    three = pd.concat([two, frame.assign(network="c, x")])
    shown = findings.split_ways(three, "criterion", most=2)["l1"]
    assert list(dict.fromkeys(shown["layer"])) == ["a: conv_6", "b: conv_6"]


def by_criterion(**correct):
    """At 50 and 90 %."""
    frames = []
    for name, (half, most) in correct.items():
        counts = {("conv_1", 0.0): 900, ("conv_1", 0.5): half, ("conv_1", 0.9): most}
        frames.append(make_rows(counts, criterion=name))
    return pd.concat(frames)


def test_criteria_are_counted_point_by_point():
    measured = by_criterion(l1=(800, 500), mean_l1=(700, 600), l2=(805, 498))
    compared = findings.compare_criteria(measured).set_index("criterion")
    assert compared.loc["mean_l1", ["points", "ahead", "behind", "late"]].tolist() == [2, 1, 1, 1]
    assert compared.loc["mean_l1", ["ahead_late", "behind_late"]].tolist() == [0, 1]
    assert compared.loc["l2", ["points", "ahead", "behind"]].tolist() == [2, 0, 0]
    assert compared.loc["l2", "control"] == pytest.approx(0.65)
    assert findings.compare_criteria(by_criterion(l2=(1, 1))).empty
    assert "no difference at 2 of 2 points" in findings.describe_l2(measured)
    assert "not both measured" in findings.describe_l2(by_criterion(l1=(1, 1)))
    assert findings.describe_l2(measured[:0]) == ""


def test_criteria_are_judged_by_what_was_measured():
    ahead = by_criterion(l1=(800, 500), mean_l1=(700, 400), mean_std=(801, 300))
    told = findings.judge_criteria(ahead).splitlines()
    assert len(told) == 2
    assert "(§4.5) holds here" in told[0]
    assert "mean_l1 at 2 (behind at 0)" in told[0]
    assert "and then drops (§4.5) holds here" in told[1]
    behind = by_criterion(l1=(700, 500), mean_l1=(700, 600), mean_std=(800, 600))
    told = findings.judge_criteria(behind)
    assert "does not hold here for mean_l1" in told
    assert "does not show here" in told
    assert findings.judge_criteria(by_criterion(l1=(700, 500))) == ""
    assert findings.judge_criteria(ahead[:0]) == ""


def test_agreement_is_told():
    pairs = [("l1", "l2", 0.9), ("l1", "taylor", 0.4), ("l2", "taylor", 0.6)]
    pairs += [("l1", "l1, greedy", 1.0), ("l1", "random", 0.45), ("l2", "random", 0.55)]
    overlaps = pd.DataFrame(pairs, columns=["one", "other", "overlap"]).assign(layer="conv_1")
    told = findings.describe_agreement(overlaps, 0.5)
    assert "l1 and l2 agree most (90 %" in told
    assert "l1 and taylor least (40 %); of 3 pairs, 1 " in told
    assert "45 % to 55 %" in told
    assert "by ℓ1 share 100 %" in told


def test_orders_see_the_same_images(few_digits):
    torch.manual_seed(0)
    network = tiny_network()
    measure = partial(findings.measure_orders, network, few_digits, ratios=[0.5])
    found = measure(draws=2, images=20, seed=3)
    assert found.groupby(["order", "draw"], sort=False).ngroups == 4
    assert len(set(found.loc[found["ratio"] == 0, "correct"])) == 1
    usual = measure_sensitivity(network, few_digits, ratios=[0.5], images=20, seed=3)
    smallest = found[found["order"] == "smallest"]
    assert smallest["correct"].tolist() == usual["correct"].tolist()
    with pytest.raises(ValueError, match="draws must be a whole number"):
        measure(draws=0)
    with pytest.raises(ValueError, match="images must be a whole number"):
        measure(images=61)
