"""Prefix sharing against the truth: prune, then run the whole forward."""

import warnings

import pytest
import torch
from networks import BLOCKS, HEADS, Drawn, Plain
from small import shake
from torch import nn

from prunelab import load_model, make_plan, prune, trace
from prunelab.measure.prefix import PrefixSharing
from prunelab.measure.prefix.folding import fold_norms

X = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def check(model, x, ratios=(0.3, 0.9), stack=1, keys=None):
    graph = trace(model, x[:1])
    groups = {g.leader: [g] for g in graph.groups if g.prunable}
    groups |= {stage: graph.select(stage) for stage in graph.stages if graph.select(stage)}
    names = list(groups)[:: max(1, len(groups) // 12)] if keys is None else keys
    warnings.filterwarnings("ignore", "ratio .* would remove all")
    plans = {n: [make_plan(graph, {n: ratio}) for ratio in ratios] for n in names}
    network = PrefixSharing(model, graph, stack=stack)
    branches = [network.branch(groups[n], plans[n]) for n in names]
    found = {(branch, plan): logits for branch, plan, logits in network.logits(x, branches)}
    assert len(found) == len(names) * len(ratios) + 1
    with torch.no_grad():
        assert near(found.pop((-1, 0)), model.eval()(x))
        for (branch, plan), logits in found.items():
            name = names[branch]
            assert near(logits, prune(model, plans[name][plan], graph=graph).eval()(x)), name
    return network, branches


def near(ours, truth):
    ours, truth = ours.detach(), truth.detach()
    allowed = 1e-4 * truth.abs().max()
    return ours.shape == truth.shape and bool((ours - truth).abs().max() <= allowed)


@pytest.mark.parametrize("stack", [1, 2])
@pytest.mark.parametrize("name", ["vgg16", "resnet20"])
def test_the_papers_networks(make_model, name, stack):
    check(make_model(name), X, stack=stack)


OTHERS = ["resnet18", "densenet121", "mobilenet_v2", "efficientnet_b0", "googlenet"]
OTHERS += ["squeezenet1_1", "convnext_tiny"]


@pytest.mark.parametrize("name", OTHERS)
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
    assert any(group.prunable for group in graph.groups)
    check(model, small, ratios=(0.2, 0.6, 0.9), stack=2)


class InPlace(nn.Module):
    """Writes in place to what was made before the pruned layer."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.c = nn.Conv2d(8, 8, 1)
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
    check(InPlace().eval(), X, keys=["b"], ratios=(0.2, 0.5, 0.9))


def test_what_the_reader_makes_may_be_written_to():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 3), nn.ReLU(inplace=True)
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    _, (branch,) = check(model, X, keys=["0"], ratios=(0.2, 0.5, 0.8))
    assert branch.copied
    assert not branch.plans


def test_maps_that_grow_are_read_once(make_model):
    how = dict(keys=["features.0"], ratios=(0.2, 0.5, 0.9))
    network, (branch,) = check(make_model("vgg16"), X[:2], **how)
    assert branch.reader is not None
    seen = []
    read = network._read

    def watch(maps, reader, some, before):
        seen.append(int(some.sum()))
        return read(maps, reader, some, before)

    network._read = watch
    list(network.logits(X[:2], [branch]))
    # of 64 filters: those that the 90 % plan keeps, then what the 50 % and 20 % ones add
    assert seen == [6, 26, 19]


def test_plans_that_are_not_nested_are_read_each():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(4 * 28 * 28, 3)).eval()
    graph = trace(model, X[:1])
    plans = [make_plan(graph, {"0": 0.5}, order=order) for order in ("smallest", "largest")]
    network = PrefixSharing(model, graph)
    branch = network.branch([graph.group_of("0")], plans)
    *found, _ = network.logits(X, [branch])
    assert len(found) == 2
    for _, plan, logits in found:
        assert near(logits, prune(model, plans[plan])(X))


def test_norms_are_folded_where_nothing_else_reads_the_convolution(make_model):
    model = make_model("resnet20").eval()
    folded = fold_norms(model, (X[:1],))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert near(folded(X), model(X))
    assert isinstance(model.bn1, nn.BatchNorm2d)


class Shared(nn.Module):
    """A convolution read before and after its norm; a norm run twice; one without statistics."""

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
    sentence = "Draws gives other outputs when its operators are run one by one"
    with pytest.raises(ValueError, match=sentence):
        PrefixSharing(model, trace(model, X[:1])).check(X)


class Writes(nn.Module):
    """Writes in place, after the pruned layer, to what was made before: by itself or otherwise."""

    def __init__(self, write):
        super().__init__()
        self.write, self.same = write, nn.Identity()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.c = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        h = self.a(x).sigmoid()
        early = self.same(h)
        p = self.c(self.b(h).relu())
        self.write(h, early)
        return self.fc((h + p).mean((2, 3)))


@pytest.mark.parametrize(
    "write",
    [
        lambda h, early: early.add_(2.0),
        lambda h, early: h.detach().mul_(3),
        lambda h, early: h.view(h.size(0), 8, -1).add_(1.0),
        lambda h, early: h[:, :, 0].add_(2.0),
        lambda h, early: torch.mul(h, 2, out=h),
    ],
)
def test_what_is_written_through_another_name_is_not_shared(write):
    torch.manual_seed(0)
    model = Writes(write).eval()
    graph = trace(model, X[:1])
    plans = [make_plan(graph, {"b": ratio}) for ratio in (0.2, 0.5)]
    network = PrefixSharing(model, graph)
    branches = [network.branch([graph.group_of("b")], plans)]
    for branch, plan, logits in network.logits(X, branches):
        truth = prune(model, plans[plan], graph=graph) if branch >= 0 else model
        with torch.no_grad():
            assert near(logits, truth(X))


class Flattens(nn.Module):
    """Flattens by `view`, which only torch's usual memory format allows; one conv is not used."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.aux = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 6, 3, 3), nn.Conv2d(8, 4, 1)
        self.fc = nn.Linear(6 * 25, 4)

    def forward(self, x):
        x = self.a(x).relu()
        self.aux(x)
        x = self.b(x)
        return self.fc(x.view(x.size(0), -1))


def test_a_view_of_maps_takes_the_usual_format():
    torch.manual_seed(0)
    model = Flattens().eval()
    graph = trace(model, X[:1])
    names = [g.leader for g in graph.groups if g.prunable]
    assert "aux" in names
    plans = {name: [make_plan(graph, {name: ratio}) for ratio in (0.2, 0.5)] for name in names}
    network = PrefixSharing(model, graph)
    assert near(network.check(X), model(X))
    assert network.format == torch.contiguous_format
    branches = [network.branch([graph.group_of(name)], plans[name]) for name in names]
    for branch, plan, logits in network.logits(X, branches):
        truth = prune(model, plans[names[branch]][plan], graph=graph) if branch >= 0 else model
        assert near(logits, truth(X))


class Standardised(nn.Conv2d):
    def forward(self, x):
        spread, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / (spread + 0.1).sqrt(), self.bias)


def test_weights_that_the_code_computes():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3, padding=1)),
        nn.ReLU(),
        Standardised(8, 8, 3, padding=1),
        nn.Flatten(2),
    )
    check(Averaged(model).eval(), X)


class Averaged(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.head = model, nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.model(x).mean(-1))
