"""Exercises of notebook 07: widths that hardware likes, and what of the time can shrink."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pandas as pd
import torch

from prunelab.exercises.verdict import Wrong, call, exercise, take_number
from prunelab.experiments import load_recipe
from prunelab.findings import join, percent
from prunelab.graph import ChannelGraph, trace
from prunelab.models import load_model
from prunelab.pruning import PruningPlan, make_plan, total_cost

POINTS = [(0.6, 0.7), (1.0, 0.5), (0.0, 0.5), (0.5, 1.0), (0.35, 0.2)]  # share, flops_left


@exercise
def check_aligned_flops(
    answer: Any, recipe: str, aligns: Collection[int] = (8, 16), *, image_size: int = 32
) -> str:
    """{align: multiply-adds} is asked for: of the pruned network, its widths rounded up.

    Args:
        answer: a number of multiply-adds for each alignment.
        recipe: the name of one that prunes.
        aligns: the numbers that widths become multiples of.
        image_size: pixels a side.

    Returns:
        A verdict.

    Example:
        >>> exercises.check_aligned_flops({8: ..., 16: ...}, "resnet56-pruned-b")
    """
    if not isinstance(answer, Mapping) or {*answer} != {*aligns}:
        keys = ", ".join(f"{align}: …" for align in aligns)
        raise Wrong(f"A dict with a number for each alignment is asked for: {{{keys}}}.")
    if all(value is ... or value is None for value in answer.values()):
        raise Wrong("The dict is there; its numbers are not filled in yet.")
    given = {align: take_number(answer[align]) for align in aligns}
    graph, plan = _plan(recipe, image_size)
    whole = _count(graph, plan, lambda kept, width: width)
    right = {align: _count(graph, plan, _up(align)) for align in aligns}
    for align in aligns:
        if given[align] != right[align]:
            raise Wrong(_explain(given[align], graph, plan, align, right[align], whole))
    plain = _count(graph, plan, lambda kept, width: kept)
    told = [f"{align}: {percent(1 - right[align] / whole)}" for align in aligns]
    lost = [str(align) for align in aligns if right[align] == whole and plain < whole]
    text = f"As asked, {percent(1 - plain / whole)} are saved; rounded up, {join(told)}."
    if lost:
        text += (
            f" Rounded up to {join(lost)}, every layer is as wide as before: a step must be small "
            "beside the widths that it rounds."
        )
    return text


def _plan(recipe: str, image_size: int) -> tuple[ChannelGraph, PruningPlan]:
    found = load_recipe(recipe)
    model = load_model(found.model.name, num_classes=found.model.num_classes or 10)
    graph = trace(model, torch.zeros(1, 3, image_size, image_size))
    assert found.prune is not None
    return graph, make_plan(graph, found.prune.all_ratios, rounding=found.prune.rounding)


def _count(graph: ChannelGraph, plan: PruningPlan, change: Callable[[int, int], int]) -> int:
    """Multiply-adds with other widths, by what is kept and the width that a layer had."""
    keep = {
        name: list(range(change(len(kept), plan.widths[name]))) for name, kept in plan.keep.items()
    }
    other = PruningPlan(keep, plan.widths, plan.input_shapes, plan.settings, plan.groups)
    return int(total_cost(graph, other)["flops"]["after"])


def _up(align: int) -> Callable[[int, int], int]:
    return lambda kept, width: min(width, math.ceil(kept / align) * align)


def _down(align: int) -> Callable[[int, int], int]:
    return lambda kept, width: kept if kept == width else max(kept // align * align, 1)


def _down_to_one(align: int) -> Callable[[int, int], int]:
    return lambda kept, width: kept if kept == width else max(kept // align, 1) * align


def _nearest(align: int) -> Callable[[int, int], int]:
    return lambda kept, width: (
        kept if kept == width else min(width, max(round(kept / align), 1) * align)
    )


def _explain(
    given: float, graph: ChannelGraph, plan: PruningPlan, align: int, right: int, whole: int
) -> str:
    start = f"For multiples of {align}: "
    known = {
        "this is the network as the recipe prunes it: nothing is rounded.": (
            lambda kept, width: kept
        ),
        "widths are rounded down here. That takes filters which the recipe keeps; round up.": (
            _down(align)
        ),
        "widths are rounded down here, to one multiple at least. Round up.": _down_to_one(align),
        "widths are rounded to the nearest multiple here. Round up, so that no filter goes which "
        "the recipe keeps.": _nearest(align),
        "this is the whole network. Which multiple is next above the widths that are left?": (
            lambda kept, width: width
        ),
    }
    for text, change in known.items():
        if given == _count(graph, plan, change):
            return start + text
    if given == 2 * right:
        return f"{start}this is twice the number: a multiply-add counts once here, as in the paper."
    if 0 < given < 1e6 <= right:
        return f"{start}{given:g} is no number of multiply-adds: in millions, or a share?"
    if given > whole:
        return f"{start}that is more than the whole network computes ({whole:,})."
    off = "more" if given > right else "fewer"
    return (
        f"{start}that is {off} than it computes. A layer's width counts twice: in its own filters "
        "and in the kernels of the layer that reads it."
    )


@exercise
def check_time_left(answer: Any, measured: pd.DataFrame | None = None) -> str:
    """A function is asked for: (share of the time that shrinks, multiply-adds left) → time left.

    Args:
        answer: the function; all three are fractions.
        measured: of `time_recipes`; what the law says of its first pruned networks is told.

    Returns:
        A verdict.

    Example:
        >>> exercises.check_time_left(lambda share, flops_left: ..., measured)
    """
    pairs = [(_take(answer, *point), point) for point in POINTS]
    known = {
        "That is the part that shrinks; the rest of the time is still there.": lambda f, x: f * x,
        "That is the whole time shrinking as the multiply-adds do. Which part of it does?": (
            lambda f, x: x
        ),
        "The two parts are swapped: share is what shrinks.": lambda f, x: f + (1 - f) * x,
        "The arguments come in the other order: the share that shrinks, then what is left.": (
            lambda f, x: 1 - x + x * f
        ),
        "That is the time saved; what is left is asked for.": lambda f, x: f * (1 - x),
        "That is how many times as fast it gets (Amdahl's speed-up); the time left is asked for.": (
            lambda f, x: 1 / (1 - f + f * x) if 1 - f + f * x else math.inf
        ),
        "You took away what is left of the share; what goes of it is to be taken away.": (
            lambda f, x: 1 - f * x
        ),
    }
    if _fits(pairs, lambda f, x: 1 - f + f * x):
        return _tell_shares(measured)
    for text, law in known.items():
        if _fits(pairs, law):
            raise Wrong(text)
    found, (share, left) = next((v, p) for v, p in pairs if not _near(v, 1 - p[0] + p[0] * p[1]))
    raise Wrong(
        f"At share {share:g} and multiply-adds left {left:g}, your function gives {found:.4g}. "
        f"What is left of the {percent(share, 0)} that shrinks, and what of the other "
        f"{percent(1 - share, 0)}?"
    )


def _take(answer: Any, share: float, left: float) -> float:
    return take_number(call(answer, share, left))


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, abs_tol=1e-6)


def _fits(
    pairs: list[tuple[float, tuple[float, float]]], law: Callable[[float, float], float]
) -> bool:
    return all(_near(value, law(*point)) for value, point in pairs)


def _tell_shares(measured: pd.DataFrame | None) -> str:
    text = "Amdahl's law. Turned round, share = (1 − time left) / (1 − multiply-adds left)"
    if measured is None:
        return f"{text}."
    rows = measured[measured["flops_left"] < 1]
    rows = rows if "recipe" in rows else rows.assign(recipe="the pruned network")
    first = rows.drop_duplicates("recipe")
    shares = (1 - first["time_left"]) / (1 - first["flops_left"])
    told = [
        f"{name} {percent(share, 0)}" for name, share in zip(first["recipe"], shares, strict=True)
    ]
    if not told:
        return f"{text}."
    text += f": {join(told)}, as first measured in the table."
    if shares.max() > 1:
        text += (
            " More than 100 % is more than the law allows: there, thinner layers also run faster "
            "for each multiply-add."
        )
    return text
