"""The table of operators: a tiny network around each, pruned and held against the oracle.

`python tests/graph/table.py` writes docs/reference/operators.md; test_table.py runs the same cases.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab import make_plan, prune, silence, trace

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "operators.md"
SIZES = {1: (8,), 2: (8, 8), 3: (4, 6, 6)}
CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
FREE, LEFT, UNITS = "free", "free, over those left", "in units"
COMMAND = "python tests/graph/table.py"
HEAD = f"""# Operators

What becomes of filters when their maps reach an operator of torch. Around each, a tiny network is built: a convolution of eight filters, the operator, and a layer that reads what comes out. It is pruned at 50 %, twice in a row where it can be, and must compute what the network of full size does whose layers read zero for the removed maps (relative error at most 1e-10). `{COMMAND}` does this and writes the page anew; the tests run the same cases.

- **{FREE}**: any of the filters can go.
- **{LEFT}**: likewise; what the operator takes over channels (a mean, a softmax), it takes over the channels that are left.
- **{UNITS}**: filters go several at once, so that halves or groups stay equally wide.
- **stays**: the filters cannot be removed, and the reason says why.

A name is followed by what it does where that matters: *places* are the dimensions of an image or a sequence, *channels* are its maps. Lazy modules are the others once they have run. In-place methods (`relu_`), and the functions `torch.…` of a method's name, are in the row of the method.
"""  # noqa: E501


@dataclass(frozen=True)
class Case:
    """What a tiny network does with its maps, by the network and the maps of its first layer."""

    do: Callable[..., Any]
    dims: int = 2
    modules: dict[str, nn.Module] = field(default_factory=dict)
    again: bool = True  # what is pruned is pruned once more


class Tiny(nn.Module):
    """conv a → what a case does with its maps → a layer b that reads them → linear head."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.a = CONVS[case.dims](3, 8, 3, padding=1)
        for name, module in case.modules.items():
            setattr(self, name, module)
        self.do = case.do
        self.double().eval()
        x = make_input(case.dims)
        with torch.no_grad():
            out = self.between(x)
            _shake(self, case.modules)
        kind = {2: nn.Linear}.get(out.ndim) or CONVS[out.ndim - 2]
        self.b = kind(out.shape[1], 6, *[1] * (out.ndim > 2))
        self.head = nn.Linear(6, 2)
        self.double().eval()

    def between(self, x: Tensor) -> Tensor:
        out = self.do(self, self.a(x).sigmoid())
        if out.is_complex():
            out = torch.view_as_real(out).sum(-1)
        return out if out.dtype == torch.double else out.double()

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.between(x)).relu()
        return self.head(y.flatten(2).mean(-1) if y.ndim > 2 else y)


def make_input(dims: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, *SIZES[dims], generator=generator, dtype=torch.double)


def _shake(model: nn.Module, names: Any) -> None:
    """Vectors as after training, so that a removed map is not a zero map."""
    for name in names:
        own = getattr(model, name)
        for tensor in (*own.parameters(), *own.buffers()):
            if tensor.ndim == 1 and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)


