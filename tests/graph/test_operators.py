"""Each operator's rule, on a small network of its own.

What is free is pruned right; what is not says why.
"""

import dataclasses
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from networks import Dense, Drawn, Plain, Shared, Squeeze
from torch import nn
from torchvision.ops import FrozenBatchNorm2d, StochasticDepth

from prunelab import load_pruned, make_plan, measure_cost, prune, rule, save_pruned, silence, trace
from prunelab.graph.operators.registry import RULES

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.double)


class Net(nn.Module):
    """conv a → what a test does with its maps → conv b → linear head."""

    def __init__(self, do, c=8, **modules):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(c, 6, 1)
        self.head = nn.Linear(6, 2)
        for name, module in modules.items():
            setattr(self, name, module)
        self.do = do
        self.double().eval()

    def forward(self, x):
        return self.head(F.relu(self.b(self.do(self, self.a(x)))).mean((2, 3)))


def holds(model, ratios, *inputs):
    """Prune, and hold the result against the silenced network."""
    inputs = inputs or (X,)
    graph = trace(model, inputs)
    plan = make_plan(graph, ratios)
    with torch.no_grad():
        small = prune(model, plan, graph=graph)(*inputs)
        truth = silence(model, plan, graph=graph)(*inputs)
    assert any(plan.removed)
    if isinstance(truth, torch.Tensor):
        small, truth = (small,), (truth,)
    for ours, whole in zip(small, truth, strict=True):
        assert torch.allclose(ours, whole, rtol=1e-10, atol=1e-12)
    return plan


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


def asserting(m, x):
    batch, _, height, width = x.shape
    assert x.ndim == 4, f"maps of shape {x.shape}"
    assert height == width
    if height % 2:
        x = F.pad(x, (0, 1, 0, 1))
    return x[:batch]


def bordered(m, x):
    y = torch.zeros_like(x)
    y[:, :, 1:-1] = x[:, :, 1:-1]
    return y


def interleaved(m, x):
    half = x.shape[1] // 2
    y = x.new_zeros(x.shape)
    y[:, :half], y[:, half:] = x[:, half:], x[:, :half]
    return y


