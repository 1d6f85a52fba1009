"""What a model's own code may do, and what becomes of it."""

import io
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_operators import Net, X, holds
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import DeformConv2d

from prunelab import load_pruned, make_plan, prune, save_pruned, silence, trace
from prunelab.graph.tracing import Trace


class Block(nn.Module):
    """conv, norm, activation, and where its input comes from."""

    def __init__(self, c, out, source=-1, stride=1):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(c, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.source = source

    def forward(self, x):
        return F.silu(self.norm(self.conv(x)))


class Join(nn.Module):
    def __init__(self, source):
        super().__init__()
        self.source = source

    def forward(self, x):
        return torch.cat(x, 1)


class Cross(nn.Module):
    """Splits its maps into halves by an attribute, as cross-stage blocks do."""

    def __init__(self, c, source=-1):
        super().__init__()
        self.half, self.source = c // 2, source
        self.first, self.inner = Block(c, c), Block(c // 2, c // 2)
        self.last = Block(3 * (c // 2), c)

    def forward(self, x):
        pieces = list(self.first(x).split((self.half, self.half), 1))
        pieces.append(self.inner(pieces[-1]))
        return self.last(torch.cat(pieces, 1))


class Head(nn.Module):
    """Boxes and classes of maps of several sizes, with places that it remembers."""

    def __init__(self, widths, classes=4, source=(3, 6)):
        super().__init__()
        self.outputs, self.source = 4 + classes, list(source)
        self.boxes = nn.ModuleList(nn.Sequential(Block(c, 8), nn.Conv2d(8, 4, 1)) for c in widths)
        self.classes = nn.ModuleList(
            nn.Sequential(Block(c, 8), nn.Conv2d(8, classes, 1)) for c in widths
        )
        self.shape, self.places = None, torch.empty(0)

    def forward(self, x):
        x = [torch.cat((self.boxes[i](m), self.classes[i](m)), 1) for i, m in enumerate(x)]
        if self.training:
            return x
        if self.shape != x[0].shape:
            self.shape = x[0].shape
            self.places = torch.cat([torch.arange(m.shape[-1], dtype=m.dtype) for m in x])
        every = torch.cat([m.flatten(2).view(m.shape[0], self.outputs, -1) for m in x], 2)
        boxes, classes = every.split((4, self.outputs - 4), 1)
        return torch.cat((boxes + self.places.mean(), classes.sigmoid()), 1), x


class Detector(nn.Module):
    """As detection networks are written: any arguments, a loop over modules, a list of maps."""

    def __init__(self):
        super().__init__()
        down = (nn.Upsample(scale_factor=2), Join([-1, 1]))
        down[0].source = -1
        self.model = nn.Sequential(
            Block(3, 8), Block(8, 16, stride=2), Block(16, 16, stride=2), Cross(16), *down,
            Block(32, 8), Head((16, 8)),
        )  # fmt: skip
        self.save = [1, 3, 6]

    def forward(self, x, *args, **kwargs):
        if isinstance(x, dict):
            return self.loss(x, *args, **kwargs)
        return self.predict(x, *args, **kwargs)

    def predict(self, x, profile=False, embed=None):
        kept, embed = [], frozenset(embed or {-1})
        for i, module in enumerate(self.model):
            if module.source != -1:
                one = isinstance(module.source, int)
                many = module.source if not one else [module.source]
                x = [x if j == -1 else kept[j] for j in many]
                x = x[0] if one else x
            x = module(x)
            kept.append(x if i in self.save or i in embed else None)
        return x


def test_a_detection_network(tmp_path):
    torch.manual_seed(0)
    model, x = Detector().double().eval(), torch.randn(1, 3, 32, 32, dtype=torch.double)
    graph = trace(model, x)
    stays = {group.leader for group in graph.groups if not group.prunable}
    assert stays == {"model.7.boxes.0.1", "model.7.classes.0.1"}
    plan = make_plan(graph, {"*": 0.5})
    small = prune(model, plan)
    assert small.model[3].half == 4
    with torch.no_grad():
        (ours, maps), (truth, whole) = small(x), silence(model, plan, graph=graph)(x)
    assert torch.allclose(ours, truth, rtol=1e-10)
    assert all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(maps, whole, strict=True))
    for out in small.train()(x):  # a list of maps
        out.square().mean().backward(retain_graph=True)
    assert all(parameter.grad is not None for parameter in small.parameters())
    path = save_pruned(tmp_path / "small.safetensors", small, plan)
    assert torch.equal(load_pruned(path, Detector().double())(x)[0], small.eval()(x)[0])


def scripted(m, x):
    return m.swish(x)


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.conv, self.reentrant = nn.Conv2d(8, 8, 1), reentrant

    def forward(self, x):
        return checkpoint(self.conv, x, use_reentrant=self.reentrant)


def by_number(m, x):
    scale = x.shape[-1] * 0.25
    size = max(int(scale * 2), np.array([x.shape[2], 2]).min())
    x = F.interpolate(x, size=(size, size))
    return F.pad(x, [0] * 2 + [x.size(3) // 4, 0])[:, :, : round(scale * 4)]


def with_data(x, data):
    y = x * 1
    y.data = data
    return y


def differentiable(x):
    x = x.detach()
    x.requires_grad = True
    return x


def in_place(module, x):
    """Moved and cast, to where and what it was."""
    return module.to(x.device).double().requires_grad_(False)(x)


def guarded(x):
    """As long as all is finite, nothing happens."""
    assert torch.isfinite(x).all()
    if x.isnan().any() or torch.any(torch.isinf(x)).item():
        raise ValueError("the maps are not finite")
    return x


CODE = {
    "a checkpoint": dict(do=lambda m, x: m.g(x), g=Checkpointed(False)),
    "a checkpoint of old": dict(do=lambda m, x: m.g(x), g=Checkpointed(True)),
    "as a tensor": dict(do=lambda m, x: torch.as_tensor(x).to(x.dtype).detach().clone()),
    "data and variables": dict(do=lambda m, x: torch.autograd.Variable(x.data)),
    "data that is set": dict(do=lambda m, x: with_data(x, x.flip(1).abs())),
    "guards against what is not finite": dict(do=lambda m, x: guarded(x)),
    "an attribute that is set": dict(do=lambda m, x: differentiable(x)),
    "a module that is moved": dict(do=lambda m, x: in_place(m.g, x), g=nn.Conv2d(8, 8, 1)),
    "numbers of places": dict(do=by_number),
    "a namespace": dict(do=lambda m, x: SimpleNamespace(maps=[x, x.relu()]).maps[-1]),
    "a dict": dict(do=lambda m, x: {"maps": x, "none": None}["maps"]),
    "iteration over images": dict(do=lambda m, x: torch.stack([image * 2 for image in x])),
    "a compiled part": dict(do=lambda m, x: m.g(x), g=torch.compile(nn.Conv2d(8, 8, 1))),
    "exceptions": dict(do=lambda m, x: caught(x)),
}


def caught(x):
    try:
        return x.reshape(-1, 7)
    except RuntimeError:
        return x


@pytest.mark.parametrize("name", CODE)
def test_code_that_is_followed(name):
    plan = holds(Net(**CODE[name]), {"*": 0.5})
    assert {"a", "b"} <= plan.removed.keys()


@torch.jit.script
def swish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


class Hidden(nn.Module):
    def forward(self, x):
        return swish(x)


def test_compiled_code_is_out_of_sight():
    graph = trace(Net(lambda m, x: m.g(x), g=Hidden()), X)
    assert "Hidden (g), whose forward cannot be followed" in graph.group_of("a").reason
    assert "out of sight" in graph.group_of("a").reason
    assert graph.group_of("b").prunable


def test_an_averaged_model_is_followed():
    model = AveragedModel(Net(lambda m, x: x))
    plan = make_plan(trace(model, X), {"module.a": 0.5})
    assert prune(model, plan).module.a.out_channels == 4


def test_a_branch_on_a_number_from_inside_a_tensor_is_not_followed():
    class Chooses(nn.Module):
        def forward(self, x):
            return x if x.mean().item() * 2 > 0 else -x

    graph = trace(Net(lambda m, x: m.g(x), g=Chooses()), X)
    assert "a branch on the values of a tensor" in graph.group_of("a").reason


ASKED = {
    "NaN": lambda x: torch.isnan(x / 0).any(),
    "infinity": lambda x: (x.exp() / 0).isinf().any(),
    "another": lambda x: torch.signbit(x).any(),
    "part": lambda x: torch.isnan(x).any(1)[0, 0, 0],
}


@pytest.mark.parametrize("name", ASKED)
def test_a_guard_that_finds_what_is_not_finite_is_not_followed(name):
    class Guarded(nn.Module):
        def forward(self, x):
            return -x if ASKED[name](x) else x

    graph = trace(Net(lambda m, x: m.g(x), g=Guarded()), X)
    assert "a branch on the values of a tensor" in graph.group_of("a").reason


class MaxNorm(nn.Conv2d):
    """As EEGNet writes it: no filter's norm is over 1."""

    def forward(self, x):
        self.weight.data = torch.renorm(self.weight.data, 2, 0, 1)
        return super().forward(x)


def test_a_weight_whose_numbers_the_code_sets_stays():
    graph = trace(Net(lambda m, x: m.g(x), g=MaxNorm(8, 8, 1)), X)
    reason = graph.group_of("a").reason
    assert "MaxNorm (g), whose forward cannot be followed, at `self.weight.data = " in reason
    assert "sets the data of g.weight" in reason
    assert graph.group_of("b").prunable


def test_a_fault_of_the_tracer_is_not_told_as_the_models(monkeypatch):
    monkeypatch.setattr(Trace, "recompile", lambda self: {}["odd"])
    with pytest.raises(RuntimeError, match=r"Net runs, but following its code failed.*KeyError"):
        trace(Net(lambda m, x: x), X)


def test_deformable_convolutions():
    class Deformed(nn.Module):
        def __init__(self):
            super().__init__()
            self.offset, self.conv = (
                nn.Conv2d(8, 18, 3, padding=1),
                DeformConv2d(8, 8, 3, padding=1),
            )

        def forward(self, x):
            return self.conv(x, self.offset(x))

    model = Net(lambda m, x: m.g(x), g=Deformed())
    plan = holds(model, {"*": 0.5})
    assert plan.removed.keys() == {"a", "b", "g.conv"}
    assert "offsets" in trace(model, X).group_of("g.offset").reason


SENTENCES = {
    "a row of fixed length": (lambda m, x: x.view(-1, 512), "write x.flatten(1)"),
    "a slide over channels": (
        lambda m, x: x * F.conv1d(x.mean((2, 3))[:, None], m.kernel).mT[..., None],
        "neighbours matter",
    ),
    "uneven parts": (
        lambda m, x: torch.cat(x.split([3, 5], 1), 1),
        "keep the sizes as attributes of the module, and split by those",
    ),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_reasons_say_what_to_type(name):
    do, words = SENTENCES[name]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.kernel = nn.Conv2d(3, 8, 1), nn.Parameter(torch.ones(1, 1, 1))

        def forward(self, x):
            return do(self, self.a(x)).sum()

    reason = trace(Model().double(), X).group_of("a").reason
    assert words in reason
    assert "in Model.forward" in reason


def test_inputs_that_are_no_tensors_need_a_wrapper():
    class Keyed(Net):
        def forward(self, batch, *, scale):
            return super().forward(batch["image"]) * scale

    for given in ({"image": X}, [X], None):
        with pytest.raises(ValueError, match=r"class Wrapped\(nn.Module\)"):
            trace(Keyed(lambda m, x: x), given)
    with pytest.raises(ValueError, match=r"(?s)missing 1 required.*class Wrapped\(nn.Module\)"):
        trace(Keyed(lambda m, x: x), X)


def test_the_pruned_network_is_in_the_state_of_the_whole_one():
    images = torch.randn(1, 3, 64, 64)
    model = create_feature_extractor(resnet18(), {"layer2": "maps", "avgpool": "last"})
    model = model.to(memory_format=torch.channels_last).eval()
    model.layer1.train()
    model.conv1.weight.requires_grad_(False)
    model.remark = "seen"
    model.register_forward_hook(lambda module, given, out: None)
    small = prune(model, make_plan(trace(model, images), {"*": 0.3}))
    modes = [
        (a.training, b.training) for a, b in zip(model.modules(), small.modules(), strict=True)
    ]
    assert all(ours == whole for ours, whole in modes)
    assert small.remark == "seen"
    assert len(small._forward_hooks) == 1
    assert not small.conv1.weight.requires_grad
    for name, tensor in small.named_parameters():
        if tensor.ndim == 4 and tensor.shape[2] > 1:
            assert tensor.is_contiguous(memory_format=torch.channels_last), name


def test_what_cannot_be_copied_is_shared():
    model = Net(lambda m, x: x)
    model.lock, model.file = threading.Lock(), io.TextIOWrapper(io.BytesIO())
    model.chance, model.nested = torch.Generator(), {"locks": [threading.Lock(), 1]}
    small = prune(model, make_plan(trace(model, X), {"a": 0.5}))
    assert small.lock is model.lock
    assert small.file is model.file
    assert small.nested["locks"][0] is model.nested["locks"][0]
    assert small.nested is not model.nested


def test_maps_that_a_forward_kept_are_copied_wherever_they_are(tmp_path):
    def keep(m, x):
        m.kept = {"maps": x, "more": [{"deep": (x.relu(),)}], "other": SimpleNamespace(maps=x)}
        return x

    model = Net(keep)
    whole = model(X)
    plan = make_plan(trace(model, X), {"a": 0.5})
    small = prune(model, plan)
    truth = silence(model, plan)(X)
    assert torch.allclose(small(X), truth)
    path = save_pruned(tmp_path / "small.safetensors", small, plan)
    loaded = load_pruned(path, model)
    assert torch.equal(loaded.kept["maps"], loaded.kept["other"].maps)  # the same, before it runs
    assert torch.equal(loaded(X), small(X))
    assert model.kept["maps"].requires_grad
    assert torch.equal(model(X), whole)


def test_a_plan_remembers_its_trace_but_no_model(monkeypatch):
    model = Net(lambda m, x: x)
    plan = make_plan(trace(model, X), {"a": 0.5})
    assert prune(model, plan).a.out_channels == 4
    model.extra = nn.Identity()  # another network than that traced
    assert prune(model, plan).a.out_channels == 4
    assert not hasattr(prune(model, plan).pruning_plan, "_traced")


class Reads(nn.Module):
    """Its width is a number to the code of one, and followed in that of the other."""

    def __init__(self, how):
        super().__init__()
        self.width, self.how = 8, how

    def forward(self, x):
        if self.how == "values" and x.mean() > 1e6:
            return -x
        return x.flatten(2).view(len(x), self.width, *x.shape[2:])


def test_a_number_that_some_code_reads_plainly_stays():
    class Chooses(nn.Module):
        def __init__(self, other):
            super().__init__()
            self.others = [other]  # not one of its modules

        def forward(self, x):
            return x.view(len(x), self.others[0].width, 8, 8) if x.mean() < 1e6 else -x

    other = Reads("sizes")
    model = Net(lambda m, x: m.h(m.b2(m.g(x))), g=other, h=Chooses(other), b2=nn.Conv2d(8, 8, 1))
    graph = trace(model, X)
    assert "reads the number g.width by itself" in graph.group_of("a").reason
    holds(model, {"*": 0.5})


def test_a_forward_that_was_put_in_place_is_followed():
    model = Net(lambda m, x: x)
    model.b.forward = lambda x: model.b._conv_forward(x.roll(1, 1), model.b.weight, model.b.bias)
    assert "roll" in trace(model, X).group_of("a").reason


def test_values_of_a_weight_that_the_code_takes():
    model = Net(lambda m, x: x * float(len(m.a.weight.detach().tolist())))
    assert not trace(model, X).group_of("a").prunable
    model = Net(lambda m, x: x * sum(m.a.weight.flatten().tolist()))
    assert not trace(model, X).group_of("a").prunable
    model = Net(lambda m, x: x * float(m.a.weight.numpy().sum()))
    assert "reads a.weight by itself, in numpy" in trace(model, X).group_of("a").reason
