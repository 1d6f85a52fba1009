"""One small rule per operator: how the channels of its inputs become the channels of its output.

A rule reads the labels of the inputs (see channels.py), ties those that can only stay or go together, says which
tensors of the module they slice, and returns the labels of the output. To teach prunelab an operator, register a
rule for its module class, or for its function's or method's name:

>>> @rule(MyScale)  # y = x * self.scale, with scale (channels, 1, 1)
... def my_scale(call):
...     came = call.maps[0].along(1)  # (channels,) labels
...     call.slice("scale", 0, came)  # scale[i] goes with channel i
...     return call.maps[0].labels

A rule that cannot tell returns `call.refuse("which …")`: the filters that reach it stay, with that reason.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.channels import Call, Count, Layer, Maps

Rule = Callable[[Call], Any]  # labels of the tensor that comes out, or a list of labels for several
RULES: dict[type | str, Rule] = {}
# rules that know what a Count among their arguments means, and what a parameter of several dimensions does
KNOWS_COUNTS: set[Rule] = set()
KNOWS_PARAMETERS: set[Rule] = set()


def rule(*targets: type | str, counts: bool = False, parameters: bool = False) -> Callable[[Rule], Rule]:
    """Register a rule for module classes and for function or method names.

    A module class with a rule is taken whole: what its forward does is the rule's to say.
    counts: the rule understands `Count` among the arguments, a number that follows the channels.
    parameters: the rule understands a bare weight of several dimensions among its inputs.
    """

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(targets, function))
        KNOWS_COUNTS.update([function] if counts else [])
        KNOWS_PARAMETERS.update([function] if parameters else [])
        return function

    return register


def find_rule(call: Call) -> Rule:
    keys = type(call.module).__mro__ if call.module is not None else (call.operator,)
    return next((RULES[key] for key in keys if key in RULES), no_rule)


def no_rule(call: Call) -> Tensor:
    return call.refuse("an operator for which prunelab has no rule; prunelab.operators.rule adds one")


OTHER_ORDER = "which reads them in another order than their filters'"
MIXES = "which mixes maps of different filters"


def spread(labels: Tensor, ndim: int, dim: int) -> Tensor:
    """(n,) -> the labels of a tensor of `ndim` dimensions whose dimension `dim` carries them."""
    return labels.reshape([-1 if d == dim % ndim else 1 for d in range(ndim)])


def thin(labels: Tensor) -> Tensor:
    """The same labels, with size 1 where they do not change along a dimension."""
    for dim in range(labels.ndim):
        first = labels.narrow(dim, 0, 1)
        if labels.shape[dim] > 1 and torch.equal(labels, first.expand_as(labels)):
            labels = first
    return labels


def keep_grid(call: Call, grid: Tensor, flexible: int) -> Tensor:
    """Tie what must go together so that a grid of channels stays one: only whole slices along `flexible` may go."""
    wide = [d for d in range(grid.ndim) if d != flexible and grid.shape[d] > 1]
    return call.channels.tie_along(grid, wide, call.where) if wide else grid


# ------------------------------------------------------------------------------- layers with weights


@rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
@rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, counts=True)  # in output_size, which is of places
def conv(call: Call) -> Tensor:
    module = call.module
    assert isinstance(module, nn.modules.conv._ConvNd)
    return _convolve(call, call.name, module.weight, module.bias is not None, module.groups, module.transposed)


@rule("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
      counts=True, parameters=True)  # fmt: skip
def functional_conv(call: Call) -> Tensor:
    transposed = "transpose" in call.operator
    weight, groups = call.argument(1, "weight"), call.argument(5 if transposed else 6, "groups", 1)
    bias = call.argument(2, "bias")
    if not isinstance(weight, Maps) or not weight.source:
        return call.refuse("whose weight the model's code computes")
    return _convolve(call, layer_name(weight.source), weight, bias is not None, groups, transposed)


def layer_name(tensor: str) -> str:
    """`conv1.weight` belongs to the layer `conv1`; another bare parameter is a layer of its own name."""
    owner, _, attribute = tensor.rpartition(".")
    return owner if attribute == "weight" and owner else tensor


def _convolve(call: Call, name: str, weight: Any, bias: bool, groups: Any, transposed: bool) -> Tensor:
    """Filters of a conv: tied to its inputs if depthwise, across its groups if grouped, free otherwise."""
    x, channels = call.maps[0], call.channels
    dim = len(x.shape) - len(weight.shape) + 1
    follows, groups = isinstance(groups, Count), groups.value if isinstance(groups, Count) else groups
    n_in, n_out = x.shape[dim], weight.shape[1] * groups if transposed else weight.shape[0]
    made, out = channels.make(name, n_out), call.shapes[0]
    pixels = x.shape[dim + 1 :] if transposed else out[dim + 1 :]
    images = out[:dim].numel() / channels.batch if dim else 1  # parts of an image may lie side by side in the batch
    tensor, bias_name = _names(call, name)
    positions, size = int(pixels.numel() * images), tuple(out[dim + 1 :])
    kernel = tuple(weight.shape[2:])
    channels.use(Layer(name, "", "conv", n_in, n_out, kernel, groups, bias, positions, size, tensor, transposed))
    came = _read(call, name, dim, made)
    if channels.groups_go(name, groups, n_in) and came is not None:  # filter j makes map j of map j
        if call.module is None and not follows and not hasattr(weight.owner, "groups"):
            return call.refuse(f"a depthwise convolution by a fixed number of groups ({groups}); take x.shape[1]")
        channels.tie(made.reshape(groups, -1), came.reshape(groups, 1))
        channels.slice(tensor, 0, came if transposed else made)
        _count(call, weight, "groups", groups, came)
    else:  # the groups stay, each as wide as the others
        new = keep_grid(call, made.reshape(groups, -1), 1)[0]
        channels.slice(tensor, 1 if transposed else 0, new if transposed else made)
        if came is not None:
            own = keep_grid(call, came.reshape(groups, -1), 1)[0]
            channels.slice(tensor, 0 if transposed else 1, came if transposed else own)
    if bias:
        channels.slice(bias_name, 0, made)
    if came is not None:
        _count(call, weight, "in_channels", n_in, came)
    _count(call, weight, "out_channels", n_out, made)
    return spread(made, len(x.shape), dim)


def _read(call: Call, layer: str, dim: int, made: Tensor) -> Tensor | None:
    """The labels that a layer reads, noted; None when they must all stay."""
    came, channels = call.maps[0].along(dim), call.channels
    if hasattr(call.module, "parametrizations"):
        call.refuse("whose weight is parametrised; remove the parametrisation first")
        channels.refuse(made, f"the weight of {call.where} is parametrised; remove the parametrisation first")
    elif came is None:
        call.refuse(OTHER_ORDER)
    else:
        channels.reads.setdefault(layer, came)
        channels.tie(channels.reads[layer], came)  # a layer used twice reads the same slices both times
        return came
    return None


def _names(call: Call, layer: str) -> tuple[str, str]:
    """The names of a layer's weight and bias."""
    if call.module is not None:
        return f"{layer}.weight", f"{layer}.bias"
    bias = call.argument(2, "bias")
    return call.argument(1, "weight").source, bias.source if isinstance(bias, Maps) else ""


