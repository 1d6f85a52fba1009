"""The exercises of notebook 06: right, wrong, empty and nonsense answers."""

import pytest
import torch
from small import tiny_network

from prunelab import TrainSettings, exercises, train


@pytest.mark.parametrize("correction", [0, 1])
def test_mean_std(correction):
    assert exercises.check_mean_std(lambda m: m.std((2, 3), correction=correction).mean(0))
    assert exercises.check_mean_std(lambda m: m.flatten(2).std(2).mean(0).tolist())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda m: m.mean((0, 2, 3)), "`mean_mean`"),
        (lambda m: m.relu().std((2, 3)).mean(0), "after ReLU"),
        (lambda m: m.std((0, 2, 3)), "over all images and pixels at once"),
        (lambda m: m.var((2, 3)).mean(0), "mean of the variances"),
        (lambda m: m.mean((2, 3)).std(0), "from image to image"),
        (lambda m: m.std(0).mean((1, 2)), "over images at each pixel"),
        (lambda m: m.square().sum((2, 3)).sqrt().mean(0), "`mean_l2`"),
        (lambda m: m.std((2, 3)), "mean over images is left"),
        (lambda m: m.std((1, 2, 3)), "one number for each image"),
        (lambda m: m.std(), "shape"),
        (lambda m: m.abs().amax((0, 2, 3)), "The first filter should have"),
        (lambda m: m.nonsense(), "raised AttributeError"),
        (lambda m: None, "returns nothing"),
        (0.5, "a function is asked for"),
    ],
)
def test_wrong_mean_stds(answer, said):
    verdict = exercises.check_mean_std(answer)
    assert verdict.right is False
    assert said in verdict.text


def test_chance():
    assert exercises.check_chance(0.3, 0.3)
    assert exercises.check_chance(5 / 16, 0.3)
    wrong = {30: "per cent", 0.09: "of all filters are in both", 0.7: "keeps", -1: "no share"}
    wrong |= {0.5: "Take one of them", "half": "a number is asked for"}
    for answer, said in wrong.items():
        verdict = exercises.check_chance(answer, 0.3)
        assert verdict.right is False
        assert said in verdict.text


@pytest.fixture(scope="module")
def trained(digits):
    """A network whose every second filter of the second layer is nearly nothing."""
    torch.manual_seed(0)
    network = tiny_network()
    train(network, digits, TrainSettings(epochs=4, lr=0.05, batch_size=64, seed=0))
    norm = network[4]
    with torch.no_grad():
        network[3].weight[::2] *= 0.01
        norm.weight[::2] = norm.bias[::2] = 0
        norm.running_mean[::2] *= 0.01
        norm.running_var[::2] *= 0.0001
    return network


def largest(weight):
    return weight.abs().amax((1, 2, 3))


def test_an_own_criterion_is_set_beside_chance(trained, digits):
    verdict = exercises.check_own_criterion(largest, trained, digits, "conv_2", 0.4)
    assert verdict, verdict
    assert "of 143 validation images right, 3 random choices" in verdict.text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda w: -largest(w), "Turned round"),
        (lambda w: w.abs().sum((1, 2, 3)), "as ℓ1 does"),
        (lambda w: w.abs().mean((1, 2, 3)), "as ℓ1 does"),
        (lambda w: w.abs().sum((0, 2, 3)), "input maps; the 16 filters are along the first"),
        (lambda w: torch.ones(16), "All scores are equal"),
        (lambda w: 1 / torch.zeros(16), "not finite"),
        (lambda w: w, "shape"),
        (lambda w: torch.arange(16.0), "ahead of all"),
        ("l1", "a function is asked for"),
    ],
)
def test_wrong_criteria(trained, digits, answer, said):
    verdict = exercises.check_own_criterion(answer, trained, digits, "conv_2", 0.4)
    assert verdict.right is False
    assert said in verdict.text


def test_empty_answers(trained, digits):
    assert "one number for each filter" in repr(exercises.check_mean_std(...))
    assert exercises.check_chance(..., 0.3).right is None
    assert exercises.check_own_criterion(..., trained, digits, "conv_2").right is None
