"""Rules of the operators that reorder, reshape and repeat channels.

Where a number in the model's code decides what goes where, channels are tied so that it still does
when some are gone: a grid of channels that is transposed stays a grid.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.graph.calls import Call, Maps, leaves
from prunelab.graph.labels import Channels, Count
from prunelab.graph.operators.parts import by_index, narrow, split
from prunelab.graph.operators.registry import OTHER_ORDER, keep_grid, rule, spread, thin, whole

BY_LIST = "which picks or writes some of them by a list of places"
NEIGHBOURS = "which slides along them, so that their neighbours matter"


@rule("permute")
def permute(call: Call) -> Tensor:
    dims = call.argument(1, "dims")
    return call.maps[0].labels.permute(dims if isinstance(dims, list | tuple) else call.args[1:])


@rule("T H")
def reverse(call: Call) -> Tensor:
    labels = call.maps[0].labels
    return labels.permute(tuple(range(labels.ndim))[::-1])


@rule("mT mH adjoint")
def matrix_transpose(call: Call) -> Tensor:
    return call.maps[0].labels.transpose(-2, -1)


@rule("transpose swapaxes swapdims movedim moveaxis t unsqueeze")
@rule("transpose_ swapaxes_ swapdims_ t_ unsqueeze_")
def as_labels(call: Call) -> Tensor:
    """What is done with the tensor is done with its labels."""
    do = getattr(call.maps[0].labels, call.operator.removesuffix("_"))
    return do(*call.args[1:], **{k: v for k, v in call.kwargs.items() if k != "input"})


@rule("squeeze squeeze_")
def squeeze(call: Call) -> Tensor:
    x, dim = call.maps[0], call.argument(1, "dim")
    if dim is None and x.labels.numel() > 1:
        why = "which drops every dimension of size 1, theirs too when one is left; name the dim"
        return call.refuse(why)
    dims = range(len(x.shape)) if dim is None else dim
    dims = dims if isinstance(dims, Sequence) else [dims]
    return x.labels.squeeze([d for d in dims if x.shape[d] == 1])


@rule("flatten", nn.Flatten)
def flatten(call: Call) -> Tensor:
    x = call.maps[0]
    if isinstance(call.module, nn.Flatten):
        start, end = call.module.start_dim, call.module.end_dim
    else:
        start, end = call.argument(1, "start_dim", 0), call.argument(2, "end_dim", -1)
    start, end = start % len(x.shape), end % len(x.shape)
    before, after = range(start), range(end + 1, len(x.shape))
    return _reshape(call, [*map(x.size, before), -1, *map(x.size, after)])


@rule("ravel")
def ravel(call: Call) -> Tensor:
    return _reshape(call, [-1])


@rule("view reshape", counts=True)
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
    before, after = range(dim), range(dim + 1, len(x.shape))
    return _reshape(call, [*map(x.size, before), *sizes, *map(x.size, after)])


@rule("view_as reshape_as")
def view_as(call: Call) -> Tensor:
    return _reshape(call, [call.maps[1].size(d) for d in range(len(call.maps[1].shape))])


def _reshape(call: Call, sizes: list[Any]) -> Tensor:
    """Reshape the labels as the tensor. A size that follows the channels, or -1, may shrink."""
    x, shape = call.maps[0], call.shapes[0]
    if x.labels.numel() == 1:
        if any(isinstance(size, Count) and not size.optional for size in sizes):
            _refuse_counts(call, "which reshapes them by the number of other maps")
        return x.labels.reshape([1] * len(shape))
    labels = _reshape_labels(x, shape)
    varying = [d for d in range(len(shape)) if labels.shape[d] > 1]
    sizes = [  # what is no number of these channels is one that stays
        size.value
        if isinstance(size, Count) and d not in varying and (size.optional or x.bare)
        else size
        for d, size in enumerate(sizes)
    ]
    counted = [d for d, size in enumerate(sizes) if isinstance(size, Count)]
    inferred = [d for d, size in enumerate(sizes) if isinstance(size, int) and size == -1]
    if not varying:
        return labels
    if (inferred and inferred[0] in varying) or any(not sizes[d].optional for d in counted):
        counted = [d for d in counted if not sizes[d].optional]
    may_shrink = [d for d in varying if d in (counted or inferred)]
    if len(may_shrink) != 1 or any(d not in varying for d in counted):
        return _refuse_counts(call, _say_fixed(sizes, varying, shape))
    labels = keep_grid(call, labels, may_shrink[0])
    for d in counted:
        if _same_mixture(call.channels, sizes[d].labels, x.labels):
            continue
        each = whole(call, sizes[d])
        if each is None or len(each) != shape[d]:
            return _refuse_counts(call, "which reshapes them by the number of other maps")
        call.channels.tie(each, labels.reshape(-1))
    return thin(call.channels.root[labels])


def _say_fixed(sizes: list[Any], varying: list[int], shape: torch.Size) -> str:
    """Why a reshape stops them, and what to write instead."""
    fixed = tuple(size.value if isinstance(size, Count) else size for size in sizes)
    if len(varying) > 1:
        return f"which reshapes them to fixed sizes {fixed}; write -1 for their number"
    if -1 in fixed and len(shape) == 2:
        cure = "x.flatten(1)"
    elif -1 in fixed:
        cure = "the number of maps as x.shape[1]"
    else:
        cure = "-1 for their number"
    return f"which reshapes them to fixed sizes {fixed}; write {cure}"


def _reshape_labels(x: Maps, shape: torch.Size) -> Tensor:
    both = len(x.shape) > 1 and len(shape) > 1
    if both and x.shape[0] == shape[0] and not x.varies(0):  # leave the batch out
        return thin(x.labels.expand(1, *x.shape[1:]).reshape(1, *shape[1:]))
    return thin(x.labels.expand(x.shape).reshape(shape))


def _same_mixture(channels: Channels, a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same filters, each as often as the others, up to one factor."""
    own, times = channels.root[a].unique(return_counts=True)
    theirs, often = channels.root[b].unique(return_counts=True)
    return torch.equal(own, theirs) and torch.equal(times * often[0], often * times[0])


