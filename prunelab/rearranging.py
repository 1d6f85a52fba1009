"""Rules of the operators that take a part of the channels, reorder or reshape them (see operators.py).

Where a number in the model's code decides what goes where, channels are tied so that it still does when some are
gone: the halves of a split stay equally wide, and a grid of channels that is transposed stays a grid.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.channels import Call, Channels, Count, Maps
from prunelab.operators import OTHER_ORDER, keep_grid, rule, spread, thin

# ------------------------------------------------------------------------- what takes a part of them


def _pieces(call: Call, dim: int, ends: Sequence[Fraction]) -> list[Tensor] | None:
    """The labels cut at these shares of a dimension, whose pieces must stay as wide as their shares."""
    labels = call.maps[0].labels
    parts = math.lcm(*(end.denominator for end in ends))
    if labels.shape[dim] % parts:
        return None
    grid = labels.movedim(dim, 0).reshape(parts, -1, *labels.movedim(dim, 0).shape[1:])
    keep_grid(call, grid.reshape(parts, -1), 1)
    bounds = [0, *(int(end * labels.shape[dim]) for end in ends)]
    return [labels.narrow(dim, low, high - low) for low, high in pairwise(bounds)]


@rule("chunk", "split", "tensor_split", counts=True)
def split(call: Call) -> Tensor | list[Tensor]:
    x, how = call.maps[0], call.args[1] if len(call.args) > 1 else next(iter(call.kwargs.values()))
    dim = call.argument(2, "dim", 0) % len(x.shape)
    pieces = len(call.shapes)
    if not x.varies(dim):
        return [x.labels] * pieces
    shares: list[Fraction | None] = [Fraction(1, pieces) if how == pieces else None] * pieces
    if call.operator == "split":
        sizes = how if isinstance(how, list | tuple) else [how] * pieces
        shares = [_share(call, size, x.labels.reshape(-1)) for size in sizes]
    known = [share for share in shares if share is not None]
    if len(known) < pieces:
        return call.refuse("which splits them by fixed numbers; chunk, or a size taken from x.shape, has a rule")
    found = _pieces(call, dim, list(accumulate(known)))
    return call.refuse("which splits them unevenly") if found is None else found


def _share(call: Call, size: Any, labels: Tensor) -> Fraction | None:
    """What share of these channels a number in the model's code means, if it follows them."""
    root = call.channels.root
    if not isinstance(size, Count) or not torch.equal(root[size.labels], root[labels]):
        return None
    return size.share


@rule(nn.GLU, "glu")
def glu(call: Call) -> Tensor:
    """One half gates the other."""
    x, dim = call.maps[0], call.module.dim if isinstance(call.module, nn.GLU) else call.argument(1, "dim", -1)
    if not x.varies(dim):
        return x.labels
    halves = _pieces(call, dim % len(x.shape), [Fraction(1, 2), Fraction(1)])
    return call.refuse("which splits them unevenly") if halves is None else halves[0]


@rule("unbind")
def unbind(call: Call) -> Tensor | list[Tensor]:
    x, dim = call.maps[0], call.argument(1, "dim", 0)
    if x.varies(dim):
        return call.refuse("which picks some of them by their place")
    return [x.labels.squeeze(dim)] * len(call.shapes)


@rule("select")
def select(call: Call) -> Tensor:
    x, dim = call.maps[0], call.argument(1, "dim")
    return call.refuse("which picks some of them by their place") if x.varies(dim) else x.labels.squeeze(dim)


@rule("narrow")
def narrow(call: Call) -> Tensor:
    x, dim = call.maps[0], call.argument(1, "dim")
    return call.refuse("which picks some of them by their place") if x.varies(dim) else x.labels


@rule("getitem", counts=True)
def getitem(call: Call) -> Tensor:
    x, index = call.maps[0], call.args[1]
    index = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(i, list | Maps) for i in index):
        return call.refuse("which picks some of them by a list or a mask")
    if Ellipsis in index:
        place = index.index(Ellipsis)
        missing = len(x.shape) - sum(i is not None for i in index) + 1
        index[place : place + 1] = [slice(None)] * missing
    labels, dim = x.labels, 0
    for i in index:
        if i is None:
            labels = labels.unsqueeze(dim)
        elif isinstance(i, slice):
            part = _slice_labels(call, labels, dim, i)
            if part is None:
                return call.refuse("which picks some of them by their place")
            labels = part
        elif labels.shape[dim] != 1:
            return call.refuse("which picks some of them by their place")
        else:
            labels = labels.squeeze(dim)
            continue
        dim += 1
    return labels


