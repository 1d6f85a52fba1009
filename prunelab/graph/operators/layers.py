"""Rules of layers whose weights are filters: convolutions and linear layers, as functions too."""

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


@rule("conv1d conv2d conv3d", counts=True, parameters=True)
@rule("conv_transpose1d conv_transpose2d conv_transpose3d", counts=True, parameters=True)
def functional_conv(call: Call) -> Tensor:
    transposed = "transpose" in call.operator
    weight, groups = call.argument(1, "weight"), call.argument(5 if transposed else 6, "groups", 1)
    bias = call.argument(2, "bias")
    if not isinstance(weight, Maps) or not weight.source:
        return call.refuse("whose weight the model's code computes")
    return _convolve(call, layer_name(weight.source), weight, bias is not None, groups, transposed)


def layer_name(tensor: str) -> str:
    """`conv1.weight` belongs to the layer `conv1`; another bare parameter is a layer itself."""
    owner, _, attribute = tensor.rpartition(".")
    return owner if attribute == "weight" and owner else tensor


def _convolve(
    call: Call, name: str, weight: Any, bias: bool, groups: Any, transposed: bool
) -> Tensor:
    """Filters of a conv: tied to its inputs if depthwise, across its groups if grouped."""
    x, channels = call.maps[0], call.channels
    dim = len(x.shape) - len(weight.shape) + 1
    follows = isinstance(groups, Count)
    groups = groups.value if follows else groups
    n_in, n_out = x.shape[dim], weight.shape[1] * groups if transposed else weight.shape[0]
    made, out = channels.make(name, n_out), call.shapes[0]
    pixels = x.shape[dim + 1 :] if transposed else out[dim + 1 :]
    # parts of an image may lie side by side in the batch
    images = out[:dim].numel() / channels.batch if dim else 1
    tensor, bias_name = _tensor_names(call, name)
    positions, size = int(pixels.numel() * images), tuple(out[dim + 1 :])
    kernel, about = tuple(weight.shape[2:]), (positions, size, tensor, transposed)
    channels.use(Layer(name, "", "conv", n_in, n_out, kernel, groups, bias, *about))
    came = _read_channels(call, name, dim, made)
    if channels.groups_go(name, groups, n_in) and came is not None:  # filter j makes map j of map j
        if call.module is None and not follows and not hasattr(weight.owner, "groups"):
            why = f"a depthwise convolution by a fixed number of groups ({groups}); take x.shape[1]"
            return call.refuse(why)
        channels.tie(made.reshape(groups, -1), came.reshape(groups, 1))
        channels.slice(tensor, 0, came if transposed else made)
        _follow_width(call, weight, "groups", groups, came)
    else:  # the groups stay, each as wide as the others
        new = keep_grid(call, made.reshape(groups, -1), 1)[0]
        channels.slice(tensor, 1 if transposed else 0, new if transposed else made)
        if came is not None:
            own = keep_grid(call, came.reshape(groups, -1), 1)[0]
            channels.slice(tensor, 0 if transposed else 1, came if transposed else own)
    if bias:
        channels.slice(bias_name, 0, made)
    if came is not None:
        _follow_width(call, weight, "in_channels", n_in, came)
    _follow_width(call, weight, "out_channels", n_out, made)
    return spread(made, len(x.shape), dim)


def _read_channels(call: Call, layer: str, dim: int, made: Tensor) -> Tensor | None:
    """The labels that a layer reads, noted; None when they must all stay."""
    came, channels = call.maps[0].along(dim), call.channels
    if hasattr(call.module, "parametrizations"):
        call.refuse("whose weight is parametrised; remove the parametrisation first")
        why = f"the weight of {call.where} is parametrised; remove the parametrisation first"
        channels.refuse(made, why)
    elif came is None:
        call.refuse(OTHER_ORDER)
    else:
        channels.reads.setdefault(layer, came)
        channels.tie(channels.reads[layer], came)  # used twice, it reads the same slices both times
        return came
    return None


def _tensor_names(call: Call, layer: str) -> tuple[str, str]:
    """The names of a layer's weight and bias."""
    if call.module is not None:
        return f"{layer}.weight", f"{layer}.bias"
    bias = call.argument(2, "bias")
    return call.argument(1, "weight").source, bias.source if isinstance(bias, Maps) else ""


def _follow_width(call: Call, weight: Any, attribute: str, value: int, labels: Tensor) -> None:
    """Let an attribute of the layer's module, if it has it, count these labels."""
    if call.module is not None:
        call.count(attribute, labels)
    elif getattr(weight.owner, attribute, None) == value:
        call.channels.counts[weight.source.rpartition(".")[0], attribute, None] = labels


@rule(nn.Linear)
def linear(call: Call) -> Tensor:
    assert isinstance(call.module, nn.Linear)
    return _apply_linear(call, call.name, call.module.weight, call.module.bias is not None)


@rule("linear", parameters=True)
def functional_linear(call: Call) -> Tensor:
    weight = call.argument(1, "weight")
    if not isinstance(weight, Maps) or not weight.source:
        return call.refuse("whose weight the model's code computes")
    bias = call.argument(2, "bias") is not None
    return _apply_linear(call, layer_name(weight.source), weight, bias)


def _apply_linear(call: Call, name: str, weight: Any, bias: bool) -> Tensor:
    x, channels, out = call.maps[0], call.channels, call.shapes[0]
    n_out, n_in = weight.shape
    made = channels.make(name, n_out)
    positions = out[:-1].numel() // channels.batch if len(out) > 1 else 1
    tensor, bias_name = _tensor_names(call, name)
    about = (positions, tuple(out[1:-1]), tensor)
    channels.use(Layer(name, "", "linear", n_in, n_out, (), 1, bias, *about))
    came = _read_channels(call, name, len(x.shape) - 1, made)
    channels.slice(tensor, 0, made)
    if bias:
        channels.slice(bias_name, 0, made)
    if came is not None:
        channels.slice(tensor, 1, came)
        _follow_width(call, weight, "in_features", n_in, came)
    _follow_width(call, weight, "out_features", n_out, made)
    return spread(made, len(x.shape), -1)