def _refuse_counts(call: Call, why: str) -> Tensor:
    for count in leaves((call.args, call.kwargs)):
        if isinstance(count, Count):
            reason = f"the model's code works with the number of its maps in {call.where}"
            call.channels.refuse(count.labels, reason)
    return call.refuse(why)


@rule("expand expand_as broadcast_to", counts=True)
def expand(call: Call) -> Tensor:
    x, shape = call.maps[0], call.shapes[0]
    sizes = list(call.args[1]) if isinstance(call.args[1], list | tuple) else list(call.args[1:])
    if call.operator == "expand_as":
        sizes = [call.maps[1].size(d) for d in range(len(shape))]
    labels = x.labels.reshape([1] * (len(shape) - len(x.shape)) + list(x.labels.shape))
    for d, size in enumerate(sizes):
        each = size.each if isinstance(size, Count) else None
        if each is not None and labels.shape[d] == len(each) > 1:
            call.channels.tie(each, labels.movedim(d, -1))
        elif each is not None and x.labels.numel() == 1 and not size.optional:
            labels = spread(each, len(shape), d)  # one map for each of those
        elif isinstance(size, Count) and size.optional and labels.shape[d] == 1:
            continue
        elif isinstance(size, Count) or (labels.shape[d] > 1 and size != -1):
            return _refuse_counts(call, "which expands them to a fixed number")
    return labels


@rule("repeat_interleave")
def repeat_interleave(call: Call) -> Tensor:
    x, times, dim = call.maps[0], call.argument(1, "repeats"), call.argument(2, "dim")
    if not isinstance(times, int) or dim is None:
        return call.refuse("which repeats them by a list")
    return x.labels.repeat_interleave(times, dim) if x.varies(dim) else x.labels


@rule("repeat tile", counts=True)
def repeat(call: Call) -> Tensor:
    x, times = call.maps[0], call.args[1:] or (call.kwargs.get("repeats", call.kwargs.get("dims")),)
    times = tuple(times[0]) if isinstance(times[0], list | tuple) else times
    labels = x.labels.reshape([1] * (len(times) - len(x.shape)) + list(x.labels.shape))
    counted = [d for d, n in enumerate(times) if isinstance(n, Count)]
    follows = [d for d in counted if not times[d].optional]
    if len(follows) == 1 and labels.numel() == 1 and times[follows[0]].each is not None:
        return spread(times[follows[0]].each, len(times), follows[0])  # one map for each of those
    if any(labels.shape[d] > 1 for d in counted) or follows:
        return _refuse_counts(call, "which repeats them by a number of maps")
    plain = [1 if d in counted else n for d, n in enumerate(times)]
    return labels.repeat([n if labels.shape[d] > 1 else 1 for d, n in enumerate(plain)])


@rule("pixel_shuffle", nn.PixelShuffle)
def pixel_shuffle(call: Call) -> Tensor:
    """r² channels become the r × r pixels of one."""
    x = call.maps[0]
    module: Any = call.module
    r = module.upscale_factor if module is not None else call.argument(1, "upscale_factor")
    came = x.along(-3)
    if came is None:
        return call.refuse(OTHER_ORDER)
    return spread(keep_grid(call, came.reshape(-1, r * r), 0).reshape(-1), len(x.shape), -3)


@rule("pixel_unshuffle", nn.PixelUnshuffle)
def pixel_unshuffle(call: Call) -> Tensor:
    x = call.maps[0]
    module: Any = call.module
    r = module.downscale_factor if module is not None else call.argument(1, "downscale_factor")
    came = x.along(-3)
    if came is None:
        return call.refuse(OTHER_ORDER)
    return spread(came.repeat_interleave(r * r), len(x.shape), -3)


