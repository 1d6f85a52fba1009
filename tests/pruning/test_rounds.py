"""Pruning again, in the middle of training, and at widths that hardware likes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunelab import (
    PruningPlan,
    check_optimizer,
    load_model,
    make_plan,
    mask,
    measure_latency,
    prune,
    prune_optimizer,
    silence,
    total_cost,
    trace,
)

X = torch.zeros(1, 3, 32, 32)


NAMES = ["resnet20", "resnext50_32x4d", "convnext_tiny", "shufflenet_v2_x0_5"]
OPTIMIZERS = [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop]


@pytest.mark.parametrize("name", NAMES)
def test_plans_speak_of_the_original_filters_and_compose(name):
    model = load_model(name).double().eval()
    first = make_plan(trace(model, X), {"*": 0.5})
    small = prune(model, first)
    second = make_plan(trace(small, X), {"*": 0.5})
    smaller = prune(small, second)
    assert all(set(second.keep[name]) <= set(kept) for name, kept in first.keep.items())
    assert second.widths == first.widths
    both = PruningPlan.from_json(second.to_json())  # both rounds in one, from a file's text
    again = prune(model, both)
    images = torch.randn(2, 3, 32, 32, dtype=torch.double)
    assert torch.equal(again(images), smaller(images))
    with pytest.raises(ValueError, match="were already removed"):
        prune(smaller, first)


def make_small(width):
    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 8, 3), *pooled)


def test_a_graph_of_another_network_is_refused():
    model = make_small(16)
    graph = trace(model, X)
    plan, first, same = (make_plan(graph, {"*": r}) for r in (0.5, 0.25, 0.0))
    wider, pruned, unlike = make_small(32), prune(model, first), make_small(16)
    unlike[1] = nn.Sequential(nn.Conv2d(16, 16, 1))
    wrong = r"graph was made for another network: 0.weight was \(16, 3, 3, 3\), and is \(32, "
    for network, words in ((wider, wrong), (pruned, "graph was made"), (unlike, "1 was ReLU")):
        for function in (prune, silence, mask):
            with pytest.raises(ValueError, match=words):
                function(network, plan, graph=graph)
    with pytest.raises(ValueError, match="graph was made for another network: what is left of 0"):
        prune(prune(model, same), plan, graph=graph)  # which has a past
    model[0].weight.data.zero_()
    for network in (copy.deepcopy(model), model.half()):
        assert prune(network, plan, graph=graph)[0].out_channels == 8


def test_groups_thinned_to_single_channels_stay_groups():
    """A grouped conv with one channel in each group looks depthwise; its plan knows better."""
    grouped = nn.Conv2d(8, 8, 3, groups=4)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), grouped, nn.Conv2d(8, 4, 1)).double()
    plan = make_plan(trace(model, X), {"0": 0.5, "1": 0.5})
    small = prune(model, plan)
    assert (small[1].groups, small[1].in_channels, plan.groups) == (4, 4, {"1": "stay"})
    assert not trace(small, X).group_of("0").prunable
    assert "Conv2d (1) keep parts of them equally wide" in trace(small, X).group_of("0").reason


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_goes_on_with_what_stays(kind):
    model = load_model("resnet20").train()
    settings = {"lr": 0.05, "momentum": 0.9} if kind is torch.optim.SGD else {"lr": 0.002}
    weights = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": 1e-3}, {"params": vectors, "lr": 0.01}]
    optimizer = kind(groups, **settings)
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
    plan = make_plan(trace(model, X), {"*": 0.5})
    small = prune(model, plan)
    words = r"conv1\.weight.* and 56 more would not be trained.*prune_optimizer"
    with pytest.raises(ValueError, match=words):
        check_optimizer(optimizer, small)
    carried = prune_optimizer(optimizer, model, small)
    assert [g["lr"] for g in carried.param_groups] == [g["lr"] for g in optimizer.param_groups]
    assert carried.param_groups[0]["weight_decay"] == 1e-3
    kept = plan.keep["layer1.0.conv1"]
    old = optimizer.state[model.layer1[0].conv1.weight]
    new = carried.state[small.layer1[0].conv1.weight]
    for key, value in old.items():
        expected = value[kept] if isinstance(value, torch.Tensor) and value.ndim else value
        assert torch.equal(torch.as_tensor(new[key]), torch.as_tensor(expected)), key
    before = [p.detach().clone() for p in small.parameters()]
    F.cross_entropy(small(images), labels).backward()
    carried.step()
    assert all(not torch.equal(old, p) for old, p in zip(before, small.parameters(), strict=True))
    assert all(p.grad is None for p in prune(model, plan).parameters())


def test_training_goes_on_as_if_the_filters_had_never_been():
    """Where the removed filters do nothing, momentum makes the same steps with and without them."""
    torch.manual_seed(0)
    convs = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)
    model = nn.Sequential(*convs, nn.Flatten(), nn.Linear(4 * 16, 2)).double()
    with torch.no_grad():
        for tensor in (model[0].weight, model[0].bias):
            tensor[:3] = 0  # dead: a ReLU of zero lets no gradient through, so they stay
        model[2].weight[:, :3] = 0
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    images, labels = torch.randn(4, 3, 8, 8, dtype=torch.double), torch.tensor([0, 1, 0, 1])

    def step(network, optimizer):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()

    step(model, optimizer)
    small = prune(model, make_plan(trace(model, torch.zeros(1, 3, 8, 8)), {"0": 0.5}))
    carried = prune_optimizer(optimizer, model, small)
    for _ in range(3):
        step(model, optimizer)
        step(small, carried)
    assert torch.allclose(small(images), model(images), rtol=1e-12)


def test_state_of_another_shape_is_carried_where_it_can_be():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3))
    optimizer = torch.optim.Adafactor(model.parameters())
    model(X).mean().backward()
    optimizer.step()
    plan = make_plan(trace(model, X), {"0": 0.5})
    small = prune(model, plan)
    whole = optimizer.state[model[0].weight]["row_var"]  # (out, in, k, 1)
    rows = prune_optimizer(optimizer, model, small).state[small[0].weight]["row_var"]
    assert torch.equal(rows, whole[plan.keep["0"]])
    optimizer.state[model[0].weight]["preconditioner"] = torch.eye(7)
    words = r"Adafactor keeps 'preconditioner' of 0.weight in a shape of its own"
    with pytest.raises(ValueError, match=words):
        prune_optimizer(optimizer, model, small)


def test_aligned_widths():
    model = load_model("resnet18")
    graph = trace(model, X)
    plain, aligned = (make_plan(graph, {"*": 0.3}, align=align) for align in (1, 8))
    for name, kept in aligned.keep.items():
        assert len(kept) % 8 == 0
        assert set(plain.keep[name]) <= set(kept)  # what stays is rounded up
        assert len(kept) - len(plain.keep[name]) < 8
    cost = total_cost(graph, {"as asked": plain, "aligned": aligned})
    assert list(cost.index) == ["before", "as asked", "aligned"]
    assert cost["flops"].is_monotonic_decreasing is False
    flops = cost["flops"]
    assert flops["as asked"] < flops["aligned"] < flops["before"]
    networks = {"as asked": prune(model, plain), "aligned": prune(model, aligned)}
    latency = measure_latency(networks, (3, 32, 32), device="cpu", repeats=2, warm_up=1)
    assert list(latency["model"]) == ["as asked", "aligned"]
    assert aligned.settings["align"] == 8
    narrow = trace(nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)), X)
    assert make_plan(narrow, {"0": 0.5}, align=8).removed == {}  # 6 is no multiple of 8: all stay
    with pytest.raises(ValueError, match="align must be a whole number, 1 or more"):
        make_plan(graph, {"*": 0.3}, align=0)


def test_units_of_several_filters_are_aligned_by_their_filters():
    graph, layer = trace(load_model("resnext50_32x4d"), X), "layer1.0.conv2"
    plans = [make_plan(graph, {layer: 0.2}, align=n) for n in (1, 8, 64)]
    widths = [len(plan.keep[layer]) for plan in plans]
    assert widths == [96, 96, 128]  # 3 of 4 units of 32
