"""Exercises of 02_removing_a_filter that count: Table 2's multiply-adds, and Table 1's rounding."""

import functools
from typing import Any

import pandas as pd
import torch

from prunelab.exercises.verdict import Wrong, call, exercise, take_number
from prunelab.experiments import load_recipe, read_paper
from prunelab.findings import join
from prunelab.graph import ChannelGraph, trace
from prunelab.models import load_model
from prunelab.pruning import make_plan, measure_cost, resolve_ratios
from prunelab.utils.paths import find_shipped

ROWS = [  # of Table 1, those with ratios
    "vgg16-pruned-a",
    "resnet56-pruned-a",
    "resnet56-pruned-b",
    "resnet110-pruned-a",
    "resnet110-pruned-b",
    "resnet34-pruned-a",
    "resnet34-pruned-b",
    "resnet34-pruned-c",
]
NEAR = 0.1  # points; what is printed has one digit behind the point


@exercise
def check_multiply_adds(answer: Any) -> str:
    """A function (n_in, n_out, k, h, w) that returns the multiply-adds of a convolution.

    k is the side of a kernel, h and w are the height and the width of the maps that it makes. A
    linear layer is a convolution with k = h = w = 1.

    Args:
        answer: the function.

    Returns:
        The verdict: every line of Table 2 of Li et al. 2017.

    Example:
        >>> exercises.check_multiply_adds(lambda n_in, n_out, k, h, w: n_in * n_out)
    """
    shape = (3, 64, 5, 6, 7)  # five different numbers, so that each slip shows
    given = take_number(call(answer, *shape))
    n_in, n_out, k, h, w = shape
    right, weights = n_in * n_out * k**2 * h * w, n_in * n_out * k**2
    slips: dict[float, str] = {
        2 * right: "counts two for a multiplication and its addition; the paper counts them once",
        2 * right - n_out * h * w: "counts multiplications and additions apart; the paper does not",
        right + n_out * h * w: "adds the biases; the paper counts multiply-adds alone",
        right + n_out: "adds the biases; the paper counts multiply-adds alone",
        weights: "counts weights: each is used at every pixel of the maps",
        right // k**2: "leaves out k²: a kernel has k·k weights",
        right // k: "has k once: a kernel has k·k weights",
        right // h: "leaves out the height of the maps",
        right // w: "leaves out the width of the maps",
        right // w * h: "takes h twice: maps need not be square",
        right // h * w: "takes w twice: maps need not be square",
        right // n_in: "leaves out the input channels: each filter has a kernel for each of them",
        right // n_out: "counts one filter: there are n_out of them",
        weights
        * (2 * h)
        * (2 * w): "takes pixels twice as large a side: h and w are of the output",
        weights
        * (h + k - 1)
        * (w + k - 1): "takes the size of the input: h and w are of the output",
        n_out * k**2 * n_out * h * w: "takes n_out twice",
        n_in * k**2 * n_in * h * w: "takes n_in twice",
    }
    lines = _lines_of_table_2()
    counted = [take_number(call(answer, *of_line)) for of_line, _ in lines]
    hit = sum(f"{n:.1e}" == printed for n, (_, printed) in zip(counted, lines, strict=True))
    beside = f"{hit} of {len(lines)} lines of Table 2 are right"
    if slip := slips.get(given):
        raise Wrong(f"Your function {slip}. {beside}.")
    if given != right or hit < len(lines):
        raise Wrong(
            f"{beside}; for a convolution of {n_in} inputs, {n_out} filters of {k}×{k} and maps of "
            f"{h}×{w} it should return {right:,}, and returns {given:,.0f}."
        )
    return (
        f"All {len(lines)} lines of Table 2, and its total: {sum(counted):,.0f}. A layer and its "
        "reader share a factor, n_out here and n_in there: one filter less saves in both."
    )


@functools.cache
def _lines_of_table_2() -> list[tuple[tuple[int, ...], str]]:
    """Of each line, (n_in, n_out, k, h, w) and the multiply-adds as printed."""
    table = pd.read_csv(find_shipped("data/paper/table2.csv")).set_index("layer")
    printed = table["flops"].astype(float).to_dict()
    graph = trace(load_model("vgg16").to("meta"), torch.zeros(1, 3, 32, 32, device="meta"))
    lines = []
    for layer in graph.shapes.values():
        sizes = layer.size or (1, 1)
        shape = (layer.n_in, layer.n_out, *(layer.kernel[:1] or (1,)), *sizes)
        lines.append((shape, f"{printed[layer.paper_name]:.1e}"))
    return lines