def _slice_labels(call: Call, labels: Tensor, dim: int, part: slice) -> Tensor | None:
    if labels.shape[dim] == 1 or part in (slice(None), slice(0, None), slice(None, None, 1)):
        return labels
    along = Maps(labels.shape, labels).size(dim)
    assert isinstance(along, Count)
    start = Fraction(0) if part.start in (None, 0) else _share(call, part.start, along.labels)
    stop = Fraction(1) if part.stop is None else _share(call, part.stop, along.labels)
    if start is None or stop is None or part.step not in (None, 1) or labels.shape != call.maps[0].labels.shape:
        return None
    pieces = _pieces(call, dim, [end for end in (start, stop, Fraction(1)) if end > 0])
    return None if pieces is None else labels.narrow(dim, *_bounds(start, stop, labels.shape[dim]))


def _bounds(start: Fraction, stop: Fraction, n: int) -> tuple[int, int]:
    return int(start * n), int((stop - start) * n)


# ---------------------------------------------------------------------- what reorders and reshapes them


@rule("permute")
def permute(call: Call) -> Tensor:
    dims = call.argument(1, "dims")
    return call.maps[0].labels.permute(dims if isinstance(dims, list | tuple) else call.args[1:])


@rule("mT")
def matrix_transpose(call: Call) -> Tensor:
    return call.maps[0].labels.transpose(-2, -1)


