"""Exercises of notebook 04: right, wrong in the usual ways, empty, nonsense."""

import pytest
import torch

from prunelab import exercises, load_model, make_plan, total_cost, trace


@pytest.fixture(scope="module")
def chain():
    torch.manual_seed(0)
    return trace(load_model("vgg16_x0_25"), torch.zeros(1, 3, 32, 32))


@pytest.fixture(scope="module")
def blocks():
    return trace(load_model("resnet34", num_classes=1000), torch.zeros(1, 3, 224, 224))


LOST = [0, 3, 5, 6]


def test_greedy_scores(chain):
    weight = chain.filters(chain.find("conv_2"))
    left = [i for i in range(weight.shape[1]) if i not in LOST]
    magnitude = weight.abs().sum((2, 3))  # (out, in)

    def judge(answer):
        return exercises.check_greedy(answer, chain, "conv_2", LOST)

    assert judge(magnitude[:, left].sum(1))
    assert judge(magnitude[:, left].sum(1).tolist())
    # what `make_plan` does by itself
    plan = make_plan(chain, {"conv_1": 0.25, "conv_2": 0.5}, strategy="greedy")
    gone = plan.removed[chain.find("conv_1")]
    kept = [i for i in range(weight.shape[1]) if i not in gone]
    scores = magnitude[:, kept].sum(1)
    assert exercises.check_greedy(scores, chain, "conv_2", gone)
    assert sorted(scores.argsort()[:8].tolist()) == plan.removed[chain.find("conv_2")]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda w, left: w.abs().sum((1, 2, 3)), "independent"),
        (lambda w, left: w[:, left].square().sum((1, 2, 3)).sqrt(), "ℓ2"),
        (lambda w, left: w[:, LOST].abs().sum((1, 2, 3)), "mixed up"),
        (lambda w, left: w[:, left].sum((1, 2, 3)), "absolute"),
        (lambda w, left: w[:, left].abs().mean((1, 2, 3)), "means"),
        (lambda w, left: torch.zeros(len(w)), "16 of 16 scores are others"),
        (lambda w, left: torch.zeros(3), "shape"),
        (lambda w, left: "conv_1", "tensor"),
        (lambda w, left: w.abs().sum((1, 2, 3)) * cut_filters(len(w)), "another cut"),
    ],
)
def test_wrong_scores_are_recognised(chain, wrong, said):
    weight = chain.filters(chain.find("conv_2"))
    left = [i for i in range(weight.shape[1]) if i not in LOST]
    verdict = exercises.check_greedy(wrong(weight, left), chain, "conv_2", LOST)
    assert verdict.right is False
    assert said in verdict.text


def cut_filters(count):
    kept = torch.ones(count)
    kept[LOST] = 0
    return kept


@pytest.mark.parametrize(
    "answer",
    [
        ["shortcut_1", "conv_9", "conv_11", "conv_13", "conv_15"],
        {"shortcut_1", "conv_11", "conv_13", "conv_15"},
        "conv_9, conv_11, conv_13, conv_15, layer2.0.downsample.0",
    ],
)
def test_tied_layers(blocks, answer):
    assert exercises.check_tied(answer, blocks, "conv_9")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (["conv_11", "conv_13", "conv_15"], "1 more must follow. What stands"),
        (["shortcut_1", "conv_11"], "2 more must follow."),
        (["shortcut_1", "conv_10", "conv_11", "conv_13", "conv_15"], "conv_10: such a layer reads"),
        (["shortcut_1", "conv_8", "conv_11", "conv_13", "conv_15"], "conv_8 can lose other"),
        (["conv_99"], "unknown layer 'conv_99'"),
        (7, "list of names"),
    ],
)
def test_other_layers_are_told(blocks, answer, said):
    verdict = exercises.check_tied(answer, blocks, "conv_9")
    assert verdict.right is False
    assert said in verdict.text


def test_the_leader(blocks):
    assert exercises.check_leader("shortcut_1", blocks, "conv_9")
    assert exercises.check_leader(["layer2.0.downsample.0"], blocks, "conv_9")
    for answer, said in (
        ("conv_9", "tied, but follows"),
        ("conv_10", "does not belong"),
        (["conv_9", "conv_11"], "one leads"),
        ("conv_0", "unknown layer"),
        (1.5, "list of names"),
    ):
        verdict = exercises.check_leader(answer, blocks, "conv_9")
        assert verdict.right is False
        assert said in verdict.text


def test_the_share_of_resnet34_c(blocks):
    ratios = {"shortcut_2": 0.2}
    with_shortcuts = total_cost(blocks, make_plan(blocks, ratios))["flops"]
    right = 1 - 3_374_446_592 / 3_644_493_824  # shared/paper: checked against Table 1
    assert exercises.check_share(right, blocks, ratios)
    assert exercises.check_share(round(right, 4), blocks, ratios)
    for answer, said in (
        (1 - with_shortcuts["after"] / with_shortcuts["before"], "projection shortcuts"),
        (1 - 20_051_112 / 21_608_616, "parameters"),
        (7.41, "per cent"),
        (1 - right, "what is left"),
        (3_644_493_824 - 3_374_446_592, "number of multiply-adds"),
        (0.2, "It is another"),
        ("7 %", "number is asked"),
    ):
        verdict = exercises.check_share(answer, blocks, ratios)
        assert verdict.right is False
        assert said in verdict.text, answer


def test_empty_answers(chain, blocks):
    for verdict in (
        exercises.check_greedy(..., chain, "conv_2", LOST),
        exercises.check_tied(..., blocks, "conv_9"),
        exercises.check_leader(..., blocks, "conv_9"),
        exercises.check_share(..., blocks, {"shortcut_2": 0.2}),
    ):
        assert verdict.right is None
        assert "is asked for" in repr(verdict)