@exercise
def check_rounding(answer: Any) -> str:
    """A function (ratio, filters) that returns how many filters go, as in Table 1 of the paper.

    Args:
        answer: the function.

    Returns:
        The verdict: every row of Table 1 of Li et al. 2017 that has ratios.

    Example:
        >>> exercises.check_rounding(lambda ratio, filters: int(ratio * filters))
    """
    _take_count(answer, 0.5, 64)
    printed, missed, few = read_paper(), [], []
    for row in ROWS:
        counted = _count_row(answer, row)
        beside = zip(counted.values(), printed.loc[row, list(counted)], strict=True)
        far = [ours - theirs for ours, theirs in beside if abs(ours - theirs) > NEAR]
        if far:
            shares = [f"{counted[name]:.1f} and {printed.loc[row, name]!s} %" for name in counted]
            missed.append(f"{row} ({shares[0]} of the multiply-adds)")
            few.append(far[0] < 0)
    if missed:
        hint = "fewer" if all(few) else "more" if not any(few) else "fewer or more"
        raise Wrong(
            f"{len(ROWS) - len(missed)} of {len(ROWS)} rows of Table 1 are right. Your function "
            f"removes {hint} filters than the paper did (counted and printed): {join(missed)}."
        )
    right = "Every row of Table 1 is right, but your function removes"
    for filters in range(10, 101):
        for hundredths in range(5, 100, 5):
            exact = -(-hundredths * filters // 100)  # ceil, of whole numbers
            given = _take_count(answer, hundredths / 100, filters)
            if given == exact + 1:
                raise Wrong(
                    f"{right} {given} of {filters} at {hundredths / 100}, where {exact} is asked "
                    f"for: in floats, the product is {hundredths / 100 * filters!r}."
                )
            if given not in ({exact, filters - 1} if exact == filters else {exact}):
                raise Wrong(f"{right} {given} of {filters} at {hundredths / 100}.")
    if _take_count(answer, 0.99, 10) >= 10:
        raise Wrong(
            f"{right} 10 of 10 at 0.99: a layer without filters computes nothing, so one stays."
        )
    return (
        f"All {len(ROWS)} rows of Table 1, multiply-adds and parameters, within {NEAR} points. "
        "The paper does not say how it rounded; its counts do."
    )


def _take_count(answer: Any, ratio: float, filters: int) -> int:
    given = take_number(call(answer, ratio, filters))
    if not given.is_integer():
        raise Wrong(
            f"Of {filters} filters at {ratio}, your function removes {given:g}: filters are whole."
        )
    if not 0 <= given <= filters:
        raise Wrong(f"Of {filters} filters at {ratio}, your function removes {given:.0f}.")
    return int(given)


def _count_row(answer: Any, row: str) -> dict[str, float]:
    """{column of Table 1: per cent that goes} of a recipe, by the student's rounding."""
    recipe = load_recipe(row)
    graph, ratios = _trace_row(recipe.model.name, recipe.data.image_size or 32), {}
    for leader, ratio in resolve_ratios(
        graph, recipe.prune.all_ratios if recipe.prune else {}
    ).items():
        units = len(graph.group_of(leader).units)
        count = _take_count(answer, ratio, units)
        if count == units:
            raise Wrong(
                f"Your function removes all {units} filters at {ratio}: the last one stays."
            )
        ratios[leader] = count / units
    plan = make_plan(graph, ratios, order="random")  # which ones costs the same
    cost = measure_cost(graph, plan, shortcuts=recipe.shortcuts)
    return {
        f"{name}_pruned_percent": 100 * (1 - cost[f"{name}_after"].sum() / cost[name].sum())
        for name in ("flops", "params")
    }


@functools.cache
def _trace_row(model: str, side: int) -> ChannelGraph:
    """Without numbers: only shapes are counted."""
    classes = 10 if side == 32 else 1000
    network = load_model(model, num_classes=classes).to("meta")
    return trace(network, torch.zeros(1, 3, side, side, device="meta"))