def judge(case: Case) -> tuple[str, str]:
    """The verdict on an operator and, if its maps stay, the reason; what is free is pruned."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, x = Tiny(case), make_input(case.dims)
        graph = trace(model, x)
        group = graph.group_of("a")
        if "b" in graph.layers:
            assert graph.group_of("b").prunable, graph.group_of("b").reason
        small = _prune_as_oracle(model, graph, x)
        if not group.prunable:
            return "stays", _shorten(group.reason)
        assert small.get_submodule("a").weight.shape[0] < group.size
        if case.again:
            _prune_as_oracle(small, trace(small, x), x)
    if graph.channels.mixes:
        return LEFT, ""
    return (UNITS if len(group.units) < group.size else FREE), ""


def _prune_as_oracle(model: nn.Module, graph: Any, x: Tensor) -> nn.Module:
    plan = make_plan(graph, {"*": 0.5})
    small = prune(model, plan, graph=graph)
    with torch.no_grad():
        ours, truth = small(x), silence(model, plan, graph=graph)(x)
    assert truth.isfinite().all(), "the case gives no numbers"
    assert (ours - truth).abs().max() <= 1e-10 * truth.abs().max(), "not as the oracle"
    return small


def _shorten(reason: str) -> str:
    """A reason without the place in the tiny network."""
    reason = re.sub(r"^its maps reach .*?(in Tiny\.forward|\([\w.]+\)), ", "", reason)
    return reason.replace(" in Tiny.forward", "").replace("|", "\\|")


# -- cases ------------------------------------------------------------------------------------


def _layer(module: nn.Module, dims: int = 2, **others: nn.Module) -> Case:
    return Case(lambda m, x: m.g(x), dims, {"g": module, **others})


def _sequence(module: nn.Module) -> Case:
    """Channels last, as recurrent layers want them."""
    return Case(lambda m, x: m.g(x.mT)[0].mT, 1, {"g": module})


def _random(do: Callable[..., Any], dims: int = 2, **modules: nn.Module) -> Case:
    """What draws numbers by chance: its maps are followed, their values left out."""
    return Case(lambda m, x: do(m, x) * 0 + x, dims, modules, again=False)


def _random_pool(do: Callable[..., Any], dims: int, **modules: nn.Module) -> Case:
    def run(m: Any, x: Tensor) -> Tensor:
        out = do(m, x)
        return out * 0 + getattr(F, f"adaptive_avg_pool{dims}d")(x, out.shape[2:])

    return Case(run, dims, modules)


def _unpool(dims: int, *, by_module: bool, size: bool = False) -> Case:
    pool = getattr(nn, f"MaxPool{dims}d")(2, return_indices=True)
    unpool = getattr(nn, f"MaxUnpool{dims}d")(2)
    if by_module:
        return Case(
            lambda m, x: m.u(*m.g(x), output_size=x.size() if size else None),
            dims,
            {"g": pool, "u": unpool},
        )
    down, up = getattr(F, f"max_pool{dims}d"), getattr(F, f"max_unpool{dims}d")
    return Case(lambda m, x: up(*down(x, 2, return_indices=True), 2), dims)


SAME = """ReLU ReLU6 LeakyReLU RReLU ELU CELU SELU GELU SiLU Mish Sigmoid LogSigmoid Tanh Tanhshrink
    Softplus Softsign Softshrink Hardshrink Hardswish Hardsigmoid Hardtanh Dropout Dropout1d Dropout2d
    Dropout3d AlphaDropout FeatureAlphaDropout Identity""".split()  # noqa: E501
WITH_IN_PLACE = "ReLU ReLU6 LeakyReLU RReLU ELU CELU SELU SiLU Mish Hardswish Hardsigmoid Hardtanh"


def _activation(name: str) -> Case:
    kind = getattr(nn, name)
    dims = {"Dropout1d": 1, "Dropout3d": 3}.get(name, 2)
    modules = {"g": kind()}
    if name in WITH_IN_PLACE.split():
        modules["h"] = kind(inplace=True)
        return Case(lambda m, x: m.g(x) + m.h(x - 0.5), dims, modules, again=False)
    return Case(lambda m, x: m.g(x) + x, dims, modules, again=False)


def _lazy(name: str, *args: int) -> Case:
    dims = int(name[-2]) if name.endswith("d") else 1
    if name == "LazyLinear":
        return Case(lambda m, x: m.g(x.mT).mT, 1, {"g": nn.LazyLinear(8)})
    return Case(lambda m, x: m.g(x), dims, {"g": getattr(nn, name)(*args)})


def make_modules() -> dict[str, Case]:
    """Cases of torch.nn."""
    cases = {name: _activation(name) for name in SAME}
    for d in (1, 2, 3):
        for name in ("MaxPool", "AvgPool"):
            cases[f"{name}{d}d"] = _layer(getattr(nn, f"{name}{d}d")(2), d)
        cases[f"LPPool{d}d"] = _layer(getattr(nn, f"LPPool{d}d")(2, 2), d)
        for name in ("AdaptiveAvgPool", "AdaptiveMaxPool"):
            cases[f"{name}{d}d"] = _layer(getattr(nn, f"{name}{d}d")(2), d)
        cases[f"MaxUnpool{d}d"] = _unpool(d, by_module=True)
        cases[f"MaxUnpool{d}d, to a given size"] = _unpool(d, by_module=True, size=True)
        for name in ("Reflection", "Replication", "Circular", "Zero", "Constant"):
            args = (1, 0.3) if name == "Constant" else (1,)
            cases[f"{name}Pad{d}d"] = _layer(getattr(nn, f"{name}Pad{d}d")(*args), d)
        conv, back = CONVS[d], getattr(nn, f"ConvTranspose{d}d")
        cases[f"Conv{d}d"] = _layer(conv(8, 8, 3, padding=1), d)
        cases[f"Conv{d}d, depthwise"] = _layer(conv(8, 16, 3, padding=1, groups=8), d)
        cases[f"Conv{d}d, of groups"] = _layer(conv(8, 8, 3, padding=1, groups=2), d)
        cases[f"ConvTranspose{d}d"] = _layer(back(8, 8, 2, 2), d)
        cases[f"ConvTranspose{d}d, of groups"] = _layer(back(8, 8, 2, 2, groups=2), d)
        cases[f"BatchNorm{d}d"] = _layer(getattr(nn, f"BatchNorm{d}d")(8), d)
        cases[f"InstanceNorm{d}d"] = _layer(getattr(nn, f"InstanceNorm{d}d")(8, affine=True), d)
        cases[f"LazyConv{d}d"] = _lazy(f"LazyConv{d}d", 8, 1)
        cases[f"LazyConvTranspose{d}d"] = _lazy(f"LazyConvTranspose{d}d", 8, 2, 2)
        cases[f"LazyBatchNorm{d}d"] = _lazy(f"LazyBatchNorm{d}d")
        cases[f"LazyInstanceNorm{d}d"] = _lazy(f"LazyInstanceNorm{d}d")
    cases["LazyLinear"] = _lazy("LazyLinear")
    for d in (2, 3):
        kind = getattr(nn, f"FractionalMaxPool{d}d")
        cases[f"FractionalMaxPool{d}d"] = _random_pool(lambda m, x: m.g(x), d, g=kind(2, 2))
        samples = torch.rand(2, 8, d, generator=torch.Generator().manual_seed(0)).double()
        given = kind(2, 2, _random_samples=samples)
        cases[f"FractionalMaxPool{d}d, at given places"] = _layer(given, d)
    for kind in (nn.RNN, nn.LSTM, nn.GRU):
        cases[kind.__name__] = _sequence(kind(8, 5, batch_first=True))
        both = kind(8, 5, 2, bidirectional=True, batch_first=True)
        cases[f"{kind.__name__}, both ways"] = _sequence(both)
        over = Case(lambda m, x: m.g(x)[0], 1, {"g": kind(8, 5)})
        cases[f"{kind.__name__}, channels as places"] = over
    for kind in (nn.RNNCell, nn.GRUCell):
        cases[kind.__name__] = Case(lambda m, x: m.g(x.mean((2, 3))), 2, {"g": kind(8, 5)})
    cases["LSTMCell"] = Case(lambda m, x: m.g(x.mean((2, 3)))[0], 2, {"g": nn.LSTMCell(8, 5)})
    attend = {"g": nn.MultiheadAttention(8, 2, batch_first=True)}
    layer: Any = dict(dim_feedforward=8, batch_first=True)
    encoder = nn.TransformerEncoderLayer(8, 2, **layer)
    decoder = nn.TransformerDecoderLayer(8, 2, **layer)
    whole = nn.Transformer(8, 2, 1, 1, **layer)
    pair = lambda m, x: m.g(x.mT, x.mT).mT  # noqa: E731
    one = lambda m, x: m.g(x.mT).mT  # noqa: E731
    cases |= {
        "Threshold": _layer(nn.Threshold(0.4, 0.1)),
        "PReLU": _layer(nn.PReLU(8)),
        "PReLU, one number": _layer(nn.PReLU()),
        "GLU, over channels": _layer(nn.GLU(1)),
        "GLU, over places": _layer(nn.GLU(-1)),
        "Softmax, over channels": _layer(nn.Softmax(1)),
        "Softmax, over places": _layer(nn.Softmax(-1)),
        "LogSoftmax, over channels": _layer(nn.LogSoftmax(1)),
        "LogSoftmax, over places": _layer(nn.LogSoftmax(-1)),
        "Softmin, over channels": _layer(nn.Softmin(1)),
        "Softmin, over places": _layer(nn.Softmin(-1)),
        "Softmax2d": _layer(nn.Softmax2d()),
        "Upsample": _layer(nn.Upsample(scale_factor=2, mode="bilinear")),
        "UpsamplingNearest2d": _layer(nn.UpsamplingNearest2d(scale_factor=2)),
        "UpsamplingBilinear2d": _layer(nn.UpsamplingBilinear2d(scale_factor=2)),
        "PixelShuffle": _layer(nn.PixelShuffle(2)),
        "PixelUnshuffle": _layer(nn.PixelUnshuffle(2)),
        "ChannelShuffle": _layer(nn.ChannelShuffle(2)),
        "Unfold": _layer(nn.Unfold(2)),
        "Fold": Case(lambda m, x: m.g(x.flatten(2)[..., :49]), 2, {"g": nn.Fold((8, 8), 2)}),
        "Flatten": _layer(nn.Flatten()),
        "Flatten, of places": _layer(nn.Flatten(2)),
        "Unflatten, of places": _layer(nn.Unflatten(-1, (2, 4))),
        "Unflatten, of channels": _layer(nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Flatten(1, 2))),
        "Linear": Case(lambda m, x: m.g(x.mT).mT, 1, {"g": nn.Linear(8, 8)}),
        "Linear, over places": Case(lambda m, x: m.g(x), 1, {"g": nn.Linear(8, 8)}),
        "Bilinear": Case(lambda m, x: m.g(x.mean(-1), x.amax(-1)), 1, {"g": nn.Bilinear(8, 8, 5)}),
        "SyncBatchNorm": _layer(nn.SyncBatchNorm(8)),
        "GroupNorm": _layer(nn.GroupNorm(2, 8)),
        "GroupNorm, one group": _layer(nn.GroupNorm(1, 8)),
        "GroupNorm, a group for each": _layer(nn.GroupNorm(8, 8)),
        "LayerNorm, over channels": Case(one, 1, {"g": nn.LayerNorm(8)}),
        "LayerNorm, over places": _layer(nn.LayerNorm((8, 8))),
        "LayerNorm, over all": _layer(nn.LayerNorm((8, 8, 8))),
        "RMSNorm, over channels": Case(one, 1, {"g": nn.RMSNorm(8)}),
        "RMSNorm, over places": _layer(nn.RMSNorm((8, 8))),
        "LocalResponseNorm": _layer(nn.LocalResponseNorm(3)),
        "CrossMapLRN2d": _layer(nn.CrossMapLRN2d(3)),
        "CosineSimilarity, over places": Case(
            lambda m, x: m.g(x, x.sqrt()), 2, {"g": nn.CosineSimilarity(dim=2)}
        ),
        "CosineSimilarity, over channels": Case(
            lambda m, x: m.g(x, x.sqrt())[:, None], 2, {"g": nn.CosineSimilarity()}
        ),
        "PairwiseDistance, over places": Case(
            lambda m, x: m.g(x, x.sqrt()), 2, {"g": nn.PairwiseDistance()}
        ),
        "PairwiseDistance, over channels": Case(
            lambda m, x: m.g(x.mT, x.sqrt().mT)[:, None], 1, {"g": nn.PairwiseDistance()}
        ),
        "MultiheadAttention": Case(lambda m, x: m.g(*[x.mT] * 3)[0].mT, 1, attend),
        "TransformerEncoderLayer": Case(one, 1, {"g": encoder}),
        "TransformerEncoder": Case(one, 1, {"g": nn.TransformerEncoder(encoder, 1)}),
        "TransformerDecoderLayer": Case(pair, 1, {"g": decoder}),
        "TransformerDecoder": Case(pair, 1, {"g": nn.TransformerDecoder(decoder, 1)}),
        "Transformer": Case(pair, 1, {"g": whole}),
    }
    return cases


PLAIN_FUNCTIONS = """relu relu_ relu6 leaky_relu leaky_relu_ rrelu rrelu_ elu elu_ celu celu_ selu selu_
    gelu silu mish sigmoid logsigmoid tanh tanhshrink softplus softsign hardswish hardsigmoid hardtanh
    hardtanh_ hardshrink softshrink""".split()  # noqa: E501


def _plain_function(name: str) -> Case:
    do = getattr(F, name)
    return Case(lambda m, x: do(x - 0.5) + x, again=False)


def _function(name: str, *args: Any, dims: int = 2, **named: Any) -> Case:
    """A function of the maps; of several tensors that it gives, the first."""
    do = getattr(F, name)

    def run(m: Any, x: Tensor) -> Tensor:
        out = do(x.clone(), *args, **named)
        return out[0] if isinstance(out, tuple) else out

    return Case(run, dims)


def _convolution(name: str, dims: int, layer: nn.Module) -> Case:
    do = getattr(F, name)
    return Case(lambda m, x: do(x, m.g.weight, m.g.bias), dims, {"g": layer})


def make_functions() -> dict[str, Case]:
    """Cases of torch.nn.functional."""
    cases = {name: _plain_function(name) for name in PLAIN_FUNCTIONS}
    for name in ("threshold", "threshold_"):
        cases[name] = _function(name, 0.4, 0.1)
    drops = dict.fromkeys(("dropout", "dropout2d", "alpha_dropout", "feature_alpha_dropout"), 2)
    for name, d in (drops | {"dropout1d": 1, "dropout3d": 3}).items():
        cases[name] = _function(name, 0.5, dims=d, training=False)
    for d in (1, 2, 3):
        for name in ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool"):
            cases[f"{name}{d}d"] = _function(f"{name}{d}d", 2, dims=d)
        for name in ("max_pool", "adaptive_max_pool"):
            cases[f"{name}{d}d_with_indices"] = _function(f"{name}{d}d_with_indices", 2, dims=d)
        cases[f"lp_pool{d}d"] = _function(f"lp_pool{d}d", 2, 2, dims=d)
        cases[f"max_unpool{d}d"] = _unpool(d, by_module=False)
        back = getattr(nn, f"ConvTranspose{d}d")(8, 8, 2, 2)
        cases[f"conv{d}d"] = _convolution(f"conv{d}d", d, CONVS[d](8, 8, 1))
        cases[f"conv_transpose{d}d"] = _convolution(f"conv_transpose{d}d", d, back)
    for d in (2, 3):
        for name in (f"fractional_max_pool{d}d", f"fractional_max_pool{d}d_with_indices"):
            cases[name] = _random_pool(_function(name, 2, 2).do, d)
    theta = nn.PReLU(6)
    norm, vector = {"g": nn.BatchNorm2d(8)}, {"g": nn.PReLU(8)}
    square = lambda m, x: F.scaled_dot_product_attention(x, x, x)  # noqa: E731
    cases |= {
        "affine_grid, of maps": Case(
            lambda m, x: F.affine_grid(
                x.mean((2, 3)).chunk(4, 1)[0][:, :, None].expand(-1, -1, 3), [2, 1, 4, 4]
            ).permute(0, 3, 1, 2)
        ),
        "grid_sample": Case(
            lambda m, x: F.grid_sample(
                x, F.affine_grid(m.g.weight.view(1, 2, 3).expand(2, -1, -1), x.shape)
            ),
            2,
            {"g": theta},
        ),
        "batch_norm": Case(
            lambda m, x: F.batch_norm(x, m.g.running_mean, m.g.running_var, m.g.weight, m.g.bias),
            2,
            norm,
        ),
        "instance_norm": Case(lambda m, x: F.instance_norm(x)),
        "group_norm": Case(
            lambda m, x: F.group_norm(x, 2, m.g.weight, m.g.bias), 2, {"g": nn.GroupNorm(2, 8)}
        ),
        "layer_norm, over channels": Case(lambda m, x: F.layer_norm(x.mT, x.shape[1:2]).mT, 1),
        "layer_norm, over places": Case(lambda m, x: F.layer_norm(x, x.shape[2:])),
        "rms_norm, over channels": Case(lambda m, x: F.rms_norm(x.mT, x.shape[1:2]).mT, 1),
        "rms_norm, over places": Case(lambda m, x: F.rms_norm(x, x.shape[2:])),
        "local_response_norm": Case(lambda m, x: F.local_response_norm(x, 3)),
        "normalize, over channels": Case(lambda m, x: F.normalize(x)),
        "normalize, over places": Case(lambda m, x: F.normalize(x, dim=-1)),
        "prelu": Case(lambda m, x: F.prelu(x - 0.5, m.g.weight), 2, vector),
        "glu, over channels": Case(lambda m, x: F.glu(x, 1)),
        "glu, over places": Case(lambda m, x: F.glu(x)),
        "softmax, over channels": Case(lambda m, x: F.softmax(x, 1)),
        "softmax, over places": Case(lambda m, x: F.softmax(x, -1)),
        "log_softmax, over channels": Case(lambda m, x: F.log_softmax(x, 1)),
        "log_softmax, over places": Case(lambda m, x: F.log_softmax(x, -1)),
        "softmin, over channels": Case(lambda m, x: F.softmin(x, 1)),
        "softmin, over places": Case(lambda m, x: F.softmin(x, -1)),
        "gumbel_softmax, over channels": _random(lambda m, x: F.gumbel_softmax(x, dim=1)),
        "gumbel_softmax, over places": _random(lambda m, x: F.gumbel_softmax(x, dim=-1)),
        "interpolate": Case(lambda m, x: F.interpolate(x, scale_factor=2, mode="bicubic")),
        "upsample": Case(lambda m, x: F.upsample(x, scale_factor=2)),
        "upsample_nearest": Case(lambda m, x: F.upsample_nearest(x, scale_factor=2)),
        "upsample_bilinear": Case(lambda m, x: F.upsample_bilinear(x, scale_factor=2)),
        "pad": Case(lambda m, x: F.pad(x, (1, 2, 0, 1)) + F.pad(x, (1, 2, 0, 1), "reflect")),
        "pad, of channels": Case(lambda m, x: F.pad(x, (0, 0, 0, 0, 2, 2))),
        "pixel_shuffle": Case(lambda m, x: F.pixel_shuffle(x, 2)),
        "pixel_unshuffle": Case(lambda m, x: F.pixel_unshuffle(x, 2)),
        "channel_shuffle": Case(lambda m, x: F.channel_shuffle(x, 2)),
        "native_channel_shuffle": Case(lambda m, x: F.native_channel_shuffle(x, 2)),
        "unfold": Case(lambda m, x: F.unfold(x, 3, padding=1)),
        "fold": Case(lambda m, x: F.fold(F.unfold(x, 3, padding=1), (8, 8), 3, padding=1)),
        "linear": Case(
            lambda m, x: F.linear(x.mT, m.g.weight, m.g.bias).mT, 1, {"g": nn.Linear(8, 8)}
        ),
        "bilinear": Case(
            lambda m, x: F.bilinear(x.mean(-1), x.amax(-1), m.g.weight),
            1,
            {"g": nn.Bilinear(8, 8, 5)},
        ),
        "conv_tbc": Case(
            lambda m, x: F.conv_tbc(
                x.permute(2, 0, 1).contiguous(), m.g.weight.permute(2, 1, 0).contiguous(), m.g.bias
            ).permute(1, 2, 0),
            1,
            {"g": nn.Conv1d(8, 8, 1)},
        ),
        "cosine_similarity, over places": Case(
            lambda m, x: F.cosine_similarity(x, x.sqrt(), dim=2)
        ),
        "cosine_similarity, over channels": Case(
            lambda m, x: F.cosine_similarity(x, x.sqrt())[:, None]
        ),
        "pairwise_distance, over places": Case(lambda m, x: F.pairwise_distance(x, x.sqrt())),
        "pairwise_distance, over channels": Case(
            lambda m, x: F.pairwise_distance(x.mT, x.sqrt().mT)[:, None], 1
        ),
        "pdist": Case(lambda m, x: F.pdist(x.mean((2, 3)))[:, None].expand(2, 1)),
        "scaled_dot_product_attention": Case(square),
        "multi_head_attention_forward": Case(
            lambda m, x: F.multi_head_attention_forward(
                *[x.permute(2, 0, 1)] * 3,
                8,
                2,
                m.g.in_proj_weight,
                m.g.in_proj_bias,
                None,
                None,
                False,
                0.0,
                m.g.out_proj.weight,
                m.g.out_proj.bias,
                False,
            )[0].permute(1, 2, 0),
            1,
            {"g": nn.MultiheadAttention(8, 2)},
        ),
    }
    return cases


PLACES = torch.tensor([3, 1, 0])
UNARY = """abs absolute acos angle arccos arcsin arcsinh arctan arctanh asin asinh atan atanh ceil conj
    conj_physical cos cosh deg2rad digamma erf erfc erfinv exp exp2 expm1 fix floor frac hardshrink i0
    isfinite isinf isnan isneginf isposinf isreal lgamma log log10 log1p log2 logical_not logit
    nan_to_num neg negative positive rad2deg reciprocal relu resolve_conj resolve_neg round rsqrt sgn
    sigmoid sign signbit sin sinc sinh sqrt square tan tanh trunc clone contiguous detach""".split()  # noqa: E501
ABOVE_ONE = "acosh arccosh".split()
WHOLE_UNARY = ["bitwise_not"]
CASTS = """bfloat16 bool byte cdouble cfloat char double float half int long short""".split()
BINARY = """add arctan2 atan2 clamp_max clamp_min copysign div divide eq float_power floor_divide fmax
    fmin fmod ge greater greater_equal gt heaviside hypot igamma igammac isclose ldexp le less
    less_equal logaddexp logaddexp2 logical_and logical_or logical_xor lt maximum minimum mul multiply
    ne nextafter not_equal pow remainder sub subtract true_divide xlogy copy_""".split()  # noqa: E501
WHOLE_BINARY = """bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor gcd
    lcm""".split()
TERNARY = "addcdiv addcmul lerp clamp clip".split()
CHANCE = {"bernoulli": (), "bernoulli_": (), "uniform_": (), "normal_": (), "random_": (9,)}
CHANCE |= {"cauchy_": (), "exponential_": (), "geometric_": (0.5,), "log_normal_": ()}
SYMMETRIC = """sum mean nansum nanmean amax amin std var prod logsumexp count_nonzero all
    any norm""".split()
WITH_PLACES = "max min median nanmedian mode aminmax".split()  # they give two tensors
IN_ORDER = "cumsum cumprod logcumsumexp softmax log_softmax".split()
PAIRS_IN_ORDER = "cummax cummin sort".split()
OPERATORS = {
    "+ - * /": lambda m, x: (1 - x + m.g(x)) * x / (x + 1),
    "** % //": lambda m, x: (x + 1) ** m.g(x).sigmoid() + 2**x + x % 0.3 + (9 * x) // 2,
    "- abs ~": lambda m, x: -x + abs(x - 0.5) + (~(x > 0.5)).double(),
    "< <= > >= == !=": lambda m, x: sum(
        (y.double() for y in (x < 0.2, x <= 0.3, x > m.g(x), x >= 0.4, x == 0.5)), x != 0.6
    ),
    "& | ^ << >>": lambda m, x: ((x > 0.1) & (x < 0.7) | (x > 0.8) ^ (x > 0.9)).long() << 2 >> 1,
    "+= -= *= /= **= //= %=": lambda m, x: _in_place_operators(x.clone(), m.g(x)),
    "@": lambda m, x: x @ x,
}


def _in_place_operators(x: Tensor, y: Tensor) -> Tensor:
    x += y
    x -= 0.5 * y
    x *= y.sigmoid()
    x /= 2
    x %= 7
    x += 1
    x **= 2
    return x


def _spellings(name: str, *, in_place: bool = True) -> list[Callable[..., Any]]:
    """A method, the function of its name, and the method in place."""
    found = [getattr(Tensor, name)]
    found += [getattr(torch, name)] if hasattr(torch, name) and not name.endswith("_") else []
    changes = getattr(Tensor, f"{name}_", None)
    if in_place and changes is not None:
        found.append(lambda x, *args: changes(x.clone(), *args))
    return found


def _sum(values: list[Any]) -> Tensor:
    tensors = [v for value in values for v in (value if isinstance(value, tuple) else (value,))]
    tensors = [torch.view_as_real(t).sum(-1) if t.is_complex() else t.double() for t in tensors]
    return sum(tensors[1:], tensors[0])


def _elementwise(name: str, prepare: Callable[..., Any], **modules: nn.Module) -> Case:
    """Every spelling of a method, on what `prepare` makes of the maps."""

    def do(m: Any, x: Tensor) -> Tensor:
        given = prepare(m, x)
        return _sum([spelled(*given) for spelled in _spellings(name)]) + x

    return Case(do, 2, modules, again=False)


def _reduction(name: str, dim: Any, *args: Any) -> Case:
    """A reduction by its method and function; over channels it must keep their dimension."""

    def do(m: Any, x: Tensor) -> Tensor:
        named = {} if dim is None else {"dim": dim, "keepdim": dim == 1}
        if name == "count_nonzero":
            named.pop("keepdim", None)
        out = _sum([form(x, *args, **named) for form in _spellings(name, in_place=False)])
        if out.ndim == 3 and dim == 1:
            return out[:, None]
        return out if out.ndim else out.expand(2, 1)

    return Case(do, again=dim == 1)


def _along(name: str, *args: Any) -> Case:
    return Case(lambda m, x: _sum([form(x, *args) for form in _spellings(name)]))


def make_methods() -> dict[str, Case]:
    """Cases of torch.Tensor's methods, with torch's functions of the same names."""
    cases = {
        name: Case(do, 2, {"g": nn.Conv2d(8, 8, 1)}, again=False) for name, do in OPERATORS.items()
    }
    cases |= {name: _elementwise(name, lambda m, x: (0.8 * x + 0.1,)) for name in UNARY}
    cases |= {name: _elementwise(name, lambda m, x: (x + 1.1,)) for name in ABOVE_ONE}
    whole = lambda m, x: ((9 * x).long(),)  # noqa: E731
    cases |= {name: _elementwise(name, whole) for name in WHOLE_UNARY}
    cases |= {
        name: Case(lambda m, x, n=name: _sum([getattr(9 * x, n)()]), again=False) for name in CASTS
    }
    cases["chalf"] = Case(lambda m, x: x.chalf().cfloat())
    pair = lambda m, x: (x, m.g(x).sigmoid() + 0.1)  # noqa: E731
    cases |= {name: _elementwise(name, pair, g=nn.Conv2d(8, 8, 1)) for name in BINARY}
    wholes = lambda m, x: ((9 * x).long(), (5 * m.g(x).sigmoid()).long() + 1)  # noqa: E731
    cases |= {name: _elementwise(name, wholes, g=nn.Conv2d(8, 8, 1)) for name in WHOLE_BINARY}
    three = lambda m, x: (x, m.g(x).sigmoid(), m.g(x).sigmoid() + 0.5)  # noqa: E731
    cases |= {name: _elementwise(name, three, g=nn.Conv2d(8, 8, 1)) for name in TERNARY}
    cases |= {
        name: _random(lambda m, x, n=name, args=args: getattr(x.clone(), n)(*args))
        for name, args in CHANCE.items()
    }
    for name in (*SYMMETRIC, *WITH_PLACES, "argmax", "argmin"):
        given = (2,) if name == "norm" else ()
        dim = 2 if name in ("std", "var") else 3
        cases[f"{name}, over channels"] = _reduction(name, 1, *given)
        cases[f"{name}, over places"] = _reduction(name, dim, *given)
        if name not in ("logsumexp", "mode", "aminmax", "argmax", "argmin"):
            cases[f"{name}, over all"] = _reduction(name, None, *given)
    for name in ("quantile", "nanquantile"):
        cases[f"{name}, over channels"] = _reduction(name, 1, 0.3)
        cases[f"{name}, over places"] = _reduction(name, 3, 0.3)
    for name in ("kthvalue", "topk"):
        cases[f"{name}, over channels"] = Case(lambda m, x, n=name: getattr(x, n)(1, 1)[0])
        cases[f"{name}, over places"] = Case(lambda m, x, n=name: getattr(x, n)(2, 2)[0])
        if name == "kthvalue":
            again = Case(lambda m, x: x.kthvalue(1, 1)[0][:, None])
            cases[f"{name}, over channels"] = again
    for name in (*IN_ORDER, *PAIRS_IN_ORDER, "argsort"):
        cases[f"{name}, over channels"] = _along(name, 1)
        cases[f"{name}, over places"] = _along(name, 2)
    cases |= _make_other_methods()
    for name in ("index_add", "index_copy"):
        cases[f"{name}, of places"] = Case(
            lambda m, x, n=name: _sum([form(x, 2, PLACES, x[:, :, :3]) for form in _spellings(n)])
        )
        cases[f"{name}, of channels"] = Case(
            lambda m, x, n=name: getattr(x, n)(1, PLACES, m.g(x)), 2, {"g": nn.Conv2d(8, 3, 1)}
        )
    cases["index_reduce"] = Case(
        lambda m, x: _sum(
            [form(x, 2, PLACES, x[:, :, :3], "amax") for form in _spellings("index_reduce")]
        )
    )
    known = lambda name: hasattr(Tensor, name.partition(",")[0]) or name in OPERATORS  # noqa: E731
    return {name: case for name, case in cases.items() if known(name)}


def _pieces(name: str, n: Any, *args: int) -> Case:
    """A split, whose pieces are put together again in the other order."""
    dim = args[0] if args else {"vsplit": 0, "hsplit": 1, "dsplit": 2}[name]

    def do(m: Any, x: Tensor) -> Tensor:
        how = n(x) if callable(n) else n
        return torch.cat([*getattr(x, name)(how, *args)][::-1], dim)

    return Case(do)


def _make_other_methods() -> dict[str, Case]:
    places = PLACES
    half = lambda x: x.shape[1] // 2  # noqa: E731
    halves = lambda x: [x.shape[1] // 2] * 2  # noqa: E731
    conv = {"g": nn.Conv2d(8, 8, 1)}
    cases = {
        "where": Case(
            lambda m, x: m.g(x).where(x > 0.5, x) + torch.where(x > 0.5, x, 0.0), 2, conv
        ),
        "masked_fill": _elementwise("masked_fill", lambda m, x: (x, m.g(x) > 0, 0.5), **conv),
        "polygamma": Case(lambda m, x: torch.polygamma(1, x) + x.clone().polygamma_(1)),
        "mvlgamma": Case(lambda m, x: (x + 2).mvlgamma(2) + (x + 2).mvlgamma_(2)),
        "frexp": Case(lambda m, x: _sum([x.frexp()])),
        "fill_": Case(lambda m, x: x + x.clone().fill_(0.5)),
        "zero_": Case(lambda m, x: x + x.clone().zero_()),
        "to": Case(lambda m, x: x.to(torch.float) + x.to(x)),
        "type": Case(lambda m, x: x.type(torch.float)),
        "type_as": Case(lambda m, x: x.type_as(x.float())),
        "cpu": Case(lambda m, x: x.cpu()),
        "requires_grad_": Case(lambda m, x: x.requires_grad_(False)),
        "new_zeros": Case(lambda m, x: x + x.new_zeros(x.shape)),
        "new_ones": Case(lambda m, x: x + x.new_ones(x.shape)),
        "new_full": Case(lambda m, x: x + x.new_full(x.shape, 0.5)),
        "new_empty": Case(lambda m, x: x + x.new_empty(x.shape).zero_()),
        "prelu": Case(lambda m, x: (x - 0.5).prelu(m.g.weight), 2, {"g": nn.PReLU(8)}),
        "msort": Case(lambda m, x: x.flatten(2).msort()),
        "renorm, of channels": Case(
            lambda m, x: x.renorm(2, 1, 0.5) + x.clone().renorm_(2, 1, 0.5)
        ),
        "renorm, of places": Case(lambda m, x: x.renorm(2, 2, 0.5)),
        "diff, over places": Case(lambda m, x: x.diff() + torch.diff(x)),
        "diff, over channels": Case(lambda m, x: x.diff(dim=1)),
        "flip, of channels": Case(lambda m, x: x.flip(1)),
        "flip, of places": Case(lambda m, x: x.flip(-1) + x.flip([2, 3])),
        "fliplr": Case(lambda m, x: x.fliplr()),
        "flipud": Case(lambda m, x: x.mean(-1).permute(1, 0, 2).flipud().permute(1, 0, 2)),
        "roll, of channels": Case(lambda m, x: x.roll(1, 1)),
        "roll, of places": Case(lambda m, x: x.roll((1, 2), (2, 3)) + torch.roll(x, 1, -1)),
        "rot90, of places": Case(lambda m, x: x.rot90(1, (2, 3))),
        "rot90, of channels": Case(lambda m, x: x.rot90(2, (1, 2))),
        "tril": Case(lambda m, x: x.tril() + x.clone().tril_() + torch.tril(x, 1)),
        "triu": Case(lambda m, x: x.triu() + x.clone().triu_() + torch.triu(x, 1)),
        "tril, of channels": Case(lambda m, x: x.tril(), 1),
        "triu, of channels": Case(lambda m, x: x.triu(), 1),
        "diagonal, of places": Case(lambda m, x: x.diagonal(0, 2, 3)),
        "diagonal, of channels": Case(lambda m, x: x.diagonal(0, 1, 2).mT),
        "unfold, of places": Case(lambda m, x: x.unfold(2, 3, 1).mean(-1)),
        "unfold, of channels": Case(lambda m, x: x.unfold(1, 3, 1).mean(-1)),
        "permute": Case(lambda m, x: x.permute(0, 1, 3, 2)),
        "transpose": Case(lambda m, x: x.transpose(2, 3) + x.clone().transpose_(2, 3)),
        "swapaxes": Case(lambda m, x: x.swapaxes(2, 3) + x.clone().swapaxes_(2, 3)),
        "swapdims": Case(lambda m, x: x.swapdims(2, 3) + x.clone().swapdims_(2, 3)),
        "t": Case(lambda m, x: x.mean((2, 3)).t().t() + x.mean((2, 3)).t_().t_()),
        "adjoint": Case(lambda m, x: x.adjoint() + x.mH + x.mT),
        "movedim": Case(lambda m, x: x.movedim(1, -1).relu().movedim(-1, 1)),
        "moveaxis": Case(lambda m, x: x.moveaxis(2, 3)),
        "squeeze": Case(lambda m, x: x.mean(-1, True).squeeze(-1) + x.amax(-1, True).squeeze_(-1)),
        "squeeze, of all": Case(lambda m, x: x.mean((2, 3), True).squeeze()),
        "unsqueeze": Case(lambda m, x: x.unsqueeze(-1).mean(-1) + x.unsqueeze_(-1).mean(-1)),
        "flatten": Case(lambda m, x: x.flatten(1)),
        "flatten, of places": Case(lambda m, x: x.flatten(2)),
        "unflatten, of places": Case(lambda m, x: x.unflatten(-1, (2, 4))),
        "unflatten, of channels": Case(lambda m, x: x.unflatten(1, (2, -1)).sum(1)),
        "view": Case(lambda m, x: x.view(x.shape[0], x.shape[1], -1)),
        "view, to a fixed number": Case(lambda m, x: x.view(-1, 8, 64)),
        "view_as": Case(lambda m, x: x.flatten(2).view_as(x)),
        "reshape": Case(lambda m, x: x.reshape(x.shape[0], x.shape[1], -1)),
        "reshape, into groups": Case(
            lambda m, x: x.reshape(x.shape[0], 2, -1, 8, 8).transpose(1, 2).flatten(1, 2)
        ),
        "reshape_as": Case(lambda m, x: x.flatten(2).reshape_as(x)),
        "ravel": Case(lambda m, x: x[0].ravel()[None].expand(2, -1)),
        "expand": Case(lambda m, x: x.mean(-1, True).expand(-1, -1, -1, 8)),
        "expand_as": Case(lambda m, x: x + x.mean(-1, True).expand_as(x)),
        "broadcast_to": Case(lambda m, x: x + x.mean(-1, True).broadcast_to(x.shape)),
        "repeat, of channels": Case(lambda m, x: x.repeat(1, 2, 1, 1)),
        "repeat, of places": Case(lambda m, x: x.repeat(1, 1, 2, 2)),
        "tile": Case(lambda m, x: x.tile(1, 2, 1, 2) + torch.tile(x, (1, 2, 1, 2))),
        "repeat_interleave, of channels": Case(lambda m, x: x.repeat_interleave(2, 1)),
        "repeat_interleave, of places": Case(lambda m, x: x.repeat_interleave(2, 2)),
        "chunk": _pieces("chunk", 2, 1),
        "unsafe_chunk": _pieces("unsafe_chunk", 2, 1),
        "split": _pieces("split", half, 1),
        "split, to fixed numbers": _pieces("split", [3, 5], 1),
        "unsafe_split": _pieces("unsafe_split", half, 1),
        "split_with_sizes": _pieces("split_with_sizes", halves, 1),
        "unsafe_split_with_sizes": _pieces("unsafe_split_with_sizes", halves, 1),
        "tensor_split": _pieces("tensor_split", 2, 1),
        "hsplit": _pieces("hsplit", 2),
        "dsplit": _pieces("dsplit", 2),
        "vsplit": _pieces("vsplit", 2),
        "unbind, of places": Case(lambda m, x: sum(x.unbind(-1))),
        "unbind, of channels": Case(lambda m, x: sum(x.unbind(1))[:, None]),
        "select, of places": Case(lambda m, x: x.select(2, 1)),
        "select, of channels": Case(lambda m, x: x.select(1, 1)[:, None]),
        "narrow, of places": Case(lambda m, x: x.narrow(2, 1, 3)),
        "narrow, of channels": Case(lambda m, x: x.narrow(1, 1, 3)),
        "narrow_copy, of places": Case(lambda m, x: x.narrow_copy(2, 1, 3)),
        "index_select, of places": Case(lambda m, x: x.index_select(2, places)),
        "index_select, of channels": Case(lambda m, x: x.index_select(1, places)),
        "index_fill, of places": Case(
            lambda m, x: x.index_fill(2, places, 0.5) + x.clone().index_fill_(3, places, 0.5)
        ),
        "index_fill, of channels": Case(lambda m, x: x.index_fill(1, places, 0.5)),
        "gather, of places": Case(
            lambda m, x: x.gather(2, x.argsort(2)) + x.gather(3, m.g(x).argsort(3)), 2, conv
        ),
        "gather, of channels": Case(lambda m, x: x.gather(1, (9 * x).long().clamp(0, 2))),
        "gather, of fewer channels": Case(
            lambda m, x: x.gather(2, m.g(x).argsort(2)), 2, {"g": nn.Conv2d(8, 4, 1)}
        ),
        "take_along_dim, of places": Case(lambda m, x: x.take_along_dim(x.argsort(2), 2)),
        "take_along_dim, of channels": Case(
            lambda m, x: x.take_along_dim((9 * x).long().clamp(0, 2), 1)
        ),
        "scatter, of places": Case(
            lambda m, x: x.scatter(2, x.argsort(2), x) + x.clone().scatter_(2, x.argsort(2), 0.5)
        ),
        "scatter, of channels": Case(lambda m, x: x.scatter(1, (9 * x).long().clamp(0, 2), 0.5)),
        "scatter_add": Case(
            lambda m, x: (
                x.scatter_add(2, x.argsort(2), x) + x.clone().scatter_add_(2, x.argsort(2), x)
            )
        ),
        "scatter_reduce": Case(
            lambda m, x: (
                x.scatter_reduce(2, x.argsort(2), x, "amax")
                + x.clone().scatter_reduce_(2, x.argsort(2), x, "prod")
            )
        ),
        "index_put": Case(lambda m, x: x.index_put((places[2:], places[2:]), x.mean())),
        "diagonal_scatter": Case(lambda m, x: x.diagonal_scatter(x[..., 0], 0, 2, 3)),
        "diag": Case(lambda m, x: x[0].diag()[None].expand(2, -1), 1),
        "diag_embed": Case(lambda m, x: x.diag_embed()),
        "diagflat": Case(lambda m, x: x.mean((2, 3)).diagflat()),
        "trace": Case(lambda m, x: x[0].trace().expand(2, 1), 1),
        "fill_diagonal_": Case(lambda m, x: x[0].clone().fill_diagonal_(0)[None], 1),
        "as_strided": Case(lambda m, x: x.as_strided((2, 8, 8, 8), (512, 64, 8, 1))),
        "as_strided_scatter": Case(
            lambda m, x: x.as_strided_scatter(torch.ones(2).double(), (2,), (1,))
        ),
        "sum_to_size": Case(lambda m, x: x.sum_to_size(2, 8, 1, 1)),
        "nonzero_static": Case(lambda m, x: x.nonzero_static(size=9)[:, :2]),
        "slice_scatter, of places": Case(lambda m, x: x.slice_scatter(x[:, :, :2], 2, 0, 2)),
        "slice_scatter, of channels": Case(lambda m, x: x.slice_scatter(x[:, :2], 1, 4, 6)),
        "select_scatter, of places": Case(lambda m, x: x.select_scatter(x[:, :, 1], 2, 0)),
        "select_scatter, of channels": Case(lambda m, x: x.select_scatter(x[:, 1], 1, 0)),
        "masked_select": Case(lambda m, x: x.masked_select(x > -1)[None, :9].expand(2, -1)),
        "masked_scatter": Case(lambda m, x: x.masked_scatter(x > 0.5, x)),
        "take": Case(lambda m, x: x.take(places)[None].expand(2, -1)),
        "put": Case(lambda m, x: x.put(places, places.double())),
        "unique": Case(lambda m, x: x.unique().sum().expand(2, 1)),
        "unique_consecutive": Case(lambda m, x: x.unique_consecutive().sum().expand(2, 1)),
        "nonzero": Case(lambda m, x: x.nonzero()[:9, :2]),
        "argwhere": Case(lambda m, x: x.argwhere()[:9, :2]),
        "histc": Case(lambda m, x: x.histc(5, 0, 1)[None].expand(2, -1)),
        "bincount": Case(lambda m, x: x.flatten().mul(9).long().bincount()[None, :5].expand(2, -1)),
        "histogram": Case(lambda m, x: x.histogram(5)[0][None].expand(2, -1)),
        "multinomial": Case(lambda m, x: x.mean((2, 3)).multinomial(2) * 0.0),
        "cov": Case(lambda m, x: x.flatten(1).cov()),
        "corrcoef": Case(lambda m, x: x.flatten(1).corrcoef()),
        "dist": Case(lambda m, x: x.dist(x.sqrt()).expand(2, 1)),
        "stft": Case(
            lambda m, x: (
                torch.stft(x.flatten(0, 1), 4, return_complex=True, window=torch.ones(4).double())
                .abs()
                .reshape(x.shape[0], -1, 3, 9)
            ),
            1,
        ),
        "istft": Case(
            lambda m, x: torch.istft(
                torch.complex(*[x.flatten(0, 1)[:, :3]] * 2), 4, window=torch.ones(4).double()
            ).reshape(x.shape[0], -1, 7),
        ),
        "matmul": Case(lambda m, x: x.matmul(x)),
        "bmm": Case(lambda m, x: x.bmm(x), 1),
        "baddbmm": Case(lambda m, x: x.baddbmm(x, x), 1),
        "mm": Case(lambda m, x: x[0].mm(x[0])[None], 1),
        "mv": Case(lambda m, x: x[0].mv(x.mean((0, 1)))[None].expand(2, -1), 1),
        "addmm": Case(lambda m, x: x[0].addmm(x[0], x[0])[None], 1),
        "addmv": Case(
            lambda m, x: x.mean((0, 2)).addmv(x[0], x.mean((0, 1)))[None].expand(2, -1), 1
        ),
        "addbmm": Case(lambda m, x: x[0].addbmm(x, x)[None], 1),
        "addr": Case(lambda m, x: x[0].addr(x.mean((0, 2)), x.mean((0, 1)))[None], 1),
        "inner": Case(lambda m, x: x.inner(x[0]).flatten(2), 1),
        "outer": Case(lambda m, x: x.mean((0, 2)).outer(x.mean((0, 2))), 1),
        "ger": Case(lambda m, x: x.mean((0, 2)).ger(x.mean((0, 2))), 1),
        "dot": Case(lambda m, x: x.mean((0, 2)).dot(x.mean((0, 2))).expand(2, 1), 1),
        "vdot": Case(lambda m, x: x.mean((0, 2)).vdot(x.mean((0, 2))).expand(2, 1), 1),
        "kron": Case(lambda m, x: x[0].kron(x[0])[None], 1),
        "cross": Case(lambda m, x: x[:, :, :3].cross(x[:, :, :3].sqrt(), dim=2)),
    }
    return cases


# -- forms: how people write one thing --------------------------------------------------------


def _split_attention(m: Any, x: Tensor) -> Tensor:
    """Radix softmax, as in ResNeSt."""
    batch, channels = x.shape[:2]
    parts = x.reshape(batch, 2, channels // 2, *x.shape[2:])
    gap = parts.sum(1).mean((2, 3), keepdim=True)
    scores = m.h(m.g(gap).relu()).view(batch, 1, 2, -1).transpose(1, 2).softmax(1)
    scores = scores.reshape(batch, -1).view(batch, -1, 1, 1)
    scores = scores.reshape(batch, 2, channels // 2, 1, 1)
    return (parts * scores).sum(1)


def _norm_by_hand(m: Any, x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    spread = (x - mean).pow(2).mean(1, keepdim=True)
    return m.g.weight[:, None, None] * (x - mean) / (spread + 1e-6).sqrt() + m.g.bias[:, None, None]


def _assigned(m: Any, x: Tensor) -> Tensor:
    half, y = x.shape[1] // 2, torch.zeros_like(x)
    y[:, :half], y[:, half:] = x[:, half:], x[:, :half]
    return y


def _bordered(m: Any, x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, 0] = 0
    y[:, :, :, -1:] = x[:, :, :, :1]
    return y


def _first_assigned(m: Any, x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :4] = 0
    return y


def _space_to_depth(m: Any, x: Tensor) -> Tensor:
    parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
    return torch.cat(parts, 1)


def _shuffle(m: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


def _residual_in_place(m: Any, x: Tensor) -> Tensor:
    y = m.g(x)
    y += x
    return y.relu_()


def _piecewise(m: Any, x: Tensor) -> Tensor:
    """Each piece is added to what became of the one before, as in Res2Net."""
    done = []
    for i, piece in enumerate(x.chunk(4, 1)):
        done.append(m.g(piece if i == 0 else piece + done[-1]))
    return torch.cat(done, 1)


def _standardised(m: Any, x: Tensor) -> Tensor:
    weight = m.g.weight
    weight = weight - weight.mean((1, 2, 3), keepdim=True)
    return F.conv2d(x, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5), m.g.bias)


def _response_norm(m: Any, x: Tensor) -> Tensor:
    """Global response normalisation, as in ConvNeXt V2."""
    x = x.permute(0, 2, 3, 1)
    length = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
    return (x + x * (length / (length.mean(-1, keepdim=True) + 1e-6))).permute(0, 3, 1, 2)


def _windows(m: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    parts = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
    parts = m.g(parts).view(n, h // 4, w // 4, 4, 4, -1)
    return parts.permute(0, 5, 1, 3, 2, 4).reshape(n, -1, h, w)


def _drop_path(m: Any, x: Tensor) -> Tensor:
    mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1.0)
    return x + m.g(x).div(0.9) * mask


class _Sized(nn.Module):
    """A part of the channels, by attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = 3, 5

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.split([self.first, self.second], 1)
        return torch.cat([b, a.relu()], 1)


