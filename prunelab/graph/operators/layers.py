"""Rules of layers whose weights are filters: convolutions and linear layers, as functions too."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from prunelab.graph.calls import Call
from prunelab.graph.labels import Count, Layer
from prunelab.graph.operators.registry import OTHER_ORDER, keep_grid, rule, spread


@dataclass(frozen=True)
class Kernel:
    """Whose weight a call uses: that of its module, one given to a function, or a computed one."""

    layer: str  # its name
    tensor: str  # the qualified name of the layer's weight; "" where no module holds it
    given: Any  # the weight, or its Maps
    holder: nn.Module | None = None  # the module whose attributes count its channels,
    held_by: str = ""  # and its name
    trained: bool = True  # whether it is made of parameters
    stored: bool = True  # whether it is a tensor that can be sliced, not computed


def _find_kernel(call: Call, transposed: bool = False) -> Kernel:
    """The weight of a module or function.

    One that is used both ways, as a tied decoder does, is two layers.
    """
    if call.module is not None:
        return Kernel(call.name, f"{call.name}.weight", call.module.weight, call.module, call.name)
    weight, channels = call.argument(1, "weight"), call.channels
    if weight.source:
        owner, _, attribute = weight.source.rpartition(".")
        name = owner if attribute == "weight" and owner else weight.source
        trained = weight.source in channels.parameters
        found = Kernel(name, weight.source, weight, weight.owner, owner, trained)
    else:
        origin = weight.origin.rpartition(".")[0]
        found = Kernel(call.name, "", weight, trained=False, stored=False)
        # that of the layer whose forward makes the call, or of another, by the forward of its block
        for owner, name in ((call.owner, call.within), (weight.owner, origin)):
            layer = isinstance(owner, nn.modules.conv._ConvNd | nn.Linear)
            if layer and getattr(owner, "weight", weight).shape == weight.shape:
                found = Kernel(name, f"{name}.weight", weight, owner, name, stored=False)
                break
    known = channels.layers.get(found.layer)
    other_way = known is not None and known.transposed != transposed
    return replace(found, layer=call.name) if other_way else found


@rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
# the counts are in output_size, which is of places
@rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, counts=True)
def conv(call: Call) -> Tensor:
    module = call.module
    assert isinstance(module, nn.modules.conv._ConvNd)
    bias = module.bias is not None
    return _convolve(call, _find_kernel(call), bias, module.groups, module.transposed)


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
    alone = replace(call, args=(x,), kwargs={})
    return _convolve(alone, _find_kernel(call), module.bias is not None, module.groups, False)


@rule("conv1d conv2d conv3d", counts=True, parameters=True)
@rule("conv_transpose1d conv_transpose2d conv_transpose3d", counts=True, parameters=True)
def functional_conv(call: Call) -> Tensor:
    transposed = "transpose" in call.operator
    bias, groups = call.argument(2, "bias") is not None, call.argument(6, "groups", 1)
    return _convolve(call, _find_kernel(call, transposed), bias, groups, transposed)


def _convolve(call: Call, kernel: Kernel, bias: bool, groups: Any, transposed: bool) -> Tensor:
    """Filters of a conv: tied to its inputs if depthwise, across its groups if grouped."""
    x, channels, name, shape = call.maps[0], call.channels, kernel.layer, kernel.given.shape
    dim = len(x.shape) - len(shape) + 1
    counted, groups = groups, groups.value if isinstance(groups, Count) else groups
    n_in, n_out = x.shape[dim], shape[1] * groups if transposed else shape[0]
    made, out = channels.make(name, n_out), call.shapes[0]
    pixels = x.shape[dim + 1 :] if transposed else out[dim + 1 :]
    # parts of an image may lie side by side in the batch
    images = out[:dim].numel() / channels.batch if dim else 1
    positions, size = int(pixels.numel() * images), tuple(out[dim + 1 :])
    kind = "conv" if kernel.trained else "filter"
    about = (positions, size, kernel.tensor, transposed)
    channels.use(Layer(name, "", kind, n_in, n_out, tuple(shape[2:]), groups, bias, *about))
    came = _read_channels(call, kernel, dim)
    of_filters, of_inputs = (1, 0) if transposed else (0, 1)
    if channels.groups_go(name, groups, n_in) and came is not None:  # filter j makes map j of map j
        if not isinstance(counted, Count) and not hasattr(kernel.holder, "groups"):
            why = f"a depthwise convolution by a fixed number of groups ({groups}); take x.shape[1]"
            return call.refuse_all(why)
        channels.tie(made.reshape(groups, -1), came.reshape(groups, 1))
        if isinstance(counted, Count) and counted.each is not None:
            channels.tie(counted.each, came)
        _slice(call, kernel, 0, came if transposed else made)
        _follow_width(call, kernel, "groups", groups, came)
    else:  # the groups stay, each as wide as the others
        new = keep_grid(call, made.reshape(groups, -1), 1)[0]
        _slice(call, kernel, of_filters, new if transposed else made)
        if came is not None:
            own = keep_grid(call, came.reshape(groups, -1), 1)[0]
            _slice(call, kernel, of_inputs, came if transposed else own)
    if bias:
        _slice_bias(call, name, made)
    if came is not None:
        _follow_width(call, kernel, "in_channels", n_in, came)
    _follow_width(call, kernel, "out_channels", n_out, made)
    return spread(made, len(x.shape), dim)


def _slice(call: Call, kernel: Kernel, dim: int, labels: Tensor) -> None:
    """Slice i of a layer's weight goes with labels[i]; of a computed one, what it comes of."""
    channels, weight = call.channels, kernel.given
    if kernel.stored:
        channels.slice(kernel.tensor, dim, labels)
        return
    own = weight.labels if dim == 0 else weight.inputs
    along = None if own is None else replace(weight, labels=own).along(dim)
    if along is None:
        fixed = call.refuse_all("whose weight the model's code computes in another order")
        channels.refuse(labels, channels.reasons[int(fixed)])
    else:
        channels.tie(labels, along)


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


