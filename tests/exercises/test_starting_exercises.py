"""The checks of 00_start_here: right, wrong, empty and nonsense answers."""

import pytest
import torch

from prunelab import exercises, load_model, make_plan, total_cost, trace

RATIOS = {"*": 0.5}


@pytest.fixture(scope="module")
def graph():
    return trace(load_model("resnet20"), torch.zeros(1, 3, 32, 32))


@pytest.fixture(scope="module")
def cost(graph):
    return total_cost(graph, make_plan(graph, RATIOS))


def test_flops_left(graph, cost):
    verdict = exercises.check_flops_left(cost.loc["after", "flops"], graph, RATIOS)
    assert verdict
    assert "50.5 % are left" in verdict.text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda c: c.loc["before", "flops"] / 2, "50 % of the whole, as if"),
        (lambda c: c.loc["before", "flops"] / 4, "25 % of the whole, as if"),
        (lambda c: c.loc["after", "params"], "number of parameters"),
        (lambda c: c.loc["before", "params_all"], "number of parameters"),
        (lambda c: c.loc["before", "flops"], "has the whole network"),
        (lambda c: c.loc["before", "flops"] - c.loc["after", "flops"], "So many go"),
        (lambda c: 2 * c.loc["after", "flops"], "counts the two once"),
        (lambda c: 0.505, "a share and it is the right one"),
        (lambda c: 0.6, "That is a share; the number"),
        (lambda c: 2.05e7, "close"),
        (lambda c: 7, "layer by layer"),
        (lambda c: "half", "a number is asked for"),
        (lambda c: float("nan"), "layer by layer"),
    ],
)
def test_wrong_flops_left(graph, cost, wrong, said):
    verdict = exercises.check_flops_left(wrong(cost), graph, RATIOS)
    assert verdict.right is False
    assert said in verdict.text


def test_layers_that_stay(graph):
    stay = ["conv_1", *(f"conv_{i}" for i in range(3, 20, 2))]
    assert "10 of 19" in exercises.check_layers_that_stay(stay, graph).text
    assert exercises.check_layers_that_stay([graph.find(name) for name in stay], graph)
    assert exercises.check_layers_that_stay(" ".join(stay), graph)


def test_no_layer_that_stays():
    graph = trace(load_model("vgg16").to("meta"), torch.zeros(1, 3, 32, 32, device="meta"))
    assert exercises.check_layers_that_stay([], graph)
    assert exercises.check_layers_that_stay(["conv_1"], graph).right is False


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([f"conv_{i}" for i in range(2, 19, 2)], "the ones that do lose"),
        (["conv_1", "conv_2"], "conv_2 does lose filters"),
        (["conv_1"], "9 more of 10 do"),
        ([f"conv_{i}" for i in range(3, 20, 2)], "1 more of 10 does. What of the very first?"),
        (["conv_99"], "unknown layer 'conv_99'"),
        (7, "a list of names"),
    ],
)
def test_wrong_layers_that_stay(graph, wrong, said):
    verdict = exercises.check_layers_that_stay(wrong, graph)
    assert verdict.right is False
    assert said in verdict.text


def test_nothing_filled_in(graph):
    assert exercises.check_flops_left(..., graph, RATIOS).right is None
    assert exercises.check_layers_that_stay(..., graph).right is None
