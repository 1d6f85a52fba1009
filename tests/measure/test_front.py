"""A front of ratios, found by measuring, and what curves promise."""

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from prunelab import (
    best_within,
    choose_ratios,
    evaluate,
    find_front,
    find_unmeasured,
    load_data,
    load_model,
    make_plan,
    measure_sensitivity,
    predict_accuracy,
    prune,
    total_cost,
    trace,
)
from prunelab.data import take
from prunelab.measure.front import _pick

RATIOS = (0.2, 0.4, 0.6, 0.8)


@pytest.fixture(scope="module")
def curves(model, few_digits):
    return measure_sensitivity(model, few_digits, ratios=RATIOS)


@pytest.fixture(scope="module")
def front(model, few_digits, graph, curves):
    return find_front(model, few_digits, curves, graph=graph, points=21)


# --- what curves promise ---


@pytest.mark.parametrize("per", ["layer", "stage"])
def test_at_measured_ratios_it_is_what_choose_ratios_predicts(graph, curves, per):
    for limit in (0.9, 0.7, 0.5):
        ratios = choose_ratios(curves, graph, max_flops=limit, per=per)
        ours = predict_accuracy(curves, graph, make_plan(graph, ratios))
        assert ours == pytest.approx(ratios.predicted["accuracy"], rel=1e-12)


def test_between_measured_numbers_the_curve_is_a_line(graph):
    rows = [("layer1.0.conv1", 0, 90), ("layer1.0.conv1", 4, 80), ("layer1.0.conv1", 8, 20)]
    frame = pd.DataFrame(rows, columns=["layer", "removed", "correct"])
    frame = frame.assign(total=100, ratio=frame["removed"] / 16, loss=0.0)

    def promise(removed):
        plan = make_plan(graph, {"layer1.0.conv1": removed / 16})
        return predict_accuracy(frame, graph, plan)

    assert promise(0) == 0.9
    assert promise(4) == pytest.approx(0.9 * 80.5 / 90.5)
    assert promise(6) == pytest.approx((promise(4) + promise(8)) / 2)
    assert promise(15) == promise(8)  # beyond the last: as there
    both = make_plan(graph, {"layer1.0.conv1": 0.25, "layer2.0.conv1": 0.5})
    assert predict_accuracy(frame, graph, both) == promise(4)
    assert find_unmeasured(frame, graph, both) == ["layer2.0.conv1"]
    assert find_unmeasured(frame, graph, make_plan(graph, {"conv_2": 0.5})) == []


def test_a_stage_that_was_measured_as_one(model, few_digits, graph):
    stages = measure_sensitivity(model, few_digits, layers=["stage1", "stage2"], ratios=RATIOS)
    row = stages[(stages["layer"] == "stage1") & (stages["ratio"] == 0.4)].iloc[0]
    at_one = predict_accuracy(stages, graph, make_plan(graph, {"stage1": 0.4}))
    assert at_one == pytest.approx(row["accuracy"], abs=0.02)
    # 7 of 16 filters of each of three layers, or 10, 7 and 4
    spread = {"conv_2": 10 / 16, "conv_4": 7 / 16, "conv_6": 4 / 16}
    assert predict_accuracy(stages, graph, make_plan(graph, spread)) == at_one
    assert find_unmeasured(stages, graph, make_plan(graph, {"stage3": 0.2})) == [
        f"layer3.{i}.conv1" for i in range(3)
    ]
    twice = pd.concat([stages, stages.assign(layer="layer1.0.conv1")])
    with pytest.raises(ValueError, match=r"both prune layer1\.0\.conv1"):
        predict_accuracy(twice, graph, make_plan(graph, {}))


def test_it_is_fast_enough_for_a_slider():
    torch.manual_seed(0)
    graph = trace(load_model("resnet110"), torch.zeros(1, 3, 32, 32))
    leaders = [group.leader for group in graph.groups if group.prunable]
    levels = np.arange(10)
    frame = pd.concat(
        [pd.DataFrame({"layer": n, "removed": levels, "correct": 99 - levels}) for n in leaders]
    ).assign(total=100, ratio=0.0, loss=0.0)
    plan, times = make_plan(graph, {"*": 0.2}), []
    for _ in range(10):
        started = time.perf_counter()
        predict_accuracy(frame, graph, plan)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.01


# --- the front ---


def test_each_row_is_what_pruning_and_counting_give(model, few_digits, graph, front):
    assert len(front) == 21
    assert list(front["point"]) == list(range(21))
    assert (front["found"].iloc[0], front["ratios"].iloc[0]) == ("whole", {})
    assert set(front["found"]) <= {"whole", "layers", "stages", "uniform", "changed"}
    for _, row in front.iloc[::4].iterrows():
        plan = make_plan(graph, row["ratios"])
        counted = evaluate(prune(model, plan, graph=graph), few_digits.val)
        assert (row["correct"], row["total"]) == (counted.correct, counted.total)
        assert row["loss"] == pytest.approx(counted.loss, rel=1e-4)
        assert row["flops"] == total_cost(graph, plan).loc["after", "flops"]
    plans = [str(make_plan(graph, ratios).removed) for ratios in front["ratios"]]
    assert len(set(plans)) == len(plans)  # none was measured twice


def test_on_the_front_none_is_both_cheaper_and_more_accurate(front):
    for _, row in front.iterrows():
        better = (front["flops"] <= row["flops"]) & (front["correct"] >= row["correct"])
        same = (front["flops"] == row["flops"]) & (front["correct"] == row["correct"])
        assert row["on_front"] == (not (better & ~same).any()) or same.sum() > 1
    best = front[front["on_front"]].sort_values("flops")["correct"]
    assert best.is_monotonic_increasing
    assert best.is_unique


