"""The checks of 02_removing_a_filter: right, wrong, empty and nonsense answers."""

import math

import pytest
import torch
from small import shake

from prunelab import exercises, load_model, make_plan, prune, trace

CONV, NORM, READER = "layer1.0.conv1", "layer1.0.bn1", "layer1.0.conv2"
PARTS = ("weight", "bias", "running_mean", "running_var")


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    return trace(shake(load_model("resnet20")), torch.zeros(1, 3, 32, 32))


def by_hand(graph, keep=None):
    """What a student should give."""
    state = graph.model.state_dict()
    norms = state[f"{CONV}.weight"].abs().sum((1, 2, 3))
    keep = norms.argsort()[4:].sort().values if keep is None else keep(norms)
    found = {f"{NORM}.{part}": state[f"{NORM}.{part}"][keep] for part in PARTS}
    found[f"{CONV}.weight"] = state[f"{CONV}.weight"][keep]
    return found | {f"{READER}.weight": state[f"{READER}.weight"][:, keep]}


def without(found, *names):
    return {name: tensor for name, tensor in found.items() if name not in names}


def test_removal(graph):
    verdict = exercises.check_removal(by_hand(graph), graph, "conv_2", 0.25)
    assert verdict
    assert "in 6 of 116 tensors" in verdict.text
    whole = prune(graph.model, make_plan(graph, {"conv_2": 0.25})).state_dict()
    assert exercises.check_removal(whole, graph, CONV, 0.25)


def test_removal_of_a_chain():
    torch.manual_seed(0)
    vgg = trace(shake(load_model("vgg16_x0_25")), torch.zeros(1, 3, 32, 32))
    state = prune(vgg.model, make_plan(vgg, {"conv_13": 0.5})).state_dict()
    assert exercises.check_removal(state, vgg, "conv_13", 0.5)
    verdict = exercises.check_removal(without(state, "classifier.0.weight"), vgg, "conv_13", 0.5)
    assert "classifier.0.weight" in verdict.text
    assert "read the maps" in verdict.text


WRONG_REMOVALS = {
    "no reader": (lambda g: without(by_hand(g), f"{READER}.weight"), "read the maps"),
    "old reader": (
        lambda g: by_hand(g) | {f"{READER}.weight": g.filters(READER)},
        "read the maps",
    ),
    "no running mean": (
        lambda g: without(by_hand(g), f"{NORM}.running_mean"),
        f"{NORM}.running_mean: batch norm keeps",
    ),
    "no running variance": (
        lambda g: without(by_hand(g), f"{NORM}.running_var"),
        f"{NORM}.running_var: batch norm keeps",
    ),
    "no bias": (lambda g: without(by_hand(g), f"{NORM}.bias"), "entries of removed maps"),
    "no filters": (lambda g: without(by_hand(g), f"{CONV}.weight"), "all still there"),
    "wrong axis": (
        lambda g: by_hand(g) | {f"{CONV}.weight": g.filters(CONV)[:, :12]},
        "along dimension 1",
    ),
    "wrong axis of the reader": (
        lambda g: by_hand(g) | {f"{READER}.weight": g.filters(READER)[:12]},
        "input channels, in dimension 1",
    ),
    "both axes": (
        lambda g: by_hand(g) | {f"{CONV}.weight": g.filters(CONV)[:12, :12]},
        "along dimension 0 and 1",
    ),
    "largest": (
        lambda g: by_hand(g, lambda norms: norms.argsort()[:-4].sort().values),
        "largest norms",
    ),
    "ℓ2": (
        lambda g: by_hand(g, lambda norms: torch.arange(12)),
        "other filters than those with the smallest",
    ),
    "too few": (
        lambda g: by_hand(g, lambda norms: norms.argsort()[3:].sort().values),
        "so you removed 3",
    ),
    "kept what goes": (
        lambda g: by_hand(g, lambda norms: norms.argsort()[:4].sort().values),
        "kept those that should go",
    ),
    "another order": (
        lambda g: by_hand(g, lambda norms: norms.argsort()[4:].flip(0)),
        "another order",
    ),
    "other slices in the reader": (
        lambda g: by_hand(g) | {f"{READER}.weight": g.filters(READER)[:, :12]},
        "other slices than the filters that are gone",
    ),
    "zeroed": (
        lambda g: by_hand(g) | {f"{CONV}.weight": torch.zeros(16, 16, 3, 3)},
        "slices to zero",
    ),
    "other numbers": (
        lambda g: by_hand(g) | {f"{CONV}.weight": torch.ones(12, 16, 3, 3)},
        "not in it before",
    ),
    "flat": (
        lambda g: by_hand(g) | {f"{CONV}.weight": torch.ones(12)},
        "keep its 4 dimensions",
    ),
    "another layer": (
        lambda g: by_hand(g) | {"conv1.weight": torch.ones(16, 3, 3, 3)},
        "conv1.weight does not change",
    ),
    "unknown": (lambda g: {"conv_2": torch.ones(3)}, "no 'conv_2' in the state dict"),
    "no tensor": (lambda g: {f"{CONV}.weight": 3}, "should be a tensor"),
    "nothing": (lambda g: {}, "A dict"),
    "a list": (lambda g: [1], "A dict"),
}


