"""How a rule is written and found, and what rules share.

A rule reads the labels of the inputs (see labels.py), ties those that can only stay or go together,
says which tensors of the module they slice, and returns the labels of the output.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from prunelab.graph.calls import Call
from prunelab.graph.labels import Count

Rule = Callable[[Call], Any]  # labels of the tensor that comes out, or a list of labels for several
RULES: dict[type | str, Rule] = {}
KNOWS_COUNTS: set[Rule] = set()  # rules that know what a Count among their arguments means
KNOWS_PARAMETERS: set[Rule] = set()  # and those that know a bare weight of several dimensions


def rule(
    *targets: type | str, counts: bool = False, parameters: bool = False
) -> Callable[[Rule], Rule]:
    """Register a rule: how an operator passes the channels of its inputs on.

    A module class with a rule is taken whole: what its forward does is the rule's to say. A rule
    that cannot tell returns `call.refuse("which …")`: the filters that reach it stay, with that
    reason.

    Args:
        targets: module classes (those of optional packages by their qualified names), and names of
            functions and methods; a string may hold several.
        counts: the rule understands `Count` among the arguments, a number that follows the
            channels.
        parameters: the rule understands a bare weight of several dimensions among its inputs.

    Returns:
        A decorator for a function of a `Call` that returns the labels of the tensor that comes out,
        or a list of labels for several.

    Example:
        >>> @rule(MyScale)  # y = x * self.scale, with scale (channels, 1, 1)
        ... def my_scale(call):
        ...     came = call.maps[0].along(1)  # (channels,) labels
        ...     call.slice("scale", 0, came)  # scale[i] goes with channel i
        ...     return call.maps[0].labels
    """

    def register(function: Rule) -> Rule:
        for target in targets:
            names = target.split() if isinstance(target, str) else [target]
            RULES.update(dict.fromkeys(names, function))
        KNOWS_COUNTS.update([function] if counts else [])
        KNOWS_PARAMETERS.update([function] if parameters else [])
        return function

    return register


def find_rule(call: Call) -> Rule:
    """The rule of a call: that of its module's nearest class, or of its name."""
    if call.module is None:
        return RULES.get(call.operator, no_rule)
    return find_class_rule(type(call.module)) or no_rule


def find_class_rule(kind: type) -> Rule | None:
    """The rule of a module class, or of its nearest ancestor that has one."""
    for own in kind.__mro__:
        for key in (own, f"{own.__module__}.{own.__qualname__}"):
            if key in RULES:
                return RULES[key]
    return None


def no_rule(call: Call) -> Tensor:
    """The rule of what has none."""
    return call.refuse_all("an operator for which prunelab has no rule; prunelab.rule adds one")


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
    """Tie what must go together so that a grid of channels stays one.

    Only whole slices along the dimension `flexible` may go.
    """
    wide = [d for d in range(grid.ndim) if d != flexible and grid.shape[d] > 1]
    return call.channels.tie_along(grid, wide, call.where) if wide else grid


def whole(call: Call, count: Count) -> Tensor | None:
    """A label for each thing counted; where they are a part of others, those get as many parts."""
    parts = count.share.denominator
    if count.share.numerator > 1 and parts > 1:
        return None
    if parts == 1:
        return count.each
    return keep_grid(call, count.labels.reshape(parts, -1), 1)[0]