@rule("channel_shuffle native_channel_shuffle", nn.ChannelShuffle)
def channel_shuffle(call: Call) -> Tensor:
    """(groups, n) channels become (n, groups)."""
    x = call.maps[0]
    module: Any = call.module
    groups = module.groups if module is not None else call.argument(1, "groups")
    came = x.along(1)
    if came is None:
        return call.refuse(OTHER_ORDER)
    grid = came.reshape(groups, -1)
    keep_grid(call, grid, 1)
    return spread(grid.t().reshape(-1), len(x.shape), 1)


@rule(nn.Unfold, "unfold")
def unfold(call: Call) -> Tensor:
    """Each map becomes k × k maps beside one another, or a tensor's method adds a dimension."""
    x, shape = call.maps[0], call.shapes[0]
    if call.module is None and len(shape) > len(x.shape):  # the method, (dimension, size, step)
        dim = call.argument(1, "dimension")
        return call.refuse(NEIGHBOURS) if x.varies(dim) else x.labels.unsqueeze(-1)
    came = x.along(-3)
    if came is None:
        return call.refuse(OTHER_ORDER)
    return spread(came.repeat_interleave(shape[-2] // x.shape[-3]), len(shape), -2)


@rule(nn.Fold, "fold")
def fold(call: Call) -> Tensor:
    """k × k maps beside one another become one."""
    came = call.maps[0].along(-2)
    if came is None:
        return call.refuse(OTHER_ORDER)
    shape = call.shapes[0]
    grid = keep_grid(call, came.reshape(shape[-3], -1), 0)
    return spread(grid.reshape(-1), len(shape), -3)


@rule("view_as_real")
def view_as_real(call: Call) -> Tensor:
    return call.maps[0].labels.unsqueeze(-1)


@rule("view_as_complex")
def view_as_complex(call: Call) -> Tensor:
    x = call.maps[0]
    why = "which makes one number of two of them"
    return call.refuse(why) if x.varies(-1) else x.labels.squeeze(-1)


@rule("diagonal")
def diagonal(call: Call) -> Tensor:
    x = call.maps[0]
    dims = call.argument(2, "dim1", 0), call.argument(3, "dim2", 1)
    if any(x.varies(d) for d in dims):
        return call.refuse("which picks some of them by their place")
    return x.labels.diagonal(0, *dims)


@rule("gather scatter scatter_ scatter_add scatter_add_ scatter_reduce scatter_reduce_")
@rule("index_add index_add_ index_copy index_copy_ index_reduce index_reduce_ take_along_dim")
def by_list(call: Call) -> Tensor:
    """Places are read or written by a list; what lies along the channels meets one by one."""
    x, dim = call.maps[0], call.argument(1, "dim")
    dim = call.argument(2, "dim") if isinstance(dim, Maps) else dim  # take_along_dim
    listed = [m for m in call.maps[1:] if len(m.shape) == len(x.shape)]
    vectors = [m for m in call.maps[1:] if len(m.shape) != len(x.shape)]
    if dim is None or any(m.varies(dim) for m in (x, *listed)):
        return call.refuse(BY_LIST)
    across = {d for m in (x, *listed) for d in range(len(x.shape)) if m.varies(d)}
    fits = all(m.shape[d] == x.shape[d] for m in listed for d in across)
    if not fits or any(m.labels.numel() > 1 for m in vectors):
        return call.refuse(BY_LIST)
    labels = x.labels
    for m in listed:
        call.channels.tie(labels, m.labels)
        labels = torch.broadcast_tensors(labels, m.labels)[0]
    return labels


@rule("index_put index_put_ diagonal_scatter diag diag_embed diagflat trace fill_diagonal_")
@rule("as_strided as_strided_ as_strided_scatter")
def by_place(call: Call) -> Tensor:
    return call.refuse("which picks or writes some of them by their place")


@rule("sum_to_size")
def sum_to_size(call: Call) -> Tensor:
    return call.refuse("which sums them to fixed sizes; sum(dim, keepdim=True) has a rule")


@rule("slice_scatter select_scatter")
def write_part(call: Call) -> Tensor:
    """A part of the places is written by another tensor."""
    x, written = call.maps
    dim = call.argument(2, "dim", 0)
    if x.varies(dim):
        return call.refuse("which writes to some of them by their place")
    there = written.labels.unsqueeze(dim) if "select" in call.operator else written.labels
    call.channels.tie(x.labels, there)
    return torch.broadcast_tensors(x.labels, there)[0]


@rule("hsplit vsplit dsplit")
def split_along(call: Call) -> Tensor | list[Tensor]:
    dim = ["vsplit", "hsplit", "dsplit"].index(call.operator)
    how = call.args[1] if len(call.args) > 1 else next(iter(call.kwargs.values()))
    dim = 0 if len(call.maps[0].shape) == 1 else dim
    return split(replace(call, operator="tensor_split", args=(call.args[0], how, dim), kwargs={}))


@rule("unsafe_chunk unsafe_split split_with_sizes unsafe_split_with_sizes", counts=True)
def split_otherwise(call: Call) -> Tensor | list[Tensor]:
    return split(replace(call, operator="chunk" if "chunk" in call.operator else "split"))


rule("narrow_copy")(narrow)
rule("index_fill index_fill_")(by_index)
