"""The exercises of notebook 05: right, wrong, empty and nonsense answers."""

from dataclasses import replace

import pytest
import torch
from small import tiny_network

from prunelab import exercises, findings, make_plan, prune, trace


@pytest.mark.parametrize("answer", [lambda r: (r / 2) / (1 - r / 2), 1 / 3, torch.tensor(1 / 3)])
def test_the_second_ratio(answer):
    verdict = exercises.check_second_round(answer, 0.5)
    assert verdict, verdict
    assert "multiplies" in verdict.text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (0.25, "finds fewer: both together would remove 0.438"),
        (lambda r: r / 2, "is half of"),
        (0.5, "is what both rounds remove together"),
        (2 / 3, "fraction that stays"),
        (1.5, "is no ratio"),
        (0.4, "both remove 0.55 together"),
        (lambda r: 1 / 3, "both remove"),
        ("a third", "a number is asked for"),
        (lambda: 0.3, "raised TypeError"),
    ],
)
def test_wrong_second_ratios(answer, said):
    verdict = exercises.check_second_round(answer, 0.5)
    assert verdict.right is False
    assert said in verdict.text


@pytest.fixture(scope="module")
def rounds():
    torch.manual_seed(1)
    graph = trace(network := tiny_network(), torch.zeros(1, 3, 32, 32))
    first = prune(network, make_plan(graph, {"*": 0.25}))
    second = prune(first, findings.plan_second_round(first, graph, 0.5))
    return first.pruning_plan, second.pruning_plan, graph, "conv_2"


def test_second_filters(rounds):
    first, second, graph, layer = rounds
    name = graph.find(layer)
    before, after = first.keep[name], second.keep[name]
    gone = sorted(set(before) - set(after))
    check = exercises.check_second_filters
    assert check(gone, *rounds)
    assert check(torch.tensor(gone), *rounds)
    wrong = {
        "places in the network": [before.index(number) for number in gone],
        "went in the first round": set(range(16)) - set(before),
        "in both rounds together": set(range(16)) - set(after),
        "stay after both": after,
        "stayed after the first": before,
        "there is no 99": [*gone, 99],
        "1 of your filters did not go in the second round, and 0": [*gone, after[0]],
        "whole numbers": [0.5],
        "a number is asked for": ["conv_2"],
        "a list of filters' numbers": 3,
    }
    for said, answer in wrong.items():
        verdict = check(answer, *rounds)
        assert verdict.right is False, said
        assert said in verdict.text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (80, "do not fill a batch"),
        (2590, "how many images are seen"),
        (41, "That is one epoch."),
        (40, "That is one epoch, and without"),
        (81, "do not go on from one epoch into the next"),
        (10, "of the validation split"),
        (7, "1,295 images to learn from, in batches of 32; 2 epochs"),
        ("many", "a number is asked for"),
    ],
)
def test_wrong_steps(digits, answer, said):
    verdict = exercises.check_steps(answer, digits, 32, 2)
    assert verdict.right is False
    assert said in verdict.text


def test_steps(digits, few_digits):
    assert exercises.check_steps(82, digits, 32, 2)
    assert exercises.check_steps(41, digits, 32)
    assert exercises.check_steps(8, few_digits, 32)
    train = few_digits.train
    odd = replace(train, images=train.images[:33], labels=train.labels[:33])
    odd = replace(few_digits, train=odd)
    assert exercises.check_steps(1, odd, 32)  # batch norm cannot learn from one image


def test_empty_answers(rounds, digits):
    assert "ratio of the second round" in repr(exercises.check_second_round(...))
    assert exercises.check_second_filters(..., *rounds).right is None
    assert exercises.check_steps(None, digits, 32).right is None
