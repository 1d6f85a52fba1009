"""Exercises of notebook 03: right, wrong in the usual ways, empty, nonsense."""

import pytest
import torch

from prunelab import (
    choose_ratios,
    exercises,
    find_weights,
    load_model_and_data,
    measure_sensitivity,
    trace,
    uniform_ratios,
)


@pytest.fixture(scope="module")
def lesson():
    weights = find_weights("resnet20-digits")
    network, splits = load_model_and_data("resnet20", "digits", weights=weights, device="cpu")
    graph = trace(network, torch.zeros(splits.image_shape))
    measured = measure_sensitivity(network, splits, ratios=[0.2, 0.5, 0.8])
    return network, graph, splits, measured


def test_ratios_that_beat_equal_ones(lesson):
    network, graph, splits, measured = lesson
    chosen = choose_ratios(measured, graph, max_flops=0.75)
    verdict = exercises.check_ratios(chosen, network, graph, splits, max_flops=0.75)
    assert verdict
    assert f"of {len(splits.val)}" in verdict.text
    assert f"of {len(splits.test)}" in verdict.text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"conv_2": 0.1}, "more must go"),
        ({"conv_2": 0}, "Nothing is removed"),
        ({}, "Nothing is removed"),
        ({"*": 0.3}, "equal ratios"),
        ({"stage1": 0.3, "stage2": 0.3, "stage3": 0.3}, "equal ratios"),
        ({"*": 0.9}, "equal ratios"),
        ({"stage1": 0.95, "stage2": 0.9, "stage3": 0.9}, "not better"),
        ({"conv_3": 0.3}, "cannot be pruned"),
        ({"conv_99": 0.3}, "unknown layer"),
        ({"conv_2": 1.5}, "must be a number in [0, 1)"),
        ({"conv_2": "much"}, "number is asked"),
        ([0.3], "dict"),
        (0.3, "dict"),
    ],
)
def test_wrong_ratios_are_told(lesson, answer, said):
    network, graph, splits, _ = lesson
    verdict = exercises.check_ratios(answer, network, graph, splits, max_flops=0.75)
    assert verdict.right is False
    assert said in verdict.text


def test_one_ratio_for_each_stage(lesson):
    _, graph, _, measured = lesson
    staged = choose_ratios(measured, graph, max_flops=0.75, per="stage")
    layered = choose_ratios(measured, graph, max_flops=0.75)
    verdict = exercises.check_stages(dict(staged), measured, graph, max_flops=0.75)
    assert verdict
    for own in (staged, layered):
        assert f"{100 * own.predicted['accuracy']:.1f} %" in verdict.text
    for answer, said in (
        (layered, "no stage of this network"),
        (uniform_ratios(graph, max_flops=0.75), "no stage of this network"),
        ({"stage1": 0.1}, "the budget is 75.0 %"),
        ({}, "leave 100.0 %"),
        ({"stage1": 0.8, "stage2": 0.8, "stage3": 0.8}, "not what choose_ratios finds"),
        ({"stage1": 2}, "must be a number in [0, 1)"),
        ("stage1", "dict"),
    ):
        verdict = exercises.check_stages(answer, measured, graph, max_flops=0.75)
        assert verdict.right is False
        assert said in verdict.text, answer


def test_empty_answers(lesson):
    network, graph, splits, measured = lesson
    for verdict in (
        exercises.check_ratios(..., network, graph, splits, max_flops=0.75),
        exercises.check_stages(..., measured, graph, max_flops=0.75),
    ):
        assert verdict.right is None
        assert repr(verdict).startswith("Nothing is filled in yet. A dict")