class Sized(nn.Module):
    """What detection networks write: attributes for numbers of maps."""

    def __init__(self):
        super().__init__()
        self.width, self.half, self.kernel = 8, 4, 3

    def forward(self, x):
        if x.shape[1] != self.width:
            raise ValueError(f"{x.shape[1]} maps instead of {self.width}")
        a, b = x.split((self.half, self.half), 1)
        x = torch.cat([b, a], 1).flatten(2).view(len(x), self.width, *x.shape[2:])
        return F.max_pool2d(x[:, : self.width], self.kernel, 1, self.kernel // 2)


def norm_by_hand(m, x):
    mean = x.mean(1, keepdim=True)
    spread = (x - mean).pow(2).mean(1, keepdim=True)
    return (
        m.g.weight[:, None, None] * (x - mean) / torch.sqrt(spread + 1e-6) + m.g.bias[:, None, None]
    )


def watched(module):
    module.seen = []
    module.register_forward_hook(lambda module, inputs, out: module.seen.append(out.detach()))
    return module


FREE = {
    "grouped conv": dict(do=lambda m, x: m.g(x), g=nn.Conv2d(8, 8, 3, padding=1, groups=2)),
    "depthwise conv, two filters a map": dict(
        do=lambda m, x: m.g(x), c=16, g=nn.Conv2d(8, 16, 3, padding=1, groups=8)
    ),
    "transposed conv": dict(do=lambda m, x: m.g(x), g=nn.ConvTranspose2d(8, 8, 2, 2)),
    "grouped transposed conv": dict(
        do=lambda m, x: m.g(x), g=nn.ConvTranspose2d(8, 8, 2, 2, groups=4)
    ),
    "group norm": dict(do=lambda m, x: m.g(x), g=nn.GroupNorm(2, 8)),
    "instance norm": dict(do=lambda m, x: m.g(x), g=nn.InstanceNorm2d(8)),
    "layer norm of all": dict(do=lambda m, x: m.g(x), g=nn.LayerNorm((8, 8, 8))),
    "layer norm by a function": dict(
        do=lambda m, x: F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1)
    ),
    "prelu": dict(do=lambda m, x: m.g(x), g=nn.PReLU(8)),
    "stochastic depth": dict(do=lambda m, x: x + m.g(x), g=StochasticDepth(0.5, "row")),
    "einsum as a scale": dict(
        do=lambda m, x: torch.einsum("bchw,bc,c->bchw", x, x.mean((2, 3)).sigmoid(), m.g),
        g=nn.Parameter(torch.rand(8)),
    ),
    "einsum as attention to places": dict(
        do=lambda m, x: torch.einsum("bchw,bij->bcij", x, m.g(x)[:, 0]), g=nn.Conv2d(8, 1, 1)
    ),
    "einsum in another order": dict(
        do=lambda m, x: torch.einsum(" bhwc , bkhc -> bchk", [x.movedim(1, -1), x.transpose(1, 3)])
    ),
    "chunk": dict(do=lambda m, x: torch.cat(x.chunk(4, 1)[::-1], 1)),
    "slices": dict(do=lambda m, x: x[:, : x.shape[1] // 2] * x[:, x.shape[1] // 2 :], c=4),
    "strided places": dict(do=lambda m, x: x[:, :, ::2, 1:]),
    "glu": dict(do=lambda m, x: F.glu(x, 1), c=4),
    "shuffle by the module": dict(do=lambda m, x: m.g(x), g=nn.ChannelShuffle(4)),
    "reshape of a shape": dict(do=lambda m, x: x.flatten(2).reshape(x.shape)),
    "pixel shuffle": dict(do=lambda m, x: m.g(x), c=2, g=nn.PixelShuffle(2)),
    "pixel unshuffle": dict(do=lambda m, x: F.pixel_unshuffle(x, 2), c=32),
    "upsampling": dict(do=lambda m, x: F.interpolate(x, scale_factor=2, mode="bilinear")),
    "padding": dict(do=lambda m, x: F.pad(x, (1, 1, 0, 2), mode="reflect")),
    "stack": dict(do=lambda m, x: torch.stack([x, x.relu()], 2).flatten(1, 2), c=16),
    "repeat": dict(do=lambda m, x: x.repeat(1, 2, 1, 1), c=16),
    "zeros beside, as option A": dict(
        do=lambda m, x: m.g(x) + torch.cat([x, x * 0], 1), c=16, g=nn.Conv2d(8, 16, 1)
    ),
    "a bare vector": dict(do=lambda m, x: x * m.g.weight.view(1, -1, 1, 1).exp(), g=nn.PReLU(8)),
    "a map of places": dict(do=lambda m, x: x + m.g.weight, g=nn.LayerNorm((8, 8, 8))),
    "batch norm by a function": dict(
        do=lambda m, x: F.batch_norm(x, m.g.running_mean, m.g.running_var, m.g.weight, m.g.bias),
        g=nn.BatchNorm2d(8),
    ),
    "conv by a function": dict(
        do=lambda m, x: F.conv2d(x, m.g.weight, m.g.bias), g=nn.Conv2d(8, 8, 1)
    ),
    "depthwise by a function": dict(
        do=lambda m, x: F.conv2d(x, m.g.weight, groups=x.shape[1]),
        g=nn.Conv2d(8, 8, 3, groups=8, bias=False),
    ),
    "a shared weight": dict(
        do=lambda m, x: m.h(m.g(x)), g=(g := nn.Conv2d(8, 8, 1)), h=nn.Sequential(g, nn.ReLU())
    ),
    "in place": dict(do=lambda m, x: x.add_(m.g(x)).relu_(), g=nn.Conv2d(8, 8, 1)),
    "where": dict(do=lambda m, x: torch.where(x > 0, x, m.g(x)), g=nn.Conv2d(8, 8, 1)),
    "powers of another map": dict(
        do=lambda m, x: torch.pow(x.abs() + 1, torch.sigmoid(m.g(x))), g=nn.Conv2d(8, 8, 1)
    ),
    "clamped by another map": dict(do=lambda m, x: x.clamp(max=m.g(x)), g=nn.Conv2d(8, 8, 1)),
    "a power for each channel": dict(
        do=lambda m, x: x.clamp(min=1e-6).pow(m.g.weight.view(-1, 1, 1)), g=nn.PReLU(8)
    ),
    "axis for dim": dict(
        do=lambda m, x: torch.cat(x.chunk(2, axis=1), axis=1) + x.mean(axis=(2, 3), keepdims=True),
    ),
    "softmax over places": dict(do=lambda m, x: x.flatten(2).softmax(-1).reshape(x.shape)),
    "frozen batch norm": dict(do=lambda m, x: m.g(x), g=FrozenBatchNorm2d(8)),
    "assertions and shapes": dict(do=asserting),
    "loops over pieces": dict(do=lambda m, x: sum(x.split(x.shape[1] // 2, 1)), c=4),
    "a list of pieces": dict(do=lambda m, x: torch.cat([*x.chunk(2, 1), x], 1), c=16),
    "a starred shape": dict(do=lambda m, x: x.view(len(x), 2, -1, *x.shape[2:]).sum(1), c=4),
    "zeros of its own width": dict(
        do=lambda m, x: torch.cat([x, torch.zeros(*x.shape, dtype=x.dtype)], 1), c=16
    ),
    "new maps for all": dict(do=lambda m, x: x * x.new_ones(x.shape[0], 1, 8, 8)),
    "named tuples": dict(do=lambda m, x: Pair(x, x.relu()).second),
    "a given output size": dict(
        do=lambda m, x: m.g(x[..., ::2, ::2], output_size=x.size()),
        g=nn.ConvTranspose2d(8, 8, 3, 2, 1),
    ),
    "a mask expanded beside": dict(
        do=lambda m, x: torch.cat([x, m.g(x).expand_as(x)], 1), c=16, g=nn.Conv2d(8, 1, 1)
    ),
    "a table of places worked on": dict(
        do=lambda m, x: x + m.g.weight.sigmoid(), g=nn.LayerNorm((8, 8, 8))
    ),
    "a part of the places assigned": dict(do=bordered),
    "halves assigned": dict(do=interleaved),
    "an attribute for a size": dict(do=lambda m, x: m.g(x), g=Sized()),
    "a hook that only looks": dict(do=lambda m, x: m.g(x), g=watched(nn.Identity())),
    "softmax over channels": dict(do=lambda m, x: x.softmax(1)),
    "softmax along axis 1": dict(do=lambda m, x: x * torch.softmax(x, axis=1)),
    "mean over channels": dict(do=lambda m, x: x.mean(1, keepdim=True), c=1),
    "mean and largest of channels, as in attention to places": dict(
        do=lambda m, x: x * m.g(torch.cat([x.mean(1, True), x.max(1, True).values], 1)),
        g=nn.Conv2d(2, 1, 3, padding=1),
    ),
    "a deviation over all": dict(do=lambda m, x: x / (x.std(False) + 1)),
    "a number taken out": dict(do=lambda m, x: x * (1 + x.max().item())),
    "a norm by hand": dict(do=norm_by_hand, g=nn.GroupNorm(1, 8)),
    "length over channels": dict(do=lambda m, x: F.normalize(x, dim=1)),
    "response norm by hand": dict(
        do=lambda m, x: x / (x.norm(p=2, dim=(2, 3), keepdim=True).mean(1, keepdim=True) + 1)
    ),
    "a slice of all": dict(do=lambda m, x: x[:, :8] + x[:, :100]),
    "flipped": dict(do=lambda m, x: x.flip(2, 1)),
    "a running sum of channels": dict(do=lambda m, x: x.cumsum(1)),
    "a mask of the places": dict(do=lambda m, x: x * torch.sigmoid(m.g(x)), g=nn.Conv2d(8, 1, 1)),
}


@pytest.mark.parametrize("name", FREE)
@pytest.mark.filterwarnings("error")
def test_free(name):
    plan = holds(Net(**FREE[name]), {"*": 0.5})
    assert "a" in plan.removed
    assert "b" in plan.removed


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.conv(x) if x.mean() < 1e3 else x


def hooked(module):
    module.register_forward_hook(lambda module, inputs, out: out.roll(1, 1))
    return module


def assigning(m, x):
    y = x.clone()
    y[:, :4] = 0
    return y


REFUSED = {  # what is done with a's maps, and words of the reason
    "einsum over channels": (
        dict(do=lambda m, x: torch.einsum("bchw,bcij->bhi", x, x)[:, None].expand(-1, 8, -1, -1)),
        "multiplies maps with one another",
    ),
    "einsum of pairs of channels": (
        dict(do=lambda m, x: torch.einsum("bchw,bkhw->bck", x, x)[..., None]),
        "einsum in Net.forward, which joins channels along two dimensions",
    ),
    "einsum with letters left out": (
        dict(do=lambda m, x: torch.einsum("b...,b...->b...", x, x)),
        "multiplies maps with one another",
    ),
    "a fixed view": (
        dict(do=lambda m, x: x.view(x.shape[0], 2, 4, 8, 8).flatten(1, 2)),
        "view in Net.forward",
    ),
    "a fixed slice": (dict(do=lambda m, x: x[:, :4], c=4), "picks some of them by their place"),
    "a fixed split": (
        dict(do=lambda m, x: torch.cat(x.split([3, 5], 1), 1)),
        "splits them by fixed numbers",
    ),
    "a list": (dict(do=lambda m, x: x[:, [1, 0, 2]], c=3), "by a list or a mask"),
    "sorted": (dict(do=lambda m, x: x.sort(1).values), "sort in Net.forward, which mixes maps"),
    "rolled": (dict(do=lambda m, x: x.roll(1, 1)), "roll in Net.forward"),
    "local response norm": (
        dict(do=lambda m, x: m.g(x), g=nn.LocalResponseNorm(3)),
        "LocalResponseNorm (g)",
    ),
    "attention": (
        dict(
            do=lambda m, x: m.g(*[x.flatten(2).mT] * 3)[0].mT.unflatten(2, (8, 8)),
            g=nn.MultiheadAttention(8, 2),
        ),
        "MultiheadAttention (g), which multiplies maps with one another, as attention does",
    ),
    "matmul": (dict(do=lambda m, x: torch.matmul(x, x)), "as attention does"),
    "squeeze of all": (dict(do=lambda m, x: x.squeeze()), "name the dim"),
    "its number": (
        dict(do=lambda m, x: x * x.shape[1] ** -0.5),
        "works with the number of its maps",
    ),
    "a branch inside": (
        dict(do=lambda m, x: m.g(x), g=Branches()),
        "Branches (g), whose forward cannot be followed",
    ),
    "spectral norm": (
        dict(do=lambda m, x: m.g(x), g=nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 1))),
        "torch.nn.utils.parametrize.remove_parametrizations makes it a weight",
    ),
    "its elements counted": (
        dict(do=lambda m, x: x / x.nelement()),
        "number of its maps (numel in Net.forward)",
    ),
    "its number asserted": (
        dict(do=lambda m, x: x * (2 if x.shape[1] == 8 else 3)),
        "number of its maps (eq in",
    ),
    "a width read": (
        dict(do=lambda m, x: x * m.a.out_channels**-0.5),
        "number of its maps (pow in Net.forward)",
    ),
    "a width read from a weight": (
        dict(do=lambda m, x: x / m.a.weight.size(0)),
        "number of its maps (div in Net.forward)",
    ),
    "a hook": (dict(do=lambda m, x: m.g(x), g=hooked(nn.Identity())), "roll in Net.forward"),
    "a part assigned": (dict(do=assigning), "setitem in Net.forward, which picks some of them by"),
    "only in training": (
        dict(do=lambda m, x: x.view(-1, 2, 4, 8, 8).flatten(1, 2) if m.training else x),
        "view in Net",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_refused(name):
    build, words = REFUSED[name]
    model = Net(**build)
    graph = trace(model, X)
    assert not graph.group_of("a").prunable
    assert words in graph.group_of("a").reason
    assert graph.group_of("b").prunable  # what can be pruned is still offered
    holds(model, {"*": 0.5})


def test_a_branch_refuses_the_layers_in_it_and_counts_them():
    graph = trace(Net(**REFUSED["a branch inside"][0]), X)
    assert graph.layers == ["a", "g.conv", "b"]
    reason = graph.group_of("g.conv").reason
    words = "g.conv is in Branches (g), whose forward cannot be followed, "
    assert words + "at `return self.conv(x) if x.mean()" in reason
    assert "a module of its own" in reason
    whole = trace(Branches(), torch.ones(1, 8, 4, 4))
    assert [(g.leader, g.prunable) for g in whole.groups] == [("conv", False)]
    assert measure_cost(whole)["flops"].sum() == 8 * 8 * 16


def test_code_that_cannot_be_followed_is_shown():
    graph = trace(Net(lambda m, x: x if x.sum() > 0 else -x), X)
    assert [group.prunable for group in graph.groups] == [False, False]
    words = "a is in Net, whose forward cannot be followed, at `graph = trace(Net(lambda"
    assert words in graph.group_of("a").reason


@dataclasses.dataclass
class Outputs:
    logits: torch.Tensor
    maps: torch.Tensor


def test_what_is_returned_in_a_data_class_stays():
    class Rich(Net):
        def forward(self, x):
            return Outputs(super().forward(x), self.a(x))

    graph = trace(Rich(lambda m, x: x), X)
    assert "the model returns its maps" in graph.group_of("a").reason


def test_inputs_that_are_no_images(tmp_path):
    class Conditional(Net):
        def forward(self, x, labels):
            return super().forward(x) + self.table(labels).mean()

    model = Conditional(lambda m, x: x, table=nn.Embedding(10, 4))
    labels = torch.tensor([3, 4])
    plan = holds(model, {"*": 0.5}, X, labels)
    assert plan.input_dtypes == ["float64", "int64"]
    small = prune(model, plan)  # traced again from what the plan says
    path = save_pruned(tmp_path / "small.safetensors", small, plan)
    assert torch.equal(load_pruned(path, model)(X, labels), small(X, labels))


EXPORTED = torch.export.export(nn.Conv2d(3, 2, 1), (torch.zeros(1, 3, 8, 8),)).module()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Conv2d, r"got the class Conv2d. Pass Conv2d\(\)"),
        (abs, "got a builtin"),
        (torch.jit.script(nn.Conv2d(3, 2, 1)), "no Python code to follow"),
        (nn.DataParallel(nn.Conv2d(3, 2, 1)), "pass model.module"),
        (torch.compile(nn.Conv2d(3, 2, 1)), "pass model._orig_mod"),
        (EXPORTED, "an exported model has no Python code to follow: pass the module"),
        (nn.Sequential(EXPORTED), "an exported model has no Python code to follow"),
    ],
)
def test_what_is_no_plain_module_says_what_to_pass(model, words):
    with pytest.raises(ValueError, match=words):
        trace(model, X)
    with pytest.raises(ValueError, match="example_input is empty"):
        trace(Net(lambda m, x: x), X[:0])


def test_the_meta_device_has_no_norms():
    graph = trace(Net(lambda m, x: x).to("meta"), X.to("meta"))
    with pytest.raises(ValueError, match="order='random' needs none"):
        make_plan(graph, {"a": 0.5})
    assert len(make_plan(graph, {"a": 0.5}, order="random").keep["a"]) == 4


def test_several_inputs_and_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x, y, mask=None):
            z = self.a(x) + self.b(y)
            if mask is not None:
                z = z * mask
            return {"out": self.c(z), "sum": z.sum(1)}

    model = Two().double()
    graph = trace(model, (X, X))
    assert "the model returns its maps" in graph.group_of("c").reason

    class One(Two):
        def forward(self, x, y, mask=None):
            z = self.a(x) + self.b(y)
            return (self.c(z), self.c(z).mean((2, 3))) if mask is None else z

    plan = holds(One().double(), {"*": 0.5}, X, X)
    assert plan.keep["a"] == plan.keep["b"]


def test_heads_that_only_training_runs_are_pruned_with_the_rest():
    class Auxiliary(Net):
        def forward(self, x):
            out = super().forward(x)
            return (out, self.extra(self.a(x)).mean((2, 3))) if self.training else out

    model = Auxiliary(lambda m, x: x, extra=nn.Conv2d(8, 2, 1))
    graph = trace(model, X)
    assert "extra" not in graph.layers  # nor is it in the cost
    small = prune(model, make_plan(graph, {"a": 0.5})).train()
    assert [out.shape for out in small(X)] == [(2, 2), (2, 2)]


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.n = nn.Parameter(torch.rand(8, 1, 1)), 8

    def forward(self, x):
        if x.shape[1] != self.n:
            raise ValueError("wrong number of maps")
        return torch.einsum("nc...,c->nc...", x, self.scale[:, 0, 0])


def test_a_rule_for_ones_own_module():
    untaught = trace(Net(lambda m, x: m.g(x), g=Scale()), X)
    assert "einsum in g, which multiplies maps" in untaught.group_of("a").reason

    @rule(Scale)
    def scale(call):
        came = call.maps[0].along(1)  # (channels,) labels
        call.slice("scale", 0, came)  # scale[i] goes with channel i
        call.count("n", came)  # and n counts them
        return call.maps[0].labels

    try:
        model = Net(lambda m, x: m.g(x), g=Scale())
        holds(model, {"a": 0.5})
        assert prune(model, make_plan(trace(model, X), {"a": 0.5})).g.n == 4
    finally:
        del RULES[Scale]


def test_norms_over_channels_take_those_that_stay():
    """Zeros would change the mean: removed is not silenced there, but a norm over the survivors."""
    model = Net(lambda m, x: m.g(x), g=nn.GroupNorm(1, 8))
    with torch.no_grad():
        model.g.bias.normal_()
    graph = trace(model, X)
    plan = make_plan(graph, {"a": 0.5})
    holds(model, {"a": 0.5})
    kept = torch.zeros(8, 1, 1, dtype=torch.double)
    kept[plan.keep["a"]] = 1
    with torch.no_grad():
        maps = model.g(model.a(X) * kept) * kept
        masked = model.head(F.relu(model.b(maps)).mean((2, 3)))
        assert not torch.allclose(prune(model, plan)(X), masked, rtol=1e-3)


# what random networks found (tests/graph/test_fuzz.py)
FOUND = {
    "one norm under two names": ([(Shared, 0)], "mean"),
    "a depthwise conv of several filters that comes down to one map": (
        [(Plain, 0), (Plain, 7)],
        "mean",
    ),
    "two single maps put beside each other": ([(Dense, 0), (Squeeze, 1), (Plain, 31)], "mean"),
    "a tied layer that would lose all its filters": ([(Dense, 0), (Shared, 0)], "mean"),
}


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.filterwarnings("ignore:ratio .* would remove all")
def test_found_by_chance(name):
    blocks, head = FOUND[name]
    model = Drawn(blocks, head)
    assert any(group.prunable for group in trace(model, X).groups)
    for ratio in (0.4, 0.6, 0.9):
        plan = holds(model, {"*": ratio})
        assert all(plan.keep.values())
    small = prune(model, make_plan(trace(model, X), {"*": 0.6}))
    again = make_plan(trace(small, X), {"*": 0.2})
    with torch.no_grad():  # plans compose
        assert torch.allclose(prune(model, again)(X), prune(small, again)(X), rtol=1e-10)