class _Scaled(nn.Module):
    """Layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return x + x.tanh() * self.gamma.view(1, -1, 1, 1)


def _squeeze(by_linear: bool) -> Case:
    if by_linear:
        layers = {"g": nn.Linear(8, 4), "h": nn.Linear(4, 8)}

        def do(m: Any, x: Tensor) -> Tensor:
            scale = m.h(m.g(x.mean((2, 3))).relu()).sigmoid()
            return x * scale.view(x.shape[0], x.shape[1], 1, 1)

        return Case(do, 2, layers)
    convs = {"g": nn.Conv2d(8, 4, 1), "h": nn.Conv2d(4, 8, 1)}
    return Case(
        lambda m, x: x * m.h(m.g(F.adaptive_avg_pool2d(x, 1)).relu()).sigmoid().expand_as(x),
        2,
        convs,
    )


def make_forms() -> dict[str, Case]:
    """Cases of what people write by hand."""
    conv = {"g": nn.Conv2d(8, 8, 1)}
    one = {"g": nn.Conv2d(8, 1, 1)}
    return {
        "radix softmax (split attention)": Case(
            _split_attention, 2, {"g": nn.Conv2d(4, 3, 1), "h": nn.Conv2d(3, 8, 1)}
        ),
        "a norm over channels by hand": Case(_norm_by_hand, 2, {"g": nn.GroupNorm(1, 8)}),
        "response normalisation by hand (ConvNeXt V2)": Case(_response_norm),
        "layer scale": Case(lambda m, x: m.g(x), 2, {"g": _Scaled()}),
        "squeeze and excitation by convolutions": _squeeze(False),
        "squeeze and excitation by linear layers": _squeeze(True),
        "halves assigned": Case(_assigned),
        "a part of the places assigned": Case(_bordered),
        "a fixed part of the channels assigned": Case(_first_assigned),
        "repeat of one map for all": Case(
            lambda m, x: x * m.g(x).repeat(1, x.shape[1], 1, 1), 2, one
        ),
        "repeat as a shortcut": Case(
            lambda m, x: m.g(x) + x.repeat(1, 2, 1, 1), 2, {"g": nn.Conv2d(8, 16, 1)}
        ),
        "shuffle by view and transpose": Case(_shuffle),
        "split by attributes": Case(lambda m, x: m.g(x), 2, {"g": _Sized()}),
        "gate by halves": Case(lambda m, x: (lambda a, b: a * b.sigmoid())(*x.chunk(2, 1))),
        "gate by slices": Case(
            lambda m, x: x[:, : x.shape[1] // 2] * x[:, x.shape[1] // 2 :].sigmoid()
        ),
        "pad and add (option A)": Case(
            lambda m, x: m.g(x)[..., ::2, ::2] + F.pad(x[..., ::2, ::2], (0, 0, 0, 0, 4, 4)),
            2,
            {"g": nn.Conv2d(8, 16, 1)},
        ),
        "zeros beside (option A)": Case(
            lambda m, x: m.g(x) + torch.cat([x, torch.zeros_like(x)], 1),
            2,
            {"g": nn.Conv2d(8, 16, 1)},
        ),
        "a mask of the places": Case(lambda m, x: x * (x.mean(1, keepdim=True) > 0.5), 2),
        "attention to places (CBAM)": Case(
            lambda m, x: x * m.g(torch.cat([x.amax(1, True), x.mean(1, True)], 1)).sigmoid(),
            2,
            {"g": nn.Conv2d(2, 1, 3, padding=1)},
        ),
        "skip by cat (U-Net, DenseNet)": Case(
            lambda m, x: torch.cat([x, F.interpolate(m.g(F.max_pool2d(x, 2)), x.shape[2:])], 1),
            2,
            conv,
        ),
        "space to depth by strided slices": Case(_space_to_depth),
        "space to depth by view and permute": Case(
            lambda m, x: (
                x.view(x.shape[0], x.shape[1], 4, 2, 4, 2)
                .permute(0, 3, 5, 1, 2, 4)
                .reshape(x.shape[0], -1, 4, 4)
            )
        ),
        "residual": Case(lambda m, x: (x + m.g(x)).relu(), 2, conv),
        "residual in place": Case(_residual_in_place, 2, conv),
        "pieces in a loop (Res2Net)": Case(_piecewise, 2, {"g": nn.Conv2d(2, 2, 1)}),
        "weight standardisation": Case(_standardised, 2, conv),
        "weight norm": Case(
            lambda m, x: m.g(x),
            2,
            {"g": nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1))},
        ),
        "drop path": Case(_drop_path, 2, conv),
        "mean of places by view": Case(lambda m, x: x.view(*x.shape[:2], -1).mean(2)),
        "to channels last and back": Case(
            lambda m, x: m.g(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), 2, {"g": nn.Linear(8, 8)}
        ),
        "blur by a fixed kernel": Case(
            lambda m, x: F.conv2d(
                x, x.new_ones(1, 1, 3, 3).expand(x.shape[1], -1, -1, -1), groups=x.shape[1]
            )
        ),
        "blur of each map in the batch": Case(
            lambda m, x: F.conv2d(x.reshape(-1, 1, 8, 8), x.new_ones(1, 1, 3, 3)).view(
                x.shape[0], -1, 6, 6
            )
        ),
        "sum over a list": Case(lambda m, x: torch.stack([x, m.g(x)]).sum(0), 2, conv),
        "maxout": Case(lambda m, x: x.view(x.shape[0], -1, 2, 8, 8).amax(2)),
        "attention to channels by a 1d convolution (ECA)": Case(
            lambda m, x: x * m.g(x.mean((2, 3))[:, None])[:, 0, :, None, None].sigmoid(),
            2,
            {"g": nn.Conv1d(1, 1, 3, padding=1)},
        ),
        "attention by matrix products (non-local)": Case(
            lambda m, x: (x.flatten(2) @ (x.flatten(2).mT @ x.flatten(2)).softmax(-1)).view_as(x)
        ),
        "fast Fourier transform of places": Case(
            lambda m, x: torch.fft.irfft2(torch.fft.rfft2(x) * 0.5, s=x.shape[2:])
        ),
        "spectra by fft over all dimensions": Case(lambda m, x: torch.fft.fftn(x).abs()),
        "attention without weights (SimAM)": Case(
            lambda m, x: (
                x * ((x - x.mean((2, 3), True)) ** 2 / (x.var((2, 3), keepdim=True) + 1e-4))
            )
        ),
        "coordinates beside (CoordConv)": Case(
            lambda m, x: torch.cat(
                [x, torch.linspace(-1, 1, 8).to(x).expand(x.shape[0], 1, 8, 8)], 1
            )
        ),
        "tokens, a norm and a layer, and back (ViT)": Case(
            lambda m, x: (
                m.h(m.g(x.flatten(2).transpose(1, 2))).transpose(1, 2).unflatten(2, (8, 8))
            ),
            2,
            {"g": nn.LayerNorm(8), "h": nn.Linear(8, 8)},
        ),
        "windows and back (Swin)": Case(_windows, 2, {"g": nn.Linear(8, 8)}),
        "an LSTM over the columns (CRNN)": Case(
            lambda m, x: m.g(x.mean(2).permute(2, 0, 1))[0].permute(1, 2, 0),
            2,
            {"g": nn.LSTM(8, 5, bidirectional=True)},
        ),
        "einsum channel by channel": Case(lambda m, x: torch.einsum("nchw,nchw->nch", x, x)),
        "einsum over channels": Case(lambda m, x: torch.einsum("nchw,nkhw->nck", x, x)),
    }


KINDS: dict[str, Callable[[], dict[str, Case]]] = {
    "Modules": make_modules,
    "Functions": make_functions,
    "Methods": make_methods,
    "Forms": make_forms,
}
TITLES = {
    "Modules": "`torch.nn`",
    "Functions": "`torch.nn.functional`",
    "Methods": "Methods of `torch.Tensor`, and Python's operators",
    "Forms": "Forms in which people write things",
}
NO_MAPS = {  # what takes no maps: why, and patterns of names
    "losses: they compare answers with targets": (
        "*Loss *Loss2d *_loss cross_entropy binary_cross_entropy* kl_div "
        "linear_cross_entropy AdaptiveLogSoftmaxWithLoss"
    ),
    "containers, and what other classes are made of: the modules in them are followed": (
        "Module Container Sequential ModuleList ModuleDict ParameterList ParameterDict RNNBase "
        "RNNCellBase"
    ),
    "wrappers of a model: pass the model inside": "DataParallel",
    "tables, read by whole numbers": "Embedding EmbeddingBag embedding embedding_bag one_hot",
    "helpers of torch's own code": (
        "Optional assert_int_or_pair boolean_dispatch handle_torch_function has_torch_function*"
    ),
    "matrix products by scaled or grouped numbers, for language models": (
        "scaled_mm scaled_addmm* scaled_grouped_mm grouped_mm"
    ),
    "linear algebra of matrices": (
        "cholesky* det eig geqrf inverse logdet lstsq lu lu_solve matrix_* orgqr ormqr pinverse qr "
        "slogdet solve svd symeig triangular_solve"
    ),
    "questions about a tensor: the answers are numbers, which are followed where they are sizes": (
        "is_* dim dim_order ndimension element_size get_device nelement numel size stride "
        "storage_offset allclose equal qscheme hash_tensor"
    ),
    "values taken out of a tensor, on which code may not branch": "item tolist numpy",
    "memory, devices and objects": (
        "as_subclass const_data_ptr data_ptr cuda ipu mtia xpu pin_memory module_load new "
        "new_empty_strided new_tensor record_stream resize resize_ resize_as resize_as_ set_ "
        "share_memory_ storage storage_type untyped_storage to_mkldnn"
    ),
    "gradients": (
        "backward register_hook register_post_accumulate_grad_hook reinforce retain_grad"
    ),
    "sparse, nested and quantised tensors": (
        "ccol_indices col_indices crow_indices row_indices indices values coalesce dense_dim "
        "sparse_* to_sparse* to_dense resize_as_sparse_ slice_inverse smm sspaddmm "
        "to_padded_tensor dequantize int_repr q_*"
    ),
    "Python functions for each number, and indexing by another name": ("apply_ map_ map2_ index"),
}


def make_cases() -> dict[str, dict[str, Case]]:
    """Every case, by kind and name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {kind: make() for kind, make in KINDS.items()}


