"""Exercises of notebook 03: ratios for a budget."""

import warnings
from collections.abc import Mapping
from typing import Any

import pandas as pd
from torch import nn

from prunelab.data import DataSplits, FileSplit, Split
from prunelab.exercises.verdict import Wrong, exercise, take_ratios
from prunelab.findings import count, differ, join, percent
from prunelab.graph import ChannelGraph
from prunelab.measure import choose_ratios, uniform_ratios
from prunelab.pruning import make_plan, prune, resolve_ratios, total_cost
from prunelab.training import evaluate


@exercise
def check_ratios(
    answer: Any, network: nn.Module, graph: ChannelGraph, data: DataSplits, *, max_flops: float
) -> str:
    """A dict of ratios is asked for that keeps more right than equal ones within the budget.

    Both are measured on validation images, without retraining; test images are told of, and decide
    nothing.

    Args:
        answer: {layer or stage: ratio}.
        network: the one that is pruned.
        graph: its trace.
        data: its images.
        max_flops: the fraction of multiply-adds that may be left.

    Returns:
        A verdict.

    Example:
        >>> exercises.check_ratios({"conv_2": 0.3}, network, graph, splits, max_flops=0.9)
    """
    ratios = take_ratios(answer)
    left = _resolve(graph, ratios)
    if not left:
        raise Wrong("Nothing is removed: all your ratios are 0.")
    share = _share_left(graph, ratios)
    if share > max_flops:
        raise Wrong(
            f"These ratios leave {percent(share)} of the multiply-adds, and the budget is "
            f"{percent(max_flops)}: {percent(share - max_flops)} more must go. Which layers hold "
            "the most of them? `measure_cost(graph)` lists them."
        )
    equal = uniform_ratios(graph, max_flops=max_flops)
    free = [group.leader for group in graph.groups if group.prunable]
    if set(left) == set(free) and len(set(left.values())) == 1:
        raise Wrong(
            "These are equal ratios, which are what yours should beat. Whose curve falls late? "
            "Take more there, and less where it falls at once."
        )
    mine, theirs = (_count(network, graph, own, data.val) for own in (ratios, equal))
    both = f"yours {count(*mine)}, equal ones {count(*theirs)} of the validation images"
    if mine[0] <= theirs[0]:
        raise Wrong(f"Within the budget, but not better: {both} are right.")
    known = "" if differ(mine, theirs) else " (a difference that chance alone may make)"
    mine, theirs = (_count(network, graph, own, data.test) for own in (ratios, equal))
    held = "confirm" if differ(mine, theirs) and mine[0] > theirs[0] else "do not show"
    return (
        f"{both[0].upper()}{both[1:]} are right{known}. Test images, which took no part in the "
        f"choice, {held} it: yours {count(*mine)}, equal ones {count(*theirs)}. With the same "
        "multiply-adds left, where they go from is what matters."
    )


@exercise
def check_stages(
    answer: Any, measured: pd.DataFrame, graph: ChannelGraph, *, max_flops: float
) -> str:
    """A dict {stage: ratio} is asked for: what `choose_ratios` gives with one ratio for each stage.

    Args:
        answer: {stage: ratio}.
        measured: of `measure_sensitivity`.
        graph: the trace of the network.
        max_flops: the fraction of multiply-adds that may be left.

    Returns:
        A verdict.

    Example:
        >>> exercises.check_stages({"stage1": 0.3}, measured, graph, max_flops=0.7)
    """
    ratios = take_ratios(answer)
    odd = [name for name in ratios if name not in graph.stages]
    if odd:
        raise Wrong(
            f"{join(odd)}: no stage of this network. One ratio for each of {join(graph.stages)} is "
            "asked for; `choose_ratios` has an argument for that."
        )
    staged = choose_ratios(measured, graph, max_flops=max_flops, per="stage")
    layered = choose_ratios(measured, graph, max_flops=max_flops)
    if _positive(ratios) != _positive(staged):
        share = _share_left(graph, ratios) if _resolve(graph, ratios) else 1.0
        if share > max_flops:
            raise Wrong(
                f"These ratios leave {percent(share)} of the multiply-adds; the budget is "
                f"{percent(max_flops)}. Did you give the same max_flops?"
            )
        raise Wrong(
            "Within the budget, but not what choose_ratios finds: it takes the ratios that were "
            "measured, and of those within the budget the ones whose cross-entropy rises least."
        )
    per_stage, per_layer = (own.predicted["accuracy"] for own in (staged, layered))
    return (
        f"One ratio for each stage promises {percent(per_stage)}, one for each layer "
        f"{percent(per_layer)}. The paper takes one for each stage (§3.2): fewer numbers to choose "
        "and fewer that fit the validation images by chance."
    )


def _resolve(graph: ChannelGraph, ratios: Mapping[str, float]) -> dict[str, float]:
    """{leader: ratio}; Wrong with the reason for what cannot be done."""
    try:
        return resolve_ratios(graph, ratios)
    except ValueError as error:
        raise Wrong(str(error)) from None


def _share_left(graph: ChannelGraph, ratios: Mapping[str, float]) -> float:
    flops = total_cost(graph, _plan(graph, ratios))["flops"]
    return float(flops["after"] / flops["before"])


def _plan(graph: ChannelGraph, ratios: Mapping[str, float]) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "ratio .* would remove all")
        return make_plan(graph, ratios)


def _count(
    network: nn.Module, graph: ChannelGraph, ratios: Mapping[str, float], split: Split | FileSplit
) -> tuple[int, int]:
    found = evaluate(prune(network, _plan(graph, ratios), graph=graph), split)
    return found.correct, found.total


def _positive(ratios: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(ratio), 6) for name, ratio in ratios.items() if ratio > 0}