def _count(call: Call, weight: Any, attribute: str, value: int, labels: Tensor) -> None:
    """Let an attribute of the layer's module, if it has it, count these labels."""
    if call.module is not None:
        call.count(attribute, labels)
    elif getattr(weight.owner, attribute, None) == value:
        call.channels.counts[weight.source.rpartition(".")[0], attribute, None] = labels


@rule(nn.Linear)
def linear(call: Call) -> Tensor:
    assert isinstance(call.module, nn.Linear)
    return _multiply(call, call.name, call.module.weight, call.module.bias is not None)


@rule("linear", parameters=True)
def functional_linear(call: Call) -> Tensor:
    weight = call.argument(1, "weight")
    if not isinstance(weight, Maps) or not weight.source:
        return call.refuse("whose weight the model's code computes")
    return _multiply(call, layer_name(weight.source), weight, call.argument(2, "bias") is not None)


def _multiply(call: Call, name: str, weight: Any, bias: bool) -> Tensor:
    x, channels, out = call.maps[0], call.channels, call.shapes[0]
    n_out, n_in = weight.shape
    made = channels.make(name, n_out)
    positions = out[:-1].numel() // channels.batch if len(out) > 1 else 1
    tensor, bias_name = _names(call, name)
    channels.use(Layer(name, "", "linear", n_in, n_out, (), 1, bias, positions, tuple(out[1:-1]), tensor))
    came = _read(call, name, len(x.shape) - 1, made)
    channels.slice(tensor, 0, made)
    if bias:
        channels.slice(bias_name, 0, made)
    if came is not None:
        channels.slice(tensor, 1, came)
        _count(call, weight, "in_features", n_in, came)
    _count(call, weight, "out_features", n_out, made)
    return spread(made, len(x.shape), -1)


