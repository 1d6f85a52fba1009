from collections import OrderedDict
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunelab import (
    compare_with_silenced,
    load_model,
    make_plan,
    prune,
    rule,
    silence,
    total_cost,
    trace,
)
from prunelab.graph.operators.registry import RULES

X = torch.zeros(1, 3, 32, 32)
IMAGENET = torch.zeros(1, 3, 64, 64)


def test_layers_are_all_convs_in_forward_order():
    graph = trace(load_model("resnet34"), IMAGENET)
    assert len(graph.layers) == 36
    assert graph.layers[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert graph.shapes["layer2.0.downsample.0"].paper_name == "shortcut_1"
    assert graph.find("conv_2") == "layer1.0.conv1"
    assert graph.find("conv_33") == "layer4.2.conv2"


def test_the_projection_shortcut_leads_its_stage():
    graph = trace(load_model("resnet34"), IMAGENET)
    group = graph.group_of("layer3.1.conv2")
    assert group.leader == "layer3.0.downsample.0"  # §3.3, Fig. 4
    assert set(group.layers) == {group.leader, *(f"layer3.{i}.conv2" for i in range(6))}
    assert (group.size, group.stage, group.prunable, group.reason) == (256, "stage3", True, "")
    assert graph.group_of("conv_1").layers == ("conv1", *(f"layer1.{i}.conv2" for i in range(3)))


def test_the_leaders_norms_decide():
    model = load_model("resnet18")
    graph = trace(model, IMAGENET)
    norms = model.layer2[0].downsample[0].weight.abs().sum((1, 2, 3))
    keep = make_plan(graph, {"shortcut_1": 0.5}).keep
    expected = sorted(norms.topk(64).indices.tolist())
    for name in ("layer2.0.downsample.0", "layer2.0.conv2", "layer2.1.conv2"):
        assert keep[name] == expected


def test_what_goes_with_a_layer():
    graph = trace(load_model("resnet34"), torch.zeros(1, 3, 64, 64))
    found = graph.coupled("conv_9").set_index("module")  # tied to the shortcut
    assert found.loc["layer2.0.downsample.0", ["loses", "role"]].tolist() == ["filters", "leader"]
    assert "the projection shortcut leads" in found.loc["layer2.0.downsample.0", "why"]
    assert found.loc["layer2.0.conv2", "role"] == "tied"
    norm = found.loc["layer2.0.bn2", ["paper_name", "loses", "role"]]
    assert norm.tolist() == ["BatchNorm2d", "entries", "follows"]
    assert found.loc["layer2.1.conv1", ["loses", "role"]].tolist() == ["inputs", "reads"]
    assert "layer2.0.conv1" not in found.index  # its own filters are free
    alone = graph.coupled("layer1.0.conv1")
    assert alone["module"].tolist() == ["layer1.0.conv1", "layer1.0.bn1", "layer1.0.conv2"]
    plan = make_plan(graph, {"layer1.0.conv1": 0.5})
    small, whole = (dict(m.named_parameters()) for m in (prune(graph.model, plan), graph.model))
    thinner = {name.rpartition(".")[0] for name in whole if small[name].shape != whole[name].shape}
    assert thinner == set(alone["module"])


def test_option_a_shortcuts_keep_their_maps_and_say_why():
    graph = trace(load_model("resnet56"), X)
    free = [group.leader for group in graph.groups if group.prunable]
    assert free == [f"layer{s}.{i}.conv1" for s in (1, 2, 3) for i in range(9)]
    assert "option A" in graph.group_of("conv_1").reason
    assert graph.stages == ["stage1", "stage2", "stage3"]


def test_what_the_model_returns_stays():
    group = trace(load_model("squeezenet1_1"), IMAGENET).group_of("classifier.1")
    assert not group.prunable
    assert "the model returns its maps" in group.reason


def test_the_groups_of_a_grouped_convolution_stay_and_get_thinner():
    model = load_model("resnext50_32x4d")
    graph = trace(model, IMAGENET)
    group = graph.group_of("layer1.0.conv2")
    # a unit is filter i of each of the 32 groups
    assert (group.size, len(group.units), group.prunable) == (128, 4, True)
    small = prune(model, make_plan(graph, {"layer1.0.conv2": 0.5}))
    assert (small.layer1[0].conv2.groups, small.layer1[0].conv2.weight.shape[0]) == (32, 64)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

    def forward(self, x):
        return self.b(torch.roll(self.a(x), 1, 1)).mean((2, 3))


def test_an_unknown_operator_refuses_its_maps_and_can_be_taught():
    assert "roll" in trace(Odd(), X).group_of("a").reason

    with mock.patch.dict(RULES):

        @rule("roll")
        def roll(call):
            return call.maps[0].labels.roll(call.args[1], call.args[2])

        assert trace(Odd(), X).group_of("a").prunable


class Shared(nn.Module):
    """A conv used twice, a concatenation, a gate of linear layers, a mask, a flattened map."""

    def __init__(self):
        super().__init__()
        self.stem, self.twice = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.down, self.up = nn.Linear(16, 4), nn.Linear(4, 16)
        self.last, self.head = nn.Conv2d(16, 6, 3, stride=4), nn.Linear(6 * 64, 5)

    def forward(self, x):
        x = self.stem(x)
        x = torch.cat([x, self.twice(F.relu(self.twice(x)))], 1)
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))[:, :, None, None]
        return self.head(torch.flatten(self.last(x * gate * x.mean(1, keepdim=True)), 1))


