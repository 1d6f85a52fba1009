"""One small rule per operator: how the channels of its inputs become the channels of its output.

A rule reads the labels of the inputs (see channels.py) and returns those of the output.
To teach prunelab an operator, register a rule for its module class or for its function's or method's name:

>>> @rule(MyActivation, "my_activation")
... def my_activation(call):
...     return call.maps[0].labels
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from prunelab.channels import Call, Maps

Rule = Callable[[Call], Tensor]
RULES: dict[type | str, Rule] = {}


def rule(*targets: type | str) -> Callable[[Rule], Rule]:
    """Register a rule for module classes and for function or method names."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(targets, function))
        return function

    return register


def find_rule(call: Call) -> Rule:
    keys = type(call.module).__mro__ if call.module is not None else (call.operator,)
    return next((RULES[key] for key in keys if key in RULES), no_rule)


def no_rule(call: Call) -> Tensor:
    return call.refuse("an operator for which prunelab has no rule; prunelab.operators.rule adds one")


def expand_channels(labels: Tensor, like: Maps, dim: int) -> Tensor:
    """(n,) -> the labels of a tensor shaped as `like` whose dimension `dim` carries them."""
    return labels.reshape([-1 if d == dim % len(like.shape) else 1 for d in range(len(like.shape))])


# ------------------------------------------------------------------------------- layers with weights


@rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def conv(call: Call) -> Tensor:
    module, x = call.module, call.maps[0]
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    dim = len(x.shape) - 1 - len(module.kernel_size)
    came = x.along(dim)
    made = call.channels.make(call.name, module.out_channels)
    if came is None:
        call.refuse("which reads them in another order than their filters'")
    elif hasattr(module, "parametrizations"):
        call.refuse("whose weight is parametrised")
        call.channels.refuse(made, f"the weight of {call.where} is parametrised; remove the parametrisation first")
    elif module.groups == 1:
        call.channels.read(call.name, came)
    elif module.groups == module.in_channels == module.out_channels:  # depthwise: filter j makes map j of map j
        call.channels.tie(made, came)
    else:
        why = f"a grouped convolution (groups={module.groups}), for which prunelab has no rule yet"
        call.refuse(why)
        call.channels.refuse(made, f"{call.where} is {why}")
    return expand_channels(made, x, dim)


@rule(nn.Linear)
def linear(call: Call) -> Tensor:
    module, x = call.module, call.maps[0]
    assert isinstance(module, nn.Linear)
    came = x.along(-1)
    if came is None:
        call.refuse("which reads them in another order than their filters'")
    else:
        call.channels.read(call.name, came)
    return expand_channels(call.channels.make(call.name, module.out_features), x, -1)


