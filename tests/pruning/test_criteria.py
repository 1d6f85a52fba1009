"""Each criterion against a loop that a reader can check."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunelab import compare_plans, load_model, make_plan, score_filters, trace

LAYER = "layer1.1.conv1"


@pytest.fixture(scope="module")
def traced(digits):
    torch.manual_seed(0)
    model = load_model("resnet20").train()
    for images, _ in digits.val.batches(200):  # batch norms that have seen something
        model(images)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
    return model, trace(model, torch.zeros(1, 3, digits.val.image_size, digits.val.image_size))


def maps_of(model, split, n):
    """What LAYER gives for the first images, in evaluation mode."""
    found = []
    handle = model.get_submodule(LAYER).register_forward_hook(lambda m, i, out: found.append(out))
    with torch.no_grad():
        model.eval()(next(iter(split.batches(n)))[0])
    handle.remove()
    model.train()
    return found[0]


WEIGHTS = {
    "l1": lambda w: [sum(abs(x) for x in f.flatten().tolist()) for f in w],
    "l2": lambda w: [sum(x * x for x in f.flatten().tolist()) ** 0.5 for f in w],
    "fpgm": lambda w: [sum(float((f - g).pow(2).sum().sqrt()) for g in w) for f in w],
}


@pytest.mark.parametrize("criterion", WEIGHTS)
def test_criteria_of_weights(traced, criterion):
    model, graph = traced
    weight = model.get_submodule(LAYER).weight.detach()
    ours = score_filters(graph, criterion)
    assert list(ours) == graph.layers
    assert torch.allclose(ours[LAYER], torch.tensor(WEIGHTS[criterion](weight)), rtol=1e-4)


def test_the_scale_of_the_norm_behind(traced):
    model, graph = traced
    scale = model.get_submodule("layer1.1.bn1").weight.abs()
    assert torch.equal(score_filters(graph, "bn_scale")[LAYER], scale)
    bare = trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)), torch.zeros(1, 3, 8, 8))
    words = "needs a batch norm with a scale behind each layer; 0 has none"
    with pytest.raises(ValueError, match=words):
        score_filters(bare, "bn_scale")


MAPS = {  # of the maps of one image (filters, h, w) -> (filters,)
    "mean_mean": lambda maps: maps.mean((1, 2)),
    "mean_std": lambda maps: maps.flatten(1).std(1, correction=0),
    "mean_l1": lambda maps: maps.abs().sum((1, 2)),
    "mean_l2": lambda maps: maps.square().sum((1, 2)).sqrt(),
    "var_l2": lambda maps: maps.square().sum((1, 2)).sqrt(),
}


@pytest.mark.parametrize("criterion", MAPS)
def test_criteria_of_maps(traced, digits, criterion, monkeypatch):
    model, graph = traced
    maps = maps_of(model, digits.val, len(digits.val)).double()
    each = torch.stack([MAPS[criterion](image) for image in maps])  # (images, filters)
    truth = each.var(0, correction=0) if criterion == "var_l2" else each.mean(0)
    assert torch.allclose(score_filters(graph, criterion, data=digits.val)[LAYER], truth, rtol=1e-5)
    monkeypatch.setattr("prunelab.pruning.criteria.BATCH", 37)  # in uneven pieces, the same
    assert torch.allclose(score_filters(graph, criterion, data=digits.val)[LAYER], truth, rtol=1e-5)
    few = []
    for seed in (1, 1, 2):
        few.append(score_filters(graph, criterion, data=digits, images=50, seed=seed)[LAYER])
    assert torch.equal(few[0], few[1])
    assert not torch.equal(few[0], few[2])
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_taylor(traced, digits, monkeypatch):
    model, graph = traced
    monkeypatch.setattr("prunelab.pruning.criteria.BATCH", 100)
    weight = model.get_submodule(LAYER).weight
    truth, batches = torch.zeros(len(weight), dtype=torch.double), list(digits.val.batches(100))
    model.eval()
    for images, labels in batches:
        (g,) = torch.autograd.grad(F.cross_entropy(model(images), labels), [weight])
        for j in range(len(weight)):
            truth[j] += (g[j] * weight[j]).sum().double() ** 2 / len(batches)
    model.train()
    assert torch.allclose(score_filters(graph, "taylor", data=digits.val)[LAYER], truth, rtol=1e-4)
    assert all(p.grad is None for p in model.parameters())


def test_orders_and_overlaps(traced, digits):
    _, graph = traced
    orders = ("smallest", "largest", "random")
    plans = {order: make_plan(graph, {"*": 0.5}, order=order) for order in orders}
    scores = score_filters(graph)[LAYER]
    gone = plans["largest"].removed[LAYER]
    assert sorted(scores.topk(8).indices.tolist()) == gone
    table = compare_plans(plans)
    pair = table[(table["one"] == "smallest") & (table["other"] == "largest")]
    assert list(pair["layer"]) == [group.leader for group in graph.groups if group.prunable]
    assert (pair["overlap"] == 0).all()
    criteria = {}
    for criterion in ("l1", "mean_std", "bn_scale"):
        criteria[criterion] = make_plan(graph, {"*": 0.5}, criterion=criterion, data=digits)
    criteria["greedy"] = make_plan(graph, {"*": 0.5}, strategy="greedy")
    overlap = compare_plans(criteria).groupby(["one", "other"])["overlap"].mean()
    assert overlap["l1", "greedy"] == 1  # no input of a first conv of a block goes here
    assert overlap.between(0, 1).all()


def test_bad_choices(traced):
    _, graph = traced
    with pytest.raises(ValueError, match="unknown criterion 'mean_stdd'; did you mean 'mean_std'"):
        score_filters(graph, "mean_stdd")
    with pytest.raises(ValueError, match=r"criterion 'taylor' looks at images: pass data="):
        make_plan(graph, {"*": 0.5}, criterion="taylor")
    words = r"'greedy' leaves kernels out, so it needs a criterion of weights \(l1, l2, fpgm\)"
    with pytest.raises(ValueError, match=words):
        make_plan(graph, {"*": 0.5}, criterion="bn_scale", strategy="greedy")
