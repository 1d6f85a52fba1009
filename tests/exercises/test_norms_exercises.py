"""The checks of 01_filter_norms: right, wrong, empty and nonsense answers."""

import pytest
import torch
from small import shake

from prunelab import exercises, load_model, trace


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    return trace(shake(load_model("resnet20")), torch.zeros(1, 3, 32, 32))


def test_norms(graph):
    norms = graph.filters("layer1.0.conv1").abs().sum((1, 2, 3))
    verdict = exercises.check_norms(norms, graph, "conv_2")
    assert verdict
    assert f"Filter {norms.argmin()} of conv_2" in verdict.text
    assert exercises.check_norms(norms.tolist(), graph, "layer1.0.conv1")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda w: w.flatten(1).norm(dim=1), "ℓ2-norms"),
        (lambda w: (w**2).sum((1, 2, 3)), "sums of squares"),
        (lambda w: w.abs().mean((1, 2, 3)), "means"),
        (lambda w: w.sum((1, 2, 3)), "cancel"),
        (lambda w: w.sum((1, 2, 3)).abs(), "magnitudes of plain sums"),
        (lambda w: w.abs().amax((1, 2, 3)), "ℓ∞"),
        (lambda w: w.abs().sum((2, 3)), "norms of kernels"),
        (lambda w: w.abs().sum((0, 2, 3)), "input channels"),
        (lambda w: w.abs().sum(), "whole layer"),
        (lambda w: w.abs().sum((1, 2, 3)).sort().values, "sorted"),
        (lambda w: w.abs().sum((1, 2, 3)) / w.abs().sum((1, 2, 3)).max(), "divided by"),
        (lambda w: torch.ones(16), "over all dimensions but the first"),
        (lambda w: torch.ones(7), "shape (7,)"),
        (lambda w: "large", "a tensor is asked for"),
        (lambda w: {}, "a tensor is asked for"),
    ],
)
def test_wrong_norms(graph, wrong, said):
    verdict = exercises.check_norms(wrong(graph.filters("layer1.0.conv1")), graph, "conv_2")
    assert verdict.right is False
    assert said in verdict.text


def squeeze(graph, layer, share):
    """Make the smallest filter of a layer that share of the largest."""
    weight = graph.model.get_parameter(f"{graph.find(layer)}.weight")
    with torch.no_grad():
        norms = weight.abs().sum((1, 2, 3))
        weight[norms.argmin()] *= share * norms.max() / norms.min()


@pytest.fixture(scope="module")
def steep():
    """Stage 2 is steep in all layers, stage 3 in one alone."""
    torch.manual_seed(0)
    graph = trace(load_model("resnet20"), torch.zeros(1, 3, 32, 32))
    for i in range(8, 14):
        squeeze(graph, f"conv_{i}", 0.2)
    squeeze(graph, "conv_17", 0.01)
    return graph


@pytest.mark.parametrize(
    ("answer", "right", "said"),
    [
        ("stage2", True, "stage1"),
        (["stage2"], True, "only images can say"),
        ("stage3", False, "The steepest layer is in it"),
        ("stage1", False, "the flattest"),
        ("conv_2", False, "the stages are stage1, stage2 and stage3"),
        (["stage1", "stage2"], False, "one stage is asked for"),
        (2, False, "a list of names"),
    ],
)
def test_steepest(steep, answer, right, said):
    verdict = exercises.check_steepest(answer, steep)
    assert verdict.right is right
    assert said in verdict.text


def test_steepest_by_the_mean():
    torch.manual_seed(0)
    graph = trace(load_model("resnet20"), torch.zeros(1, 3, 32, 32))
    squeeze(graph, "conv_17", 0.01)
    for i in range(8, 14):
        squeeze(graph, f"conv_{i}", 0.1)
    for i in range(2, 8):  # half of the filters are small, but none is very small
        weight = graph.model.get_parameter(f"{graph.find(f'conv_{i}')}.weight")
        with torch.no_grad():
            weight[:14] *= 0.3
    verdict = exercises.check_steepest("stage1", graph)
    assert verdict.right is False
    assert "by the mean norm" in verdict.text


def test_filter_size(graph):
    verdict = exercises.check_filter_size(4, graph, "conv_19", "conv_2")
    assert verdict
    assert "576 magnitudes" in verdict.text
    assert "Size alone" in verdict.text
    assert "one size" in exercises.check_filter_size(1, graph, "conv_4", "conv_2").text


def test_filter_size_where_weights_matter_more(graph):
    weight = graph.model.get_parameter("layer3.2.conv2.weight")
    before = weight.detach().clone()
    with torch.no_grad():
        weight /= 100
    try:
        verdict = exercises.check_filter_size(4, graph, "conv_19", "conv_2")
        assert verdict
        assert "by more than the sizes" in verdict.text
    finally:
        with torch.no_grad():
            weight.copy_(before)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (0.25, "second over the first"),
        (16, "whole layers"),
        (576, "weights has a filter of conv_19"),
        (144, "weights has a filter of conv_2"),
        (64, "input channels of the second"),
        (1, "compared kernels"),
        (3, "a weight for each input channel"),
        ("more", "a number is asked for"),
    ],
)
def test_wrong_filter_size(graph, wrong, said):
    verdict = exercises.check_filter_size(wrong, graph, "conv_19", "conv_2")
    assert verdict.right is False
    assert said in verdict.text


def test_nothing_filled_in(graph):
    assert exercises.check_norms(..., graph, "conv_2").right is None
    assert exercises.check_steepest(..., graph).right is None
    assert exercises.check_filter_size(..., graph, "conv_19", "conv_2").right is None
