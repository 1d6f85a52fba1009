"""How filters are scored: a small score says that the filter matters little."""

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from prunelab.graph import ChannelGraph

if TYPE_CHECKING:
    from prunelab.data import DataSplits


def l1(weight: Tensor) -> Tensor:
    """s_j = Σ|F_j|, the criterion of Li et al. 2017, §3.1. (out, in, kh, kw) -> (out,)"""
    return weight.abs().flatten(1).sum(1)


def l2(weight: Tensor) -> Tensor:
    """s_j = √Σ F_j², which behaves much the same (Li et al. 2017, appendix). (out, in, kh, kw) -> (out,)"""
    return weight.square().flatten(1).sum(1).sqrt()


WEIGHT_CRITERIA: dict[str, Callable[[Tensor], Tensor]] = {"l1": l1, "l2": l2}


def find_criterion(name: str) -> Callable[[Tensor], Tensor]:
    """The function of a criterion's name; ValueError names the nearest one."""
    return WEIGHT_CRITERIA[check_choice("criterion", name, WEIGHT_CRITERIA)]


def check_choice(what: str, given: str, choices: object) -> str:
    """`given` if it is one of the choices; otherwise ValueError names the nearest and lists them."""
    known = list(choices)  # type: ignore[call-overload]
    if given in known:
        return given
    near = difflib.get_close_matches(str(given).lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown {what} {given!r}; {hint}Known: {', '.join(known)}")


def score_filters(
    graph: ChannelGraph, criterion: str = "l1", *, data: "DataSplits | None" = None, seed: int = 0
) -> dict[str, Tensor]:
    """{layer: scores} for every conv (and what else leads a group), each (filters,) on the layer's device.

    criterion: `l1` or `l2`, over all of a filter's kernels (independent scoring, Li et al. 2017, §3.3).
    data, seed: for criteria that look at images; `l1` and `l2` need neither.
    Raises ValueError for an unknown criterion.
    """
    score = find_criterion(criterion)
    return {name: score(graph.filters(name)) for name in graph.scored}