def test_shared_modules_and_flattened_maps():
    model, x = Shared().double(), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    graph = trace(model, X)
    assert graph.group_of("last").prunable
    plan = make_plan(graph, {"*": 0.4})
    assert len(plan.keep["last"]) == 3
    assert torch.allclose(prune(model, plan)(x), silence(model, plan)(x), rtol=1e-10)


def test_what_cannot_be_traced_says_so():
    class Branches(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match="Branches has no convolution"):
        trace(Branches(), X)
    with pytest.raises(ValueError, match=r"does not take an input of shape \(1, 4, 8, 8\)"):
        trace(load_model("resnet20"), torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="has no convolution"):
        trace(nn.Linear(3, 3), torch.zeros(1, 3))


def test_what_never_ran_is_named():
    class Heads(nn.Module):
        def __init__(self, wide):
            super().__init__()
            self.first, self.narrow = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
            self.extra = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Linear(16, 4))
            self.scale, self.late, self.wide = nn.Parameter(torch.ones(8)), nn.Linear(4, 2), wide
            if wide:
                self.old = nn.ModuleList(nn.Conv2d(8, 8, 3) for _ in range(6))

        def forward(self, x):
            x = self.first(x).relu()
            if self.wide:
                return self.extra[2](self.extra[0](x).mean((2, 3))) + self.scale.sum()
            x = self.narrow(x).mean((2, 3))
            return self.late(x) if self.training else x  # training's part is followed too

    graph = trace(Heads(False), X)
    line = "never ran, so not adapted: scale, extra"
    assert repr(graph).endswith(f"\n  {line}")
    assert line in graph._repr_html_()
    assert repr(trace(Heads(True), X)).endswith("never ran, so not adapted: narrow, late, old")
    assert "never ran" not in repr(trace(load_model("resnet20"), X))


def test_tracing_changes_nothing():
    model = load_model("resnet20").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    graph = trace(model, torch.ones(4, 3, 32, 32))
    assert graph.model is model
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert "27 of 28 groups can be pruned" in repr(trace(load_model("resnet56"), X))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1) for i in range(3))
        self.c.weight = self.b.weight
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.c(self.b(self.a(x))).mean((2, 3)))


class Counting(Tied):
    def forward(self, x):
        x = self.a(x)
        return self.head(self.b(x / x.size(1)).mean((2, 3)))


class Unpacking(Tied):
    def forward(self, x):
        x = self.a(x)
        n, channels, _, _ = x.shape
        return self.head(self.b(x / channels).mean((2, 3))) + n


class Reading(Tied):
    def forward(self, x):
        return self.head(self.b(self.a(x)).mean((2, 3))) * self.a.weight.mean()


def test_what_the_code_does_by_itself_is_refused():
    group = trace(Tied(), X).group_of("a")
    assert group.layers == ("a", "b", "c")  # one weight reads a's maps and b's
    assert group.prunable
    for network in (Counting, Unpacking):
        graph = trace(network(), X)
        assert "works with the number of its maps" in graph.group_of("a").reason
        assert "shares a parameter" in graph.group_of("b").reason
    reason = trace(Reading(), X).group_of("a").reason
    assert "reads a.weight by itself, in mean in Reading.forward" in reason


def test_batch_size_may_be_read():
    class Flat(Shared):
        def forward(self, x):
            x = self.stem(x)
            return x.mean((2, 3)).view(x.size(0), -1)

    assert "returns its maps" in trace(Flat(), X).group_of("stem").reason


def test_what_is_not_counted_is_said():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.cell = nn.Conv2d(3, 4, 3), nn.GRU(4, 2)

        def forward(self, x):
            return self.cell(self.conv(x).mean(-1).transpose(1, 2))[0]

    words = r"not counted in the cost.*cell.weight_ih_l0, cell.weight_hh_l0"
    with pytest.warns(UserWarning, match=words):
        graph = trace(Recurrent(), X)
    assert graph.group_of("conv").prunable
    weights = sum(p.numel() for p in Recurrent().parameters())
    assert total_cost(graph).loc["before", "params_all"] == weights


@pytest.mark.parametrize("name", ['a"b', "a'b", "a\\", "class", '<img src="x">'])
def test_a_layer_may_have_any_name(name):
    """Torch takes all but a dot; in code that is generated, such names would be its end."""
    layers = {name: nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm2d(4), "next": nn.Conv2d(4, 2, 3)}
    model = nn.Sequential(OrderedDict(layers)).eval()
    plan = make_plan(trace(model, torch.zeros(1, 3, 8, 8)), {name: 0.5})
    assert {layer: len(kept) for layer, kept in plan.keep.items()} == {name: 2, "next": 2}
    found = compare_with_silenced(model, plan, torch.rand(2, 3, 8, 8))
    assert found["max_difference"].max() < 1e-6