@rule(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def batch_norm(call: Call) -> Tensor:
    return _per_channel(call)


@rule(nn.PReLU)
def prelu(call: Call) -> Tensor:
    assert isinstance(call.module, nn.PReLU)
    return call.maps[0].labels if call.module.num_parameters == 1 else _per_channel(call)


def _per_channel(call: Call) -> Tensor:
    came = call.maps[0].along(1)
    if came is None:
        return call.refuse("which reads them in another order than their filters'")
    call.channels.follow(call.name, came)
    return call.maps[0].labels


# ------------------------------------------------------------------- what leaves channels as they are


@rule(
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
)
@rule(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout)
@rule(
    "relu",
    "relu_",
    "relu6",
    "leaky_relu",
    "elu",
    "gelu",
    "silu",
    "mish",
    "sigmoid",
    "tanh",
    "hardtanh",
    "hardswish",
)
@rule(
    "hardsigmoid",
    "clamp",
    "dropout",
    "dropout2d",
    "stochastic_depth",
    "contiguous",
    "clone",
    "to",
    "float",
    "neg",
)
def same(call: Call) -> Tensor:
    return call.maps[0].labels


@rule(
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Upsample,
)
@rule("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "interpolate")
def pool(call: Call) -> Tensor:
    if call.maps[0].along(1) is None:
        return call.refuse("which mixes maps of different filters")
    return call.maps[0].labels


@rule("mean", "sum", "amax")
def reduce(call: Call) -> Tensor:
    x = call.maps[0]
    dims = call.argument(1, "dim")
    if dims is None:
        return call.refuse("which mixes maps of different filters")
    dims = [d % len(x.shape) for d in (dims if isinstance(dims, list | tuple) else [dims])]
    if any(x.labels.shape[d] != 1 for d in dims):
        return call.refuse("which mixes maps of different filters")
    if call.argument(2, "keepdim", False):
        return x.labels
    return x.labels.reshape([size for d, size in enumerate(x.labels.shape) if d not in dims])


# ------------------------------------------------------------------------ what joins or reorders them


@rule(
    "add",
    "add_",
    "iadd",
    "radd",
    "sub",
    "sub_",
    "isub",
    "mul",
    "mul_",
    "imul",
    "div",
    "truediv",
    "maximum",
    "minimum",
)
def elementwise(call: Call) -> Tensor:
    if len(call.maps) == 1:  # with a number
        return call.maps[0].labels
    a, b = call.maps
    if len(a.shape) != len(b.shape):
        return call.refuse("which joins tensors of different dimensions")
    shape = [
        max(m.labels.shape[d] for m in (a, b))
        if a.shape[d] == b.shape[d]
        else (a if b.shape[d] == 1 else b).labels.shape[d]
        for d in range(len(a.shape))
    ]
    # a map of size 1 along the channels (a mask, say) is shared by all of them and ties nothing
    shared = [m for m in (a, b) if any(m.shape[d] == 1 and shape[d] > 1 for d in range(len(shape)))]
    if shared:
        return next((m for m in (a, b) if m not in shared), a).labels.expand(shape)
    labels = [m.labels.expand(shape) for m in (a, b)]
    call.channels.tie(labels[0].reshape(-1), labels[1].reshape(-1))
    return labels[0]


@rule("cat", "concat", "concatenate")
def cat(call: Call) -> Tensor:
    tensors, dim = call.argument(0, "tensors"), call.argument(1, "dim", 0) % len(call.shapes[0])
    if any(m.labels.shape[d] != 1 for m in tensors for d in range(len(m.shape)) if d != dim):
        return call.refuse("which joins them along another dimension than their channels'")
    return torch.cat([expand_channels(m.along(dim), m, dim) for m in tensors], dim)


@rule(nn.Flatten, "flatten")
def flatten(call: Call) -> Tensor:
    x = call.maps[0]
    if isinstance(call.module, nn.Flatten):
        start, end = call.module.start_dim, call.module.end_dim
    else:
        start, end = call.argument(1, "start_dim", 0), call.argument(2, "end_dim", -1)
    start %= len(x.shape)
    sizes = [x.shape[d] if d >= start else x.labels.shape[d] for d in range(len(x.shape))]
    return x.labels.expand(sizes).flatten(start, end)


@rule("view", "reshape")
def view(call: Call) -> Tensor:
    x, sizes = call.maps[0], call.args[1:]
    if len(sizes) == 1 and isinstance(sizes[0], list | tuple):
        sizes = tuple(sizes[0])
    if len(sizes) == 2 and sizes[1] == -1:  # (n, -1): flatten(1) in other words
        return x.labels.expand(1, *x.shape[1:]).flatten(1)
    return call.refuse("which reshapes them in a way prunelab has no rule for; flatten(1) has one")


@rule("pad")
def pad(call: Call) -> Tensor:
    amounts = call.argument(1, "pad")
    if any(amounts[4:]):
        return call.refuse(
            "which adds zero maps by a fixed number (a shortcut of option A): their indices must not move"
        )
    return call.maps[0].labels


@rule("getitem")
def getitem(call: Call) -> Tensor:
    x, index = call.maps[0], call.args[1]
    index = index if isinstance(index, tuple) else (index,)
    whole = all(i == slice(None) or (isinstance(i, slice) and x.labels.shape[d] == 1) for d, i in enumerate(index))
    if not whole or not all(isinstance(i, slice) for i in index):
        return call.refuse("which picks some of them by their place")
    return x.labels