def list_names() -> dict[str, list[str]]:
    """The public names of torch that a case or a category of `NO_MAPS` should know."""
    modules = [name for name in dir(nn) if _is_module(getattr(nn, name))]
    functions = [name for name in dir(F) if _is_function(name, getattr(F, name))]
    methods = [name for name in dir(Tensor) if _is_function(name, getattr(Tensor, name))]
    return {"Modules": modules, "Functions": functions, "Methods": methods}


def _is_module(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


def _is_function(name: str, value: Any) -> bool:
    return callable(value) and not name.startswith("_") and not isinstance(value, type)


def find_category(name: str) -> str | None:
    """Why a name takes no maps, if it is known to take none."""
    for why, patterns in NO_MAPS.items():
        if any(fnmatchcase(name, pattern) for pattern in patterns.split()):
            return why
    return None


def find_unsorted(cases: dict[str, dict[str, Case]]) -> list[str]:
    """Names of torch that have neither a case nor a category."""
    unsorted = []
    for kind, names in list_names().items():
        known = {case.partition(",")[0] for case in cases[kind]}
        known |= {f"{name}_" for name in known}
        unsorted += [n for n in names if n not in known and find_category(n) is None]
    return unsorted


# -- the page ---------------------------------------------------------------------------------


def write_page(verdicts: dict[str, dict[str, tuple[str, str]]]) -> str:
    """The page: for each kind, a row for all that have the same verdict and reason."""
    parts = [HEAD]
    for kind, found in verdicts.items():
        rows: dict[tuple[str, str], list[str]] = {}
        for verdict in (FREE, LEFT, UNITS):
            rows[verdict, ""] = []
        for name, verdict in found.items():
            rows.setdefault(verdict, []).append(name)
        parts.append(f"## {TITLES[kind]}\n\n| operator | verdict | reason |\n| --- | --- | --- |")
        for (verdict, reason), names in rows.items():
            if names:
                parts[-1] += f"\n| {_join(kind, names)} | {verdict} | {reason} |"
        parts[-1] += "\n"
    names = [name for own in list_names().values() for name in own]
    parts.append("## What takes no maps\n\n| names | what they are |\n| --- | --- |")
    for why in NO_MAPS:
        own = sorted({name for name in names if find_category(name) == why})
        parts[-1] += f"\n| {' '.join(f'`{name}`' for name in own)} | {why} |"
    return "\n".join(parts) + "\n"


def _join(kind: str, names: list[str]) -> str:
    """Names in a cell; those with the same words behind them stand together."""
    if kind == "Forms":
        return "; ".join(names)
    together: dict[str, list[str]] = {}
    for name in names:
        bare, _, words = name.partition(", ")
        together.setdefault(words, []).append(f"`{bare}`".replace("|", "\\|"))
    cells = [f"{words}: {' '.join(own)}" if words else " ".join(own)
             for words, own in sorted(together.items())]  # fmt: skip
    return "; ".join(cells)


def read_page(page: str) -> dict[str, dict[str, str]]:
    """The verdicts on a page, by kind and name."""
    kinds = {f"## {title}": kind for kind, title in TITLES.items()}
    found: dict[str, dict[str, str]] = {kind: {} for kind in TITLES}
    own: dict[str, str] = {}
    for line in page.splitlines():
        if line.startswith("## "):
            own = found.get(kinds.get(line, ""), {})
        elif line.startswith("| ") and not line.startswith(("| operator", "| ---")):
            cell, verdict = re.split(r" (?<!\\)\| ", line.removeprefix("| "))[:2]
            for part in cell.split("; "):
                words, _, _ = part.rpartition(": `")
                names = re.findall("`([^`]+)`", part) or [part]
                for name in names:
                    name = name.replace("\\|", "|")
                    own[f"{name}, {words}" if words else name] = verdict
    return found


def main() -> None:
    """Judge every case and write the page."""
    cases = make_cases()
    verdicts = {
        kind: {name: judge(case) for name, case in own.items()} for kind, own in cases.items()
    }
    DOCS.write_text(write_page(verdicts), encoding="utf-8")
    for kind, found in verdicts.items():
        counts = Counter(verdict for verdict, _ in found.values())
        print(kind, dict(counts))
    if unsorted := find_unsorted(cases):
        print("neither a case nor a category:", *unsorted)


if __name__ == "__main__":
    main()
