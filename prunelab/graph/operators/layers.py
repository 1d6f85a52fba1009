"""Rules of layers whose weights are filters: convolutions and linear layers, as functions too."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from prunelab.graph.labels import Call, Count, Layer, Maps
from prunelab.graph.operators.registry import OTHER_ORDER, keep_grid, rule, spread


@rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
# the counts are in output_size, which is of places
@rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, counts=True)
def conv(call: Call) -> Tensor:
    module = call.module
    assert isinstance(module, nn.modules.conv._ConvNd)
    bias = module.bias is not None
    return _convolve(call, call.name, module.weight, bias, module.groups, module.transposed)


@rule("torchvision.ops.deform_conv.DeformConv2d")
def deform_conv(call: Call) -> Tensor:
    module: Any = call.module
    x, *shifts = call.maps
    for maps in shifts:
        why = f"its maps are offsets or masks of {call.where}, whose kernel fixes their number"
        call.channels.refuse(maps.labels, why)
    came = x.along(1)
    if came is not None:  # as many offsets for each part of the channels
        parts = shifts[0].shape[1] // (2 * module.weight[0, 0].numel())
        keep_grid(call, came.reshape(parts, -1), 1)
    bias = module.bias is not None
    about = (call.name, module.weight, bias, module.groups, False)
    return _convolve(replace(call, args=(x,), kwargs={}), *about)


@rule("conv1d conv2d conv3d", counts=True, parameters=True)
@rule("conv_transpose1d conv_transpose2d conv_transpose3d", counts=True, parameters=True)
def functional_conv(call: Call) -> Tensor:
    transposed = "transpose" in call.operator
    weight, groups = call.argument(1, "weight"), call.argument(6, "groups", 1)
    bias = call.argument(2, "bias") is not None
    name = _find_layer(call, weight, transposed)
    return _convolve(call, name, weight, bias, groups, transposed)


def layer_name(tensor: str) -> str:
    """`conv1.weight` belongs to the layer `conv1`; another bare parameter is a layer itself."""
    owner, _, attribute = tensor.rpartition(".")
    return owner if attribute == "weight" and owner else tensor


def _find_layer(call: Call, weight: Maps, transposed: bool = False) -> str:
    """The name of the layer that a function is: of its weight, of the conv that calls it, its own.

    A weight used both ways, as a tied decoder does, is two layers.
    """
    name = call.name
    if weight.source:
        name = layer_name(weight.source)
    elif _is_own(call, weight):
        name = call.within
    elif _is_own_of(weight.owner, weight):  # of another layer, by the forward of its block
        name = layer_name(weight.origin)
    known = call.channels.layers.get(name)
    other_way = known is not None and known.transposed != transposed
    return call.name if other_way else name


def _convolve(
    call: Call, name: str, weight: Any, bias: bool, groups: Any, transposed: bool
) -> Tensor:
    """Filters of a conv: tied to its inputs if depthwise, across its groups if grouped."""
    x, channels = call.maps[0], call.channels
    dim = len(x.shape) - len(weight.shape) + 1
    follows = isinstance(groups, Count)
    counted, groups = groups, groups.value if follows else groups
    n_in, n_out = x.shape[dim], weight.shape[1] * groups if transposed else weight.shape[0]
    made, out = channels.make(name, n_out), call.shapes[0]
    pixels = x.shape[dim + 1 :] if transposed else out[dim + 1 :]
    # parts of an image may lie side by side in the batch
    images = out[:dim].numel() / channels.batch if dim else 1
    positions, size = int(pixels.numel() * images), tuple(out[dim + 1 :])
    kernel, kind = tuple(weight.shape[2:]), "conv" if _is_trained(call, weight) else "filter"
    about = (positions, size, _weight_name(call, name, weight), transposed)
    channels.use(Layer(name, "", kind, n_in, n_out, kernel, groups, bias, *about))
    came = _read_channels(call, name, dim)
    of_filters, of_inputs = (1, 0) if transposed else (0, 1)
    if channels.groups_go(name, groups, n_in) and came is not None:  # filter j makes map j of map j
        if call.module is None and not follows and not hasattr(_holder(call, weight), "groups"):
            why = f"a depthwise convolution by a fixed number of groups ({groups}); take x.shape[1]"
            return call.refuse_all(why)
        channels.tie(made.reshape(groups, -1), came.reshape(groups, 1))
        if follows and counted.each is not None:
            channels.tie(counted.each, came)
        _slice(call, name, weight, 0, came if transposed else made)
        _follow_width(call, weight, "groups", groups, came)
    else:  # the groups stay, each as wide as the others
        new = keep_grid(call, made.reshape(groups, -1), 1)[0]
        _slice(call, name, weight, of_filters, new if transposed else made)
        if came is not None:
            own = keep_grid(call, came.reshape(groups, -1), 1)[0]
            _slice(call, name, weight, of_inputs, came if transposed else own)
    if bias:
        _slice_bias(call, name, made)
    if came is not None:
        _follow_width(call, weight, "in_channels", n_in, came)
    _follow_width(call, weight, "out_channels", n_out, made)
    return spread(made, len(x.shape), dim)


def _is_own(call: Call, weight: Any) -> bool:
    """Whether a computed weight is that of the layer whose forward makes the call."""
    return _is_own_of(call.owner, weight)


def _is_own_of(owner: nn.Module | None, weight: Any) -> bool:
    layer = isinstance(owner, nn.modules.conv._ConvNd | nn.Linear)
    return layer and getattr(owner, "weight", weight).shape == weight.shape


def _is_trained(call: Call, weight: Any) -> bool:
    """Whether a weight is made of parameters, or is numbers that stay as they are."""
    if call.module is not None:
        return True
    if weight.source:
        return weight.source in call.channels.parameters
    return _is_own(call, weight) or _is_own_of(weight.owner, weight)


def _holder(call: Call, weight: Any) -> nn.Module | None:
    """The module whose attributes count the channels of a function's weight."""
    return weight.owner if weight.source or not _is_own(call, weight) else call.owner


