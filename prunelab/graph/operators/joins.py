"""Rules of what puts channels beside one another: concatenation, stacking, padding."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from prunelab.graph.calls import Call
from prunelab.graph.operators.registry import OTHER_ORDER, rule, spread


@rule("cat concat concatenate")
def cat(call: Call) -> Tensor:
    tensors, dim = call.argument(0, "tensors"), call.argument(1, "dim", 0) % len(call.shapes[0])
    tensors = [m for m in tensors if len(m.shape) == len(call.shapes[0])]
    single = all(m.labels.numel() == m.shape[dim] == 1 for m in tensors)  # maps of a filter each
    if not single and not any(m.varies(dim) for m in tensors):  # not along the channels' dimension
        for other in tensors[1:]:
            call.channels.tie(tensors[0].labels, other.labels)
        return torch.broadcast_tensors(*(m.labels for m in tensors))[0]
    if any(m.along(dim) is None for m in tensors):
        return call.refuse("which joins them along another dimension than their channels'")
    return torch.cat([spread(m.along(dim), len(m.shape), dim) for m in tensors], dim)


@rule("hstack vstack dstack")
def cat_along(call: Call) -> Tensor:
    dim = ["vstack", "hstack", "dstack"].index(call.operator)
    tensors = call.argument(0, "tensors")
    if any(len(m.shape) <= dim for m in tensors):
        return call.refuse("which gives them another number of dimensions")
    return cat(replace(call, args=(tensors, dim), kwargs={}))


@rule("stack")
def stack(call: Call) -> Tensor:
    tensors, dim = call.argument(0, "tensors"), call.argument(1, "dim", 0) % len(call.shapes[0])
    for other in tensors[1:]:
        call.channels.tie(tensors[0].labels, other.labels)
    return torch.broadcast_tensors(*(m.labels for m in tensors))[0].unsqueeze(dim)


@rule("pad")
@rule(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)
@rule(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
@rule(nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d)
@rule(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d)
@rule(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d)
def pad(call: Call) -> Tensor:
    x = call.maps[0]
    amounts = call.module.padding if call.module is not None else call.argument(1, "pad")
    constant = isinstance(call.module, nn.modules.padding._ConstantPadNd)
    if call.module is None:
        constant = call.argument(2, "mode", "constant") == "constant"
    labels = x.labels
    for i in range(0, len(amounts), 2):  # type: ignore[arg-type]
        before, after = amounts[i : i + 2]  # type: ignore[index]
        dim = len(x.shape) - 1 - i // 2
        if not x.varies(dim) or (before, after) == (0, 0):
            continue
        if before < 0 or after < 0 or not constant:
            return call.refuse("which crops or repeats some of them by their place")
        zeros = call.channels.fix(
            "its maps are added to those of a shortcut that fills up with zero maps "
            f"({call.where}, option A), and the places of those are fixed; with a 1×1 convolution "
            "as the shortcut they could go"
        )
        came = x.along(dim)
        if came is None:
            return call.refuse(OTHER_ORDER)
        padded = torch.cat([zeros.expand(before), came, zeros.expand(after)])
        labels = spread(padded, len(x.shape), dim)
    return labels