def test_it_is_no_worse_than_what_it_began_with(front):
    for left in (0.95, 0.9, 0.8, 0.7):
        begun = front[(front["found"] != "changed") & (front["flops_left"] <= left)]
        if len(begun):
            found = best_within(front, max_flops=left)
            assert found["correct"] >= begun["correct"].max()
    changed = front[front["found"] == "changed"]
    assert changed["on_front"].sum() > 0  # and the search added to the front


def test_a_seed_finds_the_same(model, few_digits, graph, curves, front):
    again = find_front(model, few_digits, curves, graph=graph, points=21)
    pd.testing.assert_frame_equal(again, front)


def test_stopped_it_goes_on_from_its_store(
    model, few_digits, graph, curves, front, tmp_path, monkeypatch
):
    seen, store = [], tmp_path / "front.jsonl"

    def stop(frame):
        seen.append(frame)
        if len(frame) == 15:
            raise KeyboardInterrupt

    how = {"graph": graph, "points": 21, "store": store}
    with pytest.raises(KeyboardInterrupt, match=r"stopped after 15 of 21 networks.*goes on from"):
        find_front(model, few_digits, curves, on_point=stop, **how)
    assert [len(frame) for frame in seen] == list(range(1, 16))
    assert list(seen[-1]["ratios"]) == list(front["ratios"].iloc[:15])
    assert len(store.read_text().splitlines()) == 15
    ran, reports = [], []
    monkeypatch.setattr(
        "prunelab.measure.front.evaluate", lambda *a, **k: ran.append(1) or evaluate(*a, **k)
    )
    again = find_front(model, few_digits, curves, on_progress=lambda *at: reports.append(at), **how)
    assert len(ran) == 21 - 15
    assert list(again["correct"]) == list(front["correct"])
    assert reports == sorted(reports)
    assert reports[-1] == (21 * 60, 21 * 60)


def test_curves_of_stages_and_few_neighbours(model, few_digits, graph):
    stages = measure_sensitivity(model, few_digits, layers=["stage1"], ratios=(0.5,), images=20)
    front = find_front(model, few_digits, stages, graph=graph, images=20, points=40)
    assert set(front["total"]) == {20}
    assert len(front) < 40  # there are no more
    by_stage = {
        str(r) for r, f in zip(front["ratios"], front["found"], strict=True) if f == "layers"
    }
    assert by_stage == {"{'stage1': 0.5}"}


def test_time_is_measured_where_it_is_a_goal(model, few_digits, graph, curves):
    how = {"graph": graph, "images": 20, "points": 3}
    front = find_front(model, few_digits, curves, max_latency_ms=1000, **how)
    assert (front["latency_ms"] > 0).all()
    assert best_within(front, max_latency_ms=1000)["correct"] == front["correct"].max()
    with pytest.raises(ValueError, match=r"none of 3 networks .* it takes [\d.]+ ms"):
        best_within(front, max_latency_ms=1e-3)


def test_best_within_a_goal():
    front = pd.DataFrame(
        {
            "point": range(4),
            "flops": [100_000, 90_000, 70_000, 60_000],
            "flops_left": [1.0, 0.9, 0.7, 0.6],
            "correct": [98, 99, 97, 80],
            "accuracy": [0.98, 0.99, 0.97, 0.8],
        }
    )
    assert best_within(front, max_flops=0.95)["point"] == 1
    assert best_within(front, max_flops=90_000)["point"] == 1
    assert best_within(front, max_loss=0.01)["point"] == 2  # the cheapest; 0.98 - 0.97 in floats
    assert best_within(front, max_loss=0)["point"] == 1
    assert best_within(front, max_flops=0.7, max_loss=0.01)["point"] == 2
    sentence = (
        r"none of 4 networks meets the goal; of the nearest, point 2, 70.0% of the multiply-adds "
        r"are left and 1.0 points are lost\. Allow more"
    )
    with pytest.raises(ValueError, match=sentence):
        best_within(front, max_flops=0.65, max_loss=0.02)
    with pytest.raises(ValueError, match=r"a goal is missing, such as max_flops=0.7"):
        best_within(front)
    with pytest.raises(ValueError, match="no times were measured"):
        best_within(front, max_latency_ms=8)
    for wrong in (-0.1, 5, True, "1", float("nan")):
        with pytest.raises(ValueError, match=r"max_loss must be a number from 0"):
            best_within(front, max_loss=wrong)


def test_images_from_files_are_decoded_once_and_stay_the_same(folder):
    split = load_data(folder, image_size=64, device="cpu").val
    picked = _pick(split, 3, seed=0)
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:3]
    for (ours, labels), (theirs, own) in zip(
        picked.batches(2), take(split, order).batches(2), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        assert labels.tolist() == own.tolist()


def test_bad_input(model, few_digits, graph, curves):
    for wrong, message in [
        ({"points": 0}, "points must be a whole number"),
        ({"images": 10_000}, "images must be a whole number"),
        ({"max_flops": 3}, "a fraction that may be left"),
        ({"criterion": "l3"}, "unknown criterion"),
    ]:
        with pytest.raises(ValueError, match=message):
            find_front(model, few_digits, curves, graph=graph, **wrong)
    split = replace(few_digits.val)  # a split will do
    assert len(find_front(model, split, curves, graph=graph, points=2)) == 2
