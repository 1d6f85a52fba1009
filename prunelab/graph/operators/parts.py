"""Rules of the operators that take a part of the channels.

Where a number in the model's code decides what goes where, channels are tied so that it still does
when some are gone: the halves of a split stay equally wide.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn

from prunelab.graph.calls import Call, Maps
from prunelab.graph.labels import Count
from prunelab.graph.operators.elementwise import elementwise
from prunelab.graph.operators.registry import keep_grid, rule, whole

HOW = ("chunks", "split_size", "split_size_or_sections", "indices_or_sections", "split_sizes")
BY_PLACE = "which picks some of them by their place"


def _pieces(call: Call, dim: int, ends: Sequence[Fraction]) -> list[Tensor] | None:
    """The labels cut at these shares of a dimension; the pieces keep their shares of the width."""
    labels = call.maps[0].labels
    parts = math.lcm(*(end.denominator for end in ends))
    if labels.shape[dim] % parts:
        return None
    grid = labels.movedim(dim, 0).reshape(parts, -1, *labels.movedim(dim, 0).shape[1:])
    keep_grid(call, grid.reshape(parts, -1), 1)
    bounds = [0, *(int(end * labels.shape[dim]) for end in ends)]
    return [labels.narrow(dim, low, high - low) for low, high in pairwise(bounds)]


@rule("chunk split tensor_split", counts=True)
def split(call: Call) -> Tensor | list[Tensor]:
    x, named = call.maps[0], [call.kwargs[name] for name in HOW if name in call.kwargs]
    how = call.args[1] if len(call.args) > 1 else named[0]
    dim = call.argument(2, "dim", 0) % len(x.shape)
    pieces = len(call.shapes)
    if not x.varies(dim):
        return [x.labels] * pieces
    if call.operator == "split":
        sizes = list(how) if isinstance(how, list | tuple) else [how] * pieces
        if any(isinstance(size, Count) and size.optional for size in sizes):
            return _split_by_attributes(call, sizes, dim)
        shares = [_share(call, size, x.labels.reshape(-1)) for size in sizes]
    else:
        shares = [Fraction(1, pieces) if how == pieces else None] * pieces
    known = [share for share in shares if share is not None]
    if len(known) < pieces:
        cure = "keep the sizes as attributes of the module, and split by those"
        if len({shape[dim] for shape in call.shapes}) == 1:
            cure = "chunk, or a size taken from x.shape, has a rule"
        return call.refuse(f"which splits them by fixed numbers; {cure}")
    found = _pieces(call, dim, list(accumulate(known)))
    return call.refuse("which splits them unevenly") if found is None else found


def _split_by_attributes(call: Call, sizes: list[Any], dim: int) -> list[Tensor]:
    """Pieces as wide as attributes of the module say, which can be changed; others stay."""
    labels, start, pieces = call.maps[0].labels, 0, []
    for size in sizes:
        n = size.value if isinstance(size, Count) else size
        pieces.append(labels.narrow(dim, start, n))
        start += n
        _fit(call, size, pieces[-1], dim)
    return pieces


def _fit(call: Call, size: Any, part: Tensor, dim: int) -> None:
    """A part of the channels is, and stays, as wide as a number says."""
    each = whole(call, size) if isinstance(size, Count) else None
    if each is not None and len(each) == part.shape[dim]:
        call.channels.tie(each, part.movedim(dim, -1))
    else:
        why = f"its maps reach {call.where}, which takes a fixed number of them by their place"
        call.channels.refuse(part, why)


def _share(call: Call, size: Any, labels: Tensor) -> Fraction | None:
    """What share of these channels a number in the model's code means, if it follows them."""
    root = call.channels.root
    if not isinstance(size, Count) or not torch.equal(root[size.labels], root[labels]):
        return None
    return size.share


