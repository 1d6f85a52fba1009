"""Rules of the operators that take a part of the channels.

Where a number in the model's code decides what goes where, channels are tied so that it still does
when some are gone: the halves of a split stay equally wide.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.graph.labels import Call, Count, Maps
from prunelab.graph.operators.registry import keep_grid, rule

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
        why = "which splits them by fixed numbers; chunk, or a size taken from x.shape, has a rule"
        return call.refuse(why)
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
    along = Maps(labels.shape, labels).size(dim)
    assert isinstance(along, Count)
    start = Fraction(0) if part.start in (None, 0) else _share(call, part.start, along.labels)
    stop = Fraction(1) if part.stop is None else _share(call, part.stop, along.labels)
    whole = labels.shape == call.maps[0].labels.shape
    if start is None or stop is None or part.step not in (None, 1) or not whole:
        return None
    pieces = _pieces(call, dim, [end for end in (start, stop, Fraction(1)) if end > 0])
    return None if pieces is None else labels.narrow(dim, *_bounds(start, stop, labels.shape[dim]))


def _bounds(start: Fraction, stop: Fraction, n: int) -> tuple[int, int]:
    return int(start * n), int((stop - start) * n)