@pytest.mark.parametrize("case", WRONG_REMOVALS)
def test_wrong_removal(graph, case):
    answer, said = WRONG_REMOVALS[case]
    verdict = exercises.check_removal(answer(graph), graph, "conv_2", 0.25)
    assert verdict.right is False
    assert said in verdict.text


def right_count(n_in, n_out, k, h, w):
    return n_in * n_out * k**2 * h * w


def test_multiply_adds():
    verdict = exercises.check_multiply_adds(right_count)
    assert verdict
    assert "All 15 lines" in verdict.text
    assert "313,463,808" in verdict.text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda i, o, k, h, w: 2 * i * o * k * k * h * w, "counts two"),
        (lambda i, o, k, h, w: i * o * h * w, "leaves out k²"),
        (lambda i, o, k, h, w: i * o * k * h * w, "has k once"),
        (lambda i, o, k, h, w: i * o * k * k, "counts weights"),
        (lambda i, o, k, h, w: i * o * k * k * h * w + o * h * w, "adds the biases"),
        (lambda i, o, k, h, w: i * o * k * k * h * w + o, "adds the biases"),
        (lambda i, o, k, h, w: i * o * k * k * 4 * h * w, "twice as large a side"),
        (lambda i, o, k, h, w: i * o * k * k * (h + k - 1) * (w + k - 1), "size of the input"),
        (lambda i, o, k, h, w: i * o * k * k * h * h, "h twice"),
        (lambda i, o, k, h, w: i * o * k * k * h, "leaves out the width"),
        (lambda i, o, k, h, w: o * k * k * h * w, "leaves out the input channels"),
        (lambda i, o, k, h, w: i * k * k * h * w, "counts one filter"),
        (lambda i, o, k, h, w: 7, "should return 201,600, and returns 7"),
        (lambda i, o, k, h, w: float("inf"), "should return"),
        (lambda i, o: 7, "raised TypeError"),
        (lambda i, o, k, h, w: None, "returns nothing"),
        (lambda i, o, k, h, w: "many", "a number is asked for"),
        (7, "a function is asked for"),
    ],
)
def test_wrong_multiply_adds(wrong, said):
    verdict = exercises.check_multiply_adds(wrong)
    assert verdict.right is False
    assert said in verdict.text


def test_leaving_out_k_hits_only_the_linear_lines():
    verdict = exercises.check_multiply_adds(lambda i, o, k, h, w: i * o * h * w)
    assert "2 of 15 lines of Table 2 are right" in verdict.text