@rule(nn.GLU, "glu")
def glu(call: Call) -> Tensor:
    """One half gates the other."""
    x, module = call.maps[0], call.module
    dim = module.dim if isinstance(module, nn.GLU) else call.argument(1, "dim", -1)
    if not x.varies(dim):
        return x.labels
    halves = _pieces(call, dim % len(x.shape), [Fraction(1, 2), Fraction(1)])
    return call.refuse("which splits them unevenly") if halves is None else halves[0]


@rule("unbind")
def unbind(call: Call) -> Tensor | list[Tensor]:
    x, dim = call.maps[0], call.argument(1, "dim", 0)
    if x.varies(dim):
        return call.refuse(BY_PLACE)
    return [x.labels.squeeze(dim)] * len(call.shapes)


@rule("select")
def select(call: Call) -> Tensor:
    x, dim = call.maps[0], call.argument(1, "dim")
    return call.refuse(BY_PLACE) if x.varies(dim) else x.labels.squeeze(dim)


@rule("narrow")
def narrow(call: Call) -> Tensor:
    x, dim = call.maps[0], call.argument(1, "dim")
    return call.refuse(BY_PLACE) if x.varies(dim) else x.labels


@rule("index_select")
def by_index(call: Call) -> Tensor:
    x, dim = call.maps[0], call.argument(1, "dim")
    if x.varies(dim):
        return call.refuse(BY_PLACE)
    return x.labels if len(call.maps) == 2 else call.refuse(BY_PLACE)


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
                return call.refuse(BY_PLACE)
            labels = part
        elif labels.shape[dim] != 1:
            return call.refuse(BY_PLACE)
        else:
            labels = labels.squeeze(dim)
            continue
        dim += 1
    return labels


def _slice_labels(call: Call, labels: Tensor, dim: int, part: slice) -> Tensor | None:
    if labels.shape[dim] == 1 or part in (slice(None), slice(0, None), slice(None, None, 1)):
        return labels
    if part.step not in (None, 1) or labels.shape != call.maps[0].labels.shape:
        return None
    ends = [part.start, part.stop]
    if any(isinstance(end, Count) and end.optional for end in ends):
        return _slice_by_attributes(call, labels, dim, part)
    if isinstance(part.stop, int) and part.start in (None, 0) and part.stop >= labels.shape[dim]:
        return labels  # all of them, also when they are fewer
    along = Maps(labels.shape, labels).size(dim)
    assert isinstance(along, Count)
    start = Fraction(0) if part.start in (None, 0) else _share(call, part.start, along.labels)
    stop = Fraction(1) if part.stop is None else _share(call, part.stop, along.labels)
    if start is None or stop is None:
        return None
    pieces = _pieces(call, dim, [end for end in (start, stop, Fraction(1)) if end > 0])
    n = labels.shape[dim]
    whole = labels.narrow(dim, int(start * n), int((stop - start) * n))
    return None if pieces is None else whole


def _slice_by_attributes(call: Call, labels: Tensor, dim: int, part: slice) -> Tensor | None:
    """From and to places that attributes of the module say: so many are before them."""
    n, bounds = labels.shape[dim], []
    for end, default in ((part.start, 0), (part.stop, n)):
        place = end.value if isinstance(end, Count) else default if end is None else end
        if not 0 <= place <= n:
            return None
        if place not in (0, n) or isinstance(end, Count):
            _fit(call, end, labels.narrow(dim, 0, place), dim)
        bounds.append(place)
    return labels.narrow(dim, bounds[0], bounds[1] - bounds[0])


@rule("setitem", counts=True, parameters=True)
def setitem(call: Call) -> Tensor:
    """What is written to a part of a tensor meets what is there."""
    x, index, written = call.args
    part = getitem(replace(call, args=(x, index)))
    if isinstance(written, Maps):
        places = fx.node.map_aggregate(index, lambda i: i.value if isinstance(i, Count) else i)
        shape = torch.empty(x.shape, device="meta")[places].shape
        elementwise(replace(call, args=(Maps(shape, part), written)))
    return x.labels
