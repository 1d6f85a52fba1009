"""The forked network against the truth: prune, then run the whole forward."""

import warnings

import pytest
import torch
from networks import BLOCKS, HEADS, Drawn, Plain
from small import shake
from torch import nn

from prunelab import load_model, make_plan, prune, trace
from prunelab.forks import ForkedNetwork, fold_norms

X = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def check(model, x, ratios=(0.3, 0.9), stack=1, keys=None):
    graph = trace(model, x[:1])
    groups = {g.leader: [g] for g in graph.groups if g.prunable}
    groups |= {stage: graph.select(stage) for stage in graph.stages if graph.select(stage)}
    names = list(groups)[:: max(1, len(groups) // 12)] if keys is None else keys
    warnings.filterwarnings("ignore", "ratio .* would remove all")
    plans = {n: [make_plan(graph, {n: ratio}) for ratio in ratios] for n in names}
    network = ForkedNetwork(model, graph, stack=stack)
    forks = [network.fork(groups[n], plans[n]) for n in names]
    found = {(names[fork] if fork >= 0 else "", plan): logits for fork, plan, logits in network.logits(x, forks)}
    assert len(found) == len(names) * len(ratios) + 1
    with torch.no_grad():
        assert near(found["", 0], model.eval()(x))
        for (name, plan), logits in found.items():
            if name:
                assert near(logits, prune(model, plans[name][plan], graph=graph).eval()(x)), name
    return network, forks


def near(ours, truth):
    ours, truth = ours.detach(), truth.detach()
    return ours.shape == truth.shape and float((ours - truth).abs().max()) <= 1e-4 * float(truth.abs().max())


@pytest.mark.parametrize("stack", [1, 2])
@pytest.mark.parametrize("name", ["vgg16", "resnet20"])
def test_the_papers_networks(make_model, name, stack):
    check(make_model(name), X, stack=stack)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "densenet121", "mobilenet_v2", "efficientnet_b0", "googlenet", "squeezenet1_1", "convnext_tiny"],
)
def test_torchvision(name):
    torch.manual_seed(0)
    model = shake(load_model(name, num_classes=5)).eval()
    check(model, torch.nn.functional.interpolate(X[:2], 64), stack=2)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("number", [3, 8])
def test_every_block(block, head, number):
    torch.manual_seed(0)
    model = Drawn([(block, number), (Plain, 3)], head).float().eval()
    small = X[..., ::4, ::4]
    graph = trace(model, small[:1])
    if any(group.prunable for group in graph.groups):
        check(model, small, ratios=(0.2, 0.6, 0.9), stack=2)


class InPlace(nn.Module):
    """Writes in place to what was made before the pruned layer."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.act = nn.Hardswish(inplace=True)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.a(x)
        y = self.c(self.b(x).relu_())
        x += y
        x = self.act(x)
        return self.fc(x.mul_(2).mean((2, 3)))


def test_what_is_written_in_place_is_whole_for_each_plan():
    torch.manual_seed(0)
    _, forks = check(InPlace().eval(), X, keys=["b"], ratios=(0.2, 0.5, 0.9))
    assert forks[0].copied


def test_maps_that_grow_are_read_once(make_model):
    network, (fork, *_) = check(make_model("vgg16"), X[:2], keys=["features.0"], ratios=(0.2, 0.5, 0.9))
    assert fork.reader is not None
    seen = []
    read = network._read
    network._read = lambda maps, reader, some, before: seen.append(int(some.sum())) or read(maps, reader, some, before)
    list(network.logits(X[:2], [fork]))
    assert seen == [6, 26, 19]  # of 64 filters: those that the 90 % plan keeps, then what the 50 % and 20 % ones add


def test_plans_that_are_not_nested_are_read_each():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(4 * 28 * 28, 3)
    ).eval()
    graph = trace(model, X[:1])
    plans = [make_plan(graph, {"0": 0.5}, order=order) for order in ("smallest", "largest")]
    network = ForkedNetwork(model, graph)
    for _, plan, logits in list(network.logits(X, [network.fork([graph.group_of("0")], plans)]))[:-1]:
        assert near(logits, prune(model, plans[plan])(X))


def test_norms_are_folded_where_nothing_else_reads_the_convolution(make_model):
    model = make_model("resnet20").eval()
    folded = fold_norms(model, (X[:1],))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert near(folded(X), model(X))
    assert isinstance(model.bn1, nn.BatchNorm2d)


class Shared(nn.Module):
    """A convolution that is read twice, before and after its norm; one norm that runs twice; one without statistics."""

    def __init__(self):
        super().__init__()
        self.a, self.n, self.b = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.c, self.own = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x):
        x = self.a(x)
        x = x + self.n(x)
        x = self.n(self.b(x))
        return self.own(self.c(x)).mean((2, 3))


def test_norms_that_cannot_be_folded_stay():
    torch.manual_seed(0)
    model = shake_plain(Shared()).eval()
    folded = fold_norms(model, (X[:1],))
    assert isinstance(folded.n, nn.BatchNorm2d)
    assert isinstance(folded.own, nn.BatchNorm2d)
    assert near(folded(X), model(X))


def shake_plain(model):
    with torch.no_grad():
        model.n.running_mean.normal_()
        model.n.running_var.uniform_(0.5, 2)
    return model


class Draws(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.b(self.a(x) + torch.randn(1)).mean((2, 3))


def test_a_network_that_draws_is_said():
    model = Draws().eval()
    with pytest.raises(ValueError, match="Draws gives other outputs when its operators are run one by one"):
        ForkedNetwork(model, trace(model, X[:1])).check(X)