@rule("transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "unsqueeze", "unsqueeze_")
def as_labels(call: Call) -> Tensor:
    """What is done with the tensor is done with its labels."""
    name = call.operator.removesuffix("_")
    return getattr(call.maps[0].labels, name)(*call.args[1:], **{k: v for k, v in call.kwargs.items() if k != "input"})


@rule("squeeze", "squeeze_")
def squeeze(call: Call) -> Tensor:
    x, dim = call.maps[0], call.argument(1, "dim")
    if dim is None and x.labels.numel() > 1:
        return call.refuse("which drops every dimension of size 1, theirs too when one is left; name the dim")
    dims = range(len(x.shape)) if dim is None else dim if isinstance(dim, list | tuple) else [dim]
    return x.labels.squeeze([d for d in dims if x.shape[d] == 1])


@rule("flatten", nn.Flatten)
def flatten(call: Call) -> Tensor:
    x = call.maps[0]
    if isinstance(call.module, nn.Flatten):
        start, end = call.module.start_dim, call.module.end_dim
    else:
        start, end = call.argument(1, "start_dim", 0), call.argument(2, "end_dim", -1)
    start, end = start % len(x.shape), end % len(x.shape)
    return _reshape(call, [*map(x.size, range(start)), -1, *map(x.size, range(end + 1, len(x.shape)))])


@rule("view", "reshape", counts=True)
def view(call: Call) -> Tensor:
    sizes = call.args[1:] or tuple(call.kwargs[k] for k in ("shape", "size") if k in call.kwargs)
    return _reshape(call, list(sizes[0]) if isinstance(sizes[0], list | tuple) else list(sizes))


@rule("unflatten", nn.Unflatten, counts=True)
def unflatten(call: Call) -> Tensor:
    x = call.maps[0]
    own = call.module
    dim = own.dim if isinstance(own, nn.Unflatten) else call.argument(1, "dim")
    sizes = own.unflattened_size if isinstance(own, nn.Unflatten) else call.argument(2, "sizes")
    dim = int(dim) % len(x.shape)
    return _reshape(call, [*map(x.size, range(dim)), *sizes, *map(x.size, range(dim + 1, len(x.shape)))])


@rule("view_as", "reshape_as")
def view_as(call: Call) -> Tensor:
    return _reshape(call, [call.maps[1].size(d) for d in range(len(call.maps[1].shape))])


def _reshape(call: Call, sizes: list[Any]) -> Tensor:
    """Reshape the labels as the tensor. A size that follows the channels, or -1, may shrink; a plain number not."""
    x, shape = call.maps[0], call.shapes[0]
    if x.labels.numel() == 1:
        return x.labels.reshape([1] * len(shape))
    labels = _reshape_labels(x, shape)
    varying = [d for d in range(len(shape)) if labels.shape[d] > 1]
    counted = [d for d, size in enumerate(sizes) if isinstance(size, Count)]
    inferred = [d for d, size in enumerate(sizes) if isinstance(size, int) and size == -1]
    if not varying:
        return labels
    may_shrink = [d for d in varying if d in (counted or inferred)]
    if len(may_shrink) != 1 or any(d not in varying for d in counted):
        return _refuse_counts(call, f"which reshapes them to fixed sizes {_show(sizes)}; write -1 for their number")
    labels = keep_grid(call, labels, may_shrink[0])
    for d in counted:
        if sizes[d].share == 1 and len(sizes[d].labels) == shape[d]:
            call.channels.tie(sizes[d].labels, labels.reshape(-1))
        elif not _same_mixture(call.channels, sizes[d].labels, x.labels):
            return _refuse_counts(call, "which reshapes them by the number of other maps")
    return thin(call.channels.root[labels])


def _reshape_labels(x: Maps, shape: torch.Size) -> Tensor:
    if len(x.shape) > 1 and len(shape) > 1 and x.shape[0] == shape[0] and not x.varies(0):  # leave the batch out
        return thin(x.labels.expand(1, *x.shape[1:]).reshape(1, *shape[1:]))
    return thin(x.labels.expand(x.shape).reshape(shape))


def _show(sizes: list[Any]) -> str:
    return str(tuple(size.value if isinstance(size, Count) else size for size in sizes))


def _same_mixture(channels: Channels, a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same filters, each as often as the others, up to one factor."""
    (own, times), (theirs, often) = (channels.root[labels].unique(return_counts=True) for labels in (a, b))
    return torch.equal(own, theirs) and torch.equal(times * often[0], often * times[0])


def _refuse_counts(call: Call, why: str) -> Tensor:
    for count in (size for arg in call.args for size in (arg if isinstance(arg, list | tuple) else [arg])):
        if isinstance(count, Count):
            call.channels.refuse(count.labels, f"the model's code works with the number of its maps in {call.where}")
    return call.refuse(why)


@rule("expand", "expand_as", "broadcast_to", counts=True)
def expand(call: Call) -> Tensor:
    x, shape = call.maps[0], call.shapes[0]
    sizes = list(call.args[1]) if isinstance(call.args[1], list | tuple) else list(call.args[1:])
    if call.operator == "expand_as":
        sizes = [call.maps[1].size(d) for d in range(len(shape))]
    labels = x.labels.reshape([1] * (len(shape) - len(x.shape)) + list(x.labels.shape))
    for d, size in enumerate(sizes):
        if isinstance(size, Count) and labels.shape[d] > 1 and size.share == 1:
            call.channels.tie(size.labels, labels.movedim(d, -1))
        elif isinstance(size, Count) and size.share == 1 and x.labels.numel() == 1:
            labels = spread(size.labels, len(shape), d)  # one map for each of those
        elif isinstance(size, Count) or (labels.shape[d] > 1 and size != -1):
            return _refuse_counts(call, "which expands them to a fixed number")
    return labels


@rule("repeat_interleave")
def repeat_interleave(call: Call) -> Tensor:
    x, times, dim = call.maps[0], call.argument(1, "repeats"), call.argument(2, "dim")
    if not isinstance(times, int) or dim is None:
        return call.refuse("which repeats them by a list")
    return x.labels.repeat_interleave(times, dim) if x.varies(dim) else x.labels


@rule("repeat", "tile")
def repeat(call: Call) -> Tensor:
    x, times = call.maps[0], call.args[1:]
    times = tuple(times[0]) if isinstance(times[0], list | tuple) else times
    labels = x.labels.reshape([1] * (len(times) - len(x.shape)) + list(x.labels.shape))
    return labels.repeat([n if labels.shape[d] > 1 else 1 for d, n in enumerate(times)])


@rule("pixel_shuffle", nn.PixelShuffle)
def pixel_shuffle(call: Call) -> Tensor:
    """r² channels become the r × r pixels of one."""
    x = call.maps[0]
    r = call.module.upscale_factor if isinstance(call.module, nn.PixelShuffle) else call.argument(1, "upscale_factor")
    came = x.along(-3)
    if came is None:
        return call.refuse(OTHER_ORDER)
    return spread(keep_grid(call, came.reshape(-1, r * r), 0).reshape(-1), len(x.shape), -3)


@rule("pixel_unshuffle", nn.PixelUnshuffle)
def pixel_unshuffle(call: Call) -> Tensor:
    x, module = call.maps[0], call.module
    r = module.downscale_factor if isinstance(module, nn.PixelUnshuffle) else call.argument(1, "downscale_factor")
    came = x.along(-3)
    return call.refuse(OTHER_ORDER) if came is None else spread(came.repeat_interleave(r * r), len(x.shape), -3)


@rule("channel_shuffle", "native_channel_shuffle", nn.ChannelShuffle)
def channel_shuffle(call: Call) -> Tensor:
    """(groups, n) channels become (n, groups)."""
    x = call.maps[0]
    groups = call.module.groups if isinstance(call.module, nn.ChannelShuffle) else call.argument(1, "groups")
    came = x.along(1)
    if came is None:
        return call.refuse(OTHER_ORDER)
    grid = came.reshape(groups, -1)
    keep_grid(call, grid, 1)
    return spread(grid.t().reshape(-1), len(x.shape), 1)