def test_rounding():
    verdict = exercises.check_rounding(
        lambda ratio, filters: min(math.ceil(round(ratio * filters, 9)), filters - 1)
    )
    assert verdict
    assert "All 8 rows" in verdict.text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda r, n: math.floor(r * n), "removes fewer filters"),
        (lambda r, n: round(r * n), "removes fewer filters"),
        (lambda r, n: math.ceil(r * n), "55.00000000000001"),
        (lambda r, n: math.ceil(round(r * n, 9)), "10 of 10 at 0.99"),
        (lambda r, n: math.ceil(round(r * n, 9)) + 1, "removes more filters"),
        (lambda r, n: r * n, "filters are whole"),
        (lambda r, n: n, "the last one stays"),
        (lambda r, n: n + 1, "removes"),
        (lambda r, n: -1, "removes -1"),
        (lambda r, n: float("nan"), "filters are whole"),
        (lambda r: 1, "raised TypeError"),
        (0.5, "a function is asked for"),
    ],
)
def test_wrong_rounding(wrong, said):
    verdict = exercises.check_rounding(wrong)
    assert verdict.right is False
    assert said in verdict.text


@pytest.mark.parametrize("name", ["floor", "round"])
def test_floor_and_round_miss_rows(name):
    rule = {"floor": math.floor, "round": round}[name]
    verdict = exercises.check_rounding(lambda ratio, filters: rule(ratio * filters))
    assert "resnet56-pruned-a" in verdict.text
    assert "10.4 %" in verdict.text


def leak(graph, gone):
    norm = graph.model.get_submodule(NORM)
    shift = norm.bias - norm.running_mean * norm.weight / (norm.running_var + norm.eps).sqrt()
    return shift.detach()


@pytest.fixture(scope="module")
def many(graph):
    return make_plan(graph, {"*": 0.5})


def test_leak(graph, many):
    gone = many.removed[CONV]
    verdict = exercises.check_leak(leak(graph, gone).relu()[gone], graph, many, "conv_2")
    assert verdict
    assert "of 8 zeroed filters" in verdict.text
    rounded = [round(float(number), 2) for number in leak(graph, gone).relu()[gone]]
    assert exercises.check_leak(rounded, graph, many, CONV)


WRONG_LEAKS = {
    "zeros": (lambda n, s: torch.zeros(16), "what does batch norm add"),
    "no ReLU": (lambda n, s: s, "a ReLU comes after it"),
    "bias": (lambda n, s: n.bias, "also takes its running mean off"),
    "bias, ReLU": (lambda n, s: n.bias.relu(), "its running mean is taken off, too"),
    "variance": (
        lambda n, s: (n.bias - n.running_mean * n.weight / (n.running_var + n.eps)).relu(),
        "the root of the running variance",
    ),
    "sign": (lambda n, s: (2 * n.bias - s).relu(), "not added"),
    "no deviation": (
        lambda n, s: (n.bias - n.running_mean * n.weight).relu(),
        "divides by the deviation",
    ),
    "no weight": (
        lambda n, s: (n.bias - n.running_mean / (n.running_var + n.eps).sqrt()).relu(),
        "scales by its weight",
    ),
    "order": (lambda n, s: s.relu().sort().values, "something else"),
    "other": (lambda n, s: torch.full((16,), 9.0), "something else"),
}


@pytest.mark.parametrize("case", WRONG_LEAKS)
def test_wrong_leak(graph, many, case):
    make, said = WRONG_LEAKS[case]
    gone = many.removed[CONV]
    norm = graph.model.get_submodule(NORM)
    answer = make(norm, leak(graph, gone))[gone]
    verdict = exercises.check_leak(answer, graph, many, "conv_2")
    assert verdict.right is False
    assert said in verdict.text


def test_leak_in_another_order_or_shape(graph, many):
    gone = many.removed[CONV]
    sent = leak(graph, gone).relu()
    turned = exercises.check_leak(sent[gone].flip(0), graph, many, "conv_2")
    assert turned.right is False
    assert "in the order" in turned.text
    whole = exercises.check_leak(sent, graph, many, "conv_2")
    assert whole.right is False
    assert "a number for each filter" in whole.text
    assert exercises.check_leak(torch.ones(3), graph, many, "conv_2").right is False
    assert exercises.check_leak("much", graph, many, "conv_2").right is False


def test_nothing_filled_in(graph, many):
    for verdict in (
        exercises.check_removal(..., graph, "conv_2", 0.25),
        exercises.check_multiply_adds(...),
        exercises.check_rounding(...),
        exercises.check_leak(..., graph, many, "conv_2"),
    ):
        assert verdict.right is None