def _weight_name(call: Call, layer: str, weight: Any) -> str:
    """The qualified name of a layer's weight; "" where none holds it."""
    if call.module is None and weight.source:
        return weight.source
    own = call.module is not None or layer == call.within or layer == layer_name(weight.origin)
    return f"{layer}.weight" if own else ""


def _slice(call: Call, layer: str, weight: Any, dim: int, labels: Tensor) -> None:
    """Slice i of a layer's weight goes with labels[i]; of a computed one, what it comes of."""
    if call.module is not None:
        call.channels.slice(f"{layer}.weight", dim, labels)
    elif weight.source:
        call.channels.slice(weight.source, dim, labels)
    else:
        own = weight.labels if dim == 0 else weight.inputs
        along = None if own is None else replace(weight, labels=own).along(dim)
        if along is None:
            call.refuse_all("whose weight the model's code computes in another order")
            call.channels.refuse(labels, call.channels.reasons[int(call.channels.root[-1])])
        else:
            call.channels.tie(labels, along)


def _slice_bias(call: Call, layer: str, made: Tensor) -> None:
    bias = call.argument(2, "bias")
    if call.module is not None:
        call.channels.slice(f"{layer}.bias", 0, made)
    elif bias.source:
        call.channels.slice(bias.source, 0, made)
    else:
        entries = bias.along(0)
        assert entries is not None
        call.channels.tie(entries, made)


def _read_channels(call: Call, layer: str, dim: int) -> Tensor | None:
    """The labels that a layer reads, noted; None when they must all stay."""
    came, channels = call.maps[0].along(dim), call.channels
    if came is None:
        along = any(call.maps[0].varies(d) for d in range(dim + 1, len(call.maps[0].shape)))
        call.refuse(
            "which slides along them, so that their neighbours matter" * along or OTHER_ORDER
        )
        return None
    channels.reads.setdefault(layer, came)
    channels.tie(channels.reads[layer], came)  # used twice, it reads the same slices both times
    if call.module is None and not call.argument(1, "weight").source:
        channels.computed[call.name] = dim, came
    return came


def _follow_width(call: Call, weight: Any, attribute: str, value: int, labels: Tensor) -> None:
    """Let an attribute of the layer's module, if it has it, count these labels."""
    if call.module is not None:
        call.count(attribute, labels)
    elif getattr(_holder(call, weight), attribute, None) == value:
        owner = layer_name(weight.source or weight.origin)
        owner = call.within if not weight.source and _is_own(call, weight) else owner
        call.channels.count(owner, attribute, labels)


@rule(nn.Linear)
def linear(call: Call) -> Tensor:
    assert isinstance(call.module, nn.Linear)
    return _apply_linear(call, call.name, call.module.weight, call.module.bias is not None)


@rule("linear", parameters=True)
def functional_linear(call: Call) -> Tensor:
    weight = call.argument(1, "weight")
    bias = call.argument(2, "bias") is not None
    return _apply_linear(call, _find_layer(call, weight), weight, bias)


def _apply_linear(call: Call, name: str, weight: Any, bias: bool) -> Tensor:
    x, channels, out = call.maps[0], call.channels, call.shapes[0]
    n_out, n_in = weight.shape
    made = channels.make(name, n_out)
    positions = out[:-1].numel() // channels.batch if len(out) > 1 else 1
    about = (positions, tuple(out[1:-1]), _weight_name(call, name, weight))
    channels.use(Layer(name, "", "linear", n_in, n_out, (), 1, bias, *about))
    if x.labels.numel() > 1 and not x.varies(-1):  # along places, for each map by itself
        channels.refuse(made, f"{name} works along places: what it makes are no maps")
        return x.labels
    came = _read_channels(call, name, len(x.shape) - 1)
    _slice(call, name, weight, 0, made)
    if bias:
        _slice_bias(call, name, made)
    if came is not None:
        _slice(call, name, weight, 1, came)
        _follow_width(call, weight, "in_features", n_in, came)
    _follow_width(call, weight, "out_features", n_out, made)
    return spread(made, len(x.shape), -1)