def _read_channels(call: Call, kernel: Kernel, dim: int) -> Tensor | None:
    """The labels that a layer reads, noted; None when they must all stay."""
    x, channels, layer = call.maps[0], call.channels, kernel.layer
    came = x.along(dim)
    if came is None:
        along = any(x.varies(d) for d in range(dim + 1, len(x.shape)))
        why = "which slides along them, so that their neighbours matter" if along else OTHER_ORDER
        call.refuse(why)
        return None
    channels.reads.setdefault(layer, came)
    channels.tie(channels.reads[layer], came)  # used twice, it reads the same slices both times
    if not kernel.stored:
        channels.computed[call.name] = dim, came
    return came


def _follow_width(call: Call, kernel: Kernel, attribute: str, value: int, labels: Tensor) -> None:
    """Let an attribute of the layer's module, if it has it, count these labels."""
    if getattr(kernel.holder, attribute, None) == value:
        call.channels.count(kernel.held_by, attribute, labels)


@rule(nn.Linear)
def linear(call: Call) -> Tensor:
    assert isinstance(call.module, nn.Linear)
    return _apply_linear(call, _find_kernel(call), call.module.bias is not None)


@rule("linear", parameters=True)
def functional_linear(call: Call) -> Tensor:
    return _apply_linear(call, _find_kernel(call), call.argument(2, "bias") is not None)


def _apply_linear(call: Call, kernel: Kernel, bias: bool) -> Tensor:
    x, channels, out, name = call.maps[0], call.channels, call.shapes[0], kernel.layer
    n_out, n_in = kernel.given.shape
    made = channels.make(name, n_out)
    positions = out[:-1].numel() // channels.batch if len(out) > 1 else 1
    about = (positions, tuple(out[1:-1]), kernel.tensor)
    channels.use(Layer(name, "", "linear", n_in, n_out, (), 1, bias, *about))
    if x.labels.numel() > 1 and not x.varies(-1):  # along places, for each map by itself
        channels.refuse(made, f"{name} works along places: what it makes are no maps")
        channels.run_for(x.labels, name, positions)
        return x.labels
    came = _read_channels(call, kernel, len(x.shape) - 1)
    _slice(call, kernel, 0, made)
    if bias:
        _slice_bias(call, name, made)
    if came is not None:
        _slice(call, kernel, 1, came)
        _follow_width(call, kernel, "in_features", n_in, came)
    _follow_width(call, kernel, "out_features", n_out, made)
    return spread(made, len(x.shape), -1)