# ------------------------------------------------------------------------------------- normalisation


@rule(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
@rule(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
@rule("batch_norm", "instance_norm")
def norm_each(call: Call) -> Tensor:
    """Each channel is normalised by itself."""
    came = call.maps[0].along(1)
    if came is None:
        return call.refuse(OTHER_ORDER)
    _slice_vectors(call, came, "num_features")
    return call.maps[0].labels


@rule(nn.PReLU, "prelu")
def prelu(call: Call) -> Tensor:
    parameter = call.module.weight if isinstance(call.module, nn.PReLU) else call.argument(1, "weight")
    came = call.maps[0].along(1)
    if parameter.shape.numel() == 1:
        return call.maps[0].labels
    if came is None:
        return call.refuse(OTHER_ORDER)
    _slice_vectors(call, came, "num_parameters")
    return call.maps[0].labels


def _slice_vectors(call: Call, came: Tensor, attribute: str, place: int | None = None) -> None:
    """All vectors of a norm, a module's or those given to a function, have an entry for each channel."""
    names = ("weight", "bias", "running_mean", "running_var")
    for name in names if call.module is not None else ():
        call.slice(name, 0, came)
    call.count(attribute, came, place)
    for vector in call.maps[1:]:
        entries = vector.along(-1)
        assert entries is not None
        call.channels.tie(entries, came)
        given = getattr(vector.owner, attribute, None)
        if given == len(came) or (place is not None and given is not None):
            call.channels.counts[vector.source.rpartition(".")[0], attribute, place] = came


@rule(nn.GroupNorm, "group_norm")
def group_norm(call: Call) -> Tensor:
    """The groups stay, each as wide as the others; its mean is over the channels left."""
    x = call.maps[0]
    came = x.along(1)
    groups = call.module.num_groups if isinstance(call.module, nn.GroupNorm) else call.argument(1, "num_groups")
    if came is None or not isinstance(groups, int):
        return call.refuse(OTHER_ORDER)
    if call.channels.groups_go(call.name, groups, len(came)) and call.module is not None:
        call.count("num_groups", came)  # each channel by itself
    else:
        keep_grid(call, came.reshape(groups, -1), 1)
        call.channels.mixes[call.name] = 1, came
    _slice_vectors(call, came, "num_channels")
    return x.labels


@rule(nn.LayerNorm, "layer_norm", nn.RMSNorm, "rms_norm", counts=True, parameters=True)
def layer_norm(call: Call) -> Tensor:
    """Its mean is over the channels left (of the normalised dimensions one at most carries channels)."""
    x, module = call.maps[0], call.module
    shape = module.normalized_shape if module is not None else call.argument(1, "normalized_shape")
    first = len(x.shape) - len(shape)  # type: ignore[arg-type]
    varying = [d for d in range(first, len(x.shape)) if x.varies(d)]
    if not varying:
        return x.labels
    came, place = x.along(varying[0]), varying[0] - first
    fixed = module is None and not isinstance(shape[place], Count)  # type: ignore[index]
    if came is None:
        return call.refuse(OTHER_ORDER)
    if fixed and not any(getattr(v.owner, "normalized_shape", None) for v in call.maps[1:]):
        return call.refuse("which normalises over a fixed number of them; write x.shape[-1:] for it")
    if len(shape) == 1:  # type: ignore[arg-type]
        _slice_vectors(call, came, "normalized_shape", place)
    elif module is None:
        return call.refuse("which normalises over several dimensions by a function")
    else:
        call.slice("weight", place, came)
        call.slice("bias", place, came)
        call.count("normalized_shape", came, place)
    call.channels.mixes[call.name] = varying[0], came
    return x.labels


# ------------------------------------------------------------------- what leaves channels as they are


@rule(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish)
@rule(nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Softplus, nn.Softsign, nn.Softshrink, nn.Hardshrink)
@rule(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Threshold)
@rule(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
@rule("relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "elu", "elu_", "celu", "selu", "gelu", "silu", "mish")
@rule("sigmoid", "sigmoid_", "logsigmoid", "tanh", "tanh_", "softplus", "softsign", "hardswish", "hardsigmoid")
@rule("hardtanh", "threshold", "neg", "abs", "exp", "log", "sqrt", "rsqrt", "square")
@rule("sin", "cos", "round", "floor", "sign", "erf", "reciprocal", "nan_to_num", "data", "real")
@rule("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "stochastic_depth", "drop_path")
@rule("contiguous", "clone", "detach", "to", "float", "double", "half", "bfloat16", "type", "type_as", "requires_grad_")
@rule("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like")
def same(call: Call) -> Tensor:
    alone = len(call.maps) == 1 or call.operator in ("to", "type_as")
    return call.maps[0].labels if alone else no_rule(call)


@rule("zeros", "ones", "full", "empty", "rand", "randn", counts=True)
@rule("new_zeros", "new_ones", "new_full", "new_empty", counts=True)
def new(call: Call) -> Tensor:
    """A tensor of the code's own making, as wide as the sizes say."""
    own = call.args[1:] if call.operator.startswith("new") else call.args
    sizes = call.kwargs.get("size", own[0] if own else ())
    sizes = list(sizes) if isinstance(sizes, list | tuple) else list(own)
    fixed = call.channels.fix(f"its maps are joined with a tensor that {call.where} makes with a fixed number of maps")
    labels, shape = fixed.reshape([1] * len(call.shapes[0])), call.shapes[0]
    counted = [d for d, size in enumerate(sizes[: len(shape)]) if isinstance(size, Count)]
    if len(counted) == 1 and len(sizes[counted[0]].labels) == shape[counted[0]]:
        return spread(sizes[counted[0]].labels, len(shape), counted[0])
    for d in counted:
        call.channels.refuse(sizes[d].labels, f"the model's code works with the number of its maps ({call.where})")
    return labels


def _spatial(call: Call, dims: int) -> Tensor:
    """The last dimensions are worked on; the channels before them stay as they are."""
    x = call.maps[0]
    return call.refuse(MIXES) if any(x.varies(d) for d in range(-dims, 0)) else x.labels


@rule(nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d, nn.LPPool1d)
@rule("max_pool1d", "avg_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d")
def pool1d(call: Call) -> Tensor:
    return _spatial(call, 1)


@rule(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d)
@rule("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d")
def pool2d(call: Call) -> Tensor:
    return _spatial(call, 2)


@rule(nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d)
@rule("max_pool3d", "avg_pool3d", "adaptive_avg_pool3d", "adaptive_max_pool3d")
def pool3d(call: Call) -> Tensor:
    return _spatial(call, 3)


@rule(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, "interpolate", "upsample")
def interpolate(call: Call) -> Tensor:
    return _spatial(call, len(call.maps[0].shape) - 2)


@rule("mean", "sum", "amax", "amin", "max", "min", "argmax", "argmin", "std", "var", "norm", "logsumexp")
def reduce(call: Call) -> Tensor:
    if len(call.maps) == 2:  # torch.max(a, b)
        return elementwise(call)
    x = call.maps[0]
    dims = call.argument(2 if call.operator == "norm" else 1, "dim")
    dims = None if isinstance(dims, bool) else dims  # std(False) is about the bias
    dims = list(range(len(x.shape))) if dims is None else dims if isinstance(dims, list | tuple) else [dims]
    dims = [d % len(x.shape) for d in dims]
    if any(x.varies(d) for d in dims):
        return call.refuse(MIXES)
    if len(call.shapes[0]) == len(x.shape):  # keepdim
        return x.labels
    return x.labels.reshape([size for d, size in enumerate(x.labels.shape) if d not in dims])


@rule(nn.Softmax, nn.LogSoftmax, nn.Softmin, "softmax", "log_softmax", "softmin", "normalize", "cumsum", "flip", "sort")
def along_one(call: Call) -> Tensor:
    """Works along dimensions which must not be the channels'."""
    x = call.maps[0]
    if call.operator == "flip":
        dims = list(call.args[1:]) or [call.kwargs["dims"]]
        dims = list(dims[0]) if isinstance(dims[0], list | tuple) else dims
    else:
        dim = call.module.dim if call.module is not None else call.argument(1 + (call.operator == "normalize"), "dim")
        default = -1 if call.operator == "sort" else 0 if len(x.shape) in (1, 3) and "oft" in call.operator else 1
        dims = [default if dim is None else dim]  # softmax without a dim takes the first after the batch
    return call.refuse(MIXES) if any(x.varies(d) for d in dims) else x.labels


@rule(nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder, "multi_head_attention_forward")
@rule("scaled_dot_product_attention", "matmul", "bmm", "baddbmm", "einsum", "shifted_window_attention")
def attention(call: Call) -> Tensor:
    return call.refuse("which multiplies maps with one another, as attention does: its heads fix their number")


# ------------------------------------------------------------------------------------ what joins them


@rule("add", "add_", "iadd", "radd", "sub", "sub_", "isub", "rsub", "mul", "mul_", "imul", "multiply", parameters=True)
@rule("div", "div_", "itruediv", "truediv", "maximum", "minimum", "where", "lerp", "addcmul", "atan2", parameters=True)
@rule("pow", "clamp", "clamp_", "clip", "fmod", "remainder", "masked_fill", "masked_fill_", "rpow", parameters=True)
@rule("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "logical_and", "logical_or", parameters=True)
def elementwise(call: Call) -> Tensor:
    return functools.reduce(functools.partial(_join, call), call.maps).labels


def _join(call: Call, a: Maps, b: Maps) -> Maps:
    """The labels of a ∘ b, broadcast: channels that meet are tied."""
    ndim = max(len(a.shape), len(b.shape))
    shape = torch.broadcast_shapes(a.shape, b.shape)
    for x, parameter in ((a, b), (b, a)):
        if parameter.source and sum(size > 1 for size in parameter.shape) > 1:
            return Maps(shape, _join_parameter(call, _widen(x, ndim), parameter), bare=x.bare)
    a, b = _widen(a, ndim), _widen(b, ndim)
    lent = [any(x.shape[d] == 1 and y.varies(d) for d in range(ndim)) for x, y in ((a, b), (b, a))]
    for x, y, lends in ((a, b, lent[0]), (b, a, lent[1])):
        if lends and (all(lent) or x.labels.numel() > 1):
            return Maps(shape, call.refuse("which joins channels along two dimensions"))
        if lends:  # one map for all channels, a mask say: it ties nothing
            return Maps(shape, y.labels, bare=a.bare and b.bare)
        if x.bare and not y.bare and any(x.varies(d) and not y.varies(d) for d in range(ndim)):
            return Maps(shape, y.labels)  # a parameter along a dimension that carries no channels
    call.channels.tie(a.labels, b.labels)
    return Maps(shape, torch.broadcast_tensors(a.labels, b.labels)[0], bare=a.bare and b.bare)


def _widen(maps: Maps, ndim: int) -> Maps:
    """As broadcasting sees it: with dimensions of size 1 in front."""
    front = [1] * (ndim - len(maps.shape))
    return Maps(torch.Size([*front, *maps.shape]), maps.labels.reshape([*front, *maps.labels.shape]), bare=maps.bare)


def _join_parameter(call: Call, x: Maps, parameter: Maps) -> Tensor:
    """A parameter of several dimensions, such as an embedding of places, is sliced along the channels of the other."""
    behind = len(x.shape) - len(parameter.shape)
    varying = [d for d in range(behind, len(x.shape)) if x.varies(d) and parameter.shape[d - behind] > 1]
    came = x.along(varying[0]) if varying else None
    if came is not None:
        call.channels.slice(parameter.source, varying[0] - behind, came)
    elif varying or x.bare:
        call.channels.by_hand.setdefault(parameter.source, call.where)
        call.refuse(OTHER_ORDER)
    return x.labels


@rule("cat", "concat", "concatenate")
def cat(call: Call) -> Tensor:
    tensors, dim = call.argument(0, "tensors"), call.argument(1, "dim", 0) % len(call.shapes[0])
    tensors = [m for m in tensors if len(m.shape) == len(call.shapes[0])]
    single = all(m.labels.numel() == m.shape[dim] == 1 for m in tensors)  # maps of a filter each
    if not single and not any(m.varies(dim) for m in tensors):  # along another dimension than the channels'
        for other in tensors[1:]:
            call.channels.tie(tensors[0].labels, other.labels)
        return torch.broadcast_tensors(*(m.labels for m in tensors))[0]
    if any(m.along(dim) is None for m in tensors):
        return call.refuse("which joins them along another dimension than their channels'")
    return torch.cat([spread(m.along(dim), len(m.shape), dim) for m in tensors], dim)


@rule("stack")
def stack(call: Call) -> Tensor:
    tensors, dim = call.argument(0, "tensors"), call.argument(1, "dim", 0) % len(call.shapes[0])
    for other in tensors[1:]:
        call.channels.tie(tensors[0].labels, other.labels)
    return torch.broadcast_tensors(*(m.labels for m in tensors))[0].unsqueeze(dim)


@rule("pad")
@rule(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
@rule(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d, nn.CircularPad2d)
def pad(call: Call) -> Tensor:
    x = call.maps[0]
    amounts = call.module.padding if call.module is not None else call.argument(1, "pad")
    mode, labels = call.argument(2, "mode", "constant"), x.labels
    for i in range(0, len(amounts), 2):  # type: ignore[arg-type]
        before, after = amounts[i : i + 2]  # type: ignore[index]
        dim = len(x.shape) - 1 - i // 2
        if not x.varies(dim) or (before, after) == (0, 0):
            continue
        if before < 0 or after < 0 or mode != "constant":
            return call.refuse("which crops or repeats some of them by their place")
        zeros = call.channels.fix(
            f"its maps are added to those of a shortcut that fills up with zero maps ({call.where}, option A), and the "
            "places of those are fixed; with a 1×1 convolution as the shortcut they could go"
        )
        came = x.along(dim)
        if came is None:
            return call.refuse(OTHER_ORDER)
        labels = spread(torch.cat([zeros.expand(before), came, zeros.expand(after)]), len(x.shape), dim)
    return labels
