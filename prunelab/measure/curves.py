"""What is measured of a layer or stage: plans for its ratios, and the table of what was counted."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from prunelab.graph import ChannelGraph, Group
from prunelab.measure.store import Store
from prunelab.pruning import PruningPlan, check_ratio, make_plan, score_filters
from prunelab.utils.intervals import wilson

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # Li et al. 2017, Fig. 2(b)
UNPRUNED = ""  # what a store calls the network that loses nothing


class Curve(NamedTuple):
    """What is measured of one layer or stage."""

    layer: str  # as asked for
    key: str  # what the store calls it
    groups: list[Group]
    removed: dict[float, int]  # ratio -> filters that go
    plans: dict[int, PruningPlan]  # filters that go -> which


def make_curves(
    graph: ChannelGraph,
    layers: Sequence[str] | None,
    ratios: Sequence[float],
    criterion: str,
    order: str,
    data: Any,
    seed: int,
) -> list[Curve]:
    """A curve for each layer or stage asked for; None: for each group that can be pruned."""
    if layers is None:
        layers = [group.leader for group in graph.groups if group.prunable]
    elif not layers:
        raise ValueError("layers is empty: name some, or leave it out for all")
    names = [layers] if isinstance(layers, str) else layers
    levels = list(ratios) if isinstance(ratios, Iterable) else [ratios]
    for ratio in levels:
        check_ratio("ratios", ratio)
    members = {name: graph.select(name) for name in names}  # before anything is measured
    if not any(members.values()):
        network = type(graph.model).__name__
        raise ValueError(f"nothing of {network} can be pruned; print(trace(model, x)) says why")
    leaders = [group.leader for groups in members.values() for group in groups]
    scores = score_filters(graph, criterion, data=data, layers=leaders, seed=seed)
    curves = []
    for name, groups in members.items():
        joint = name in graph.stages or name == "*"
        curve = Curve(name, name if joint else groups[0].leader, groups, {}, {})
        for ratio in sorted({0.0, *levels}):
            plan = make_plan(
                graph, {name: ratio}, criterion=criterion, order=order, scores=scores, seed=seed
            )
            own = [group.leader for group in groups]
            removed = sum(len(graph.numbers[leader]) - len(plan.keep[leader]) for leader in own)
            curve.removed[ratio] = removed
            if removed:
                curve.plans.setdefault(removed, plan)
        curves.append(curve)
    return curves


def tabulate(
    graph: ChannelGraph, curves: Sequence[Curve], known: Store, blocks: Sequence[tuple[int, int]]
) -> pd.DataFrame:
    """A row for each layer and ratio: what was counted over all blocks of images."""
    rows = []
    total = blocks[-1][1]
    for curve in curves:
        layer = graph.shapes.get(curve.key)  # None for a stage
        for ratio, removed in curve.removed.items():
            key = curve.key if removed else UNPRUNED
            counts = [known.found[key, removed, *block] for block in blocks]
            correct = sum(own for own, _ in counts)
            loss = math.fsum(own for _, own in counts)
            low, high = wilson(correct, total)
            row = {
                "layer": curve.layer,
                "ratio": ratio,
                "removed": removed,
                "filters": sum(group.size for group in curve.groups),
                "correct": correct,
                "total": total,
                "accuracy": correct / total,
                "loss": loss / total,
                "accuracy_low": low,
                "accuracy_high": high,
                "paper_name": layer.paper_name if layer else curve.layer,
                "stage": curve.groups[0].stage if layer else curve.layer,
            }
            rows.append(row)
    return pd.DataFrame(rows)


def level_ratios(sensitivity: pd.DataFrame, accuracy: float) -> dict[str, float]:
    """How far each layer can go alone while the accuracy stays above a level.

    Args:
        sensitivity: of `measure_sensitivity`.
        accuracy: the level, in [0, 1].

    Returns:
        {layer or stage: ratio}, for `make_plan`, of those that can lose any, in whole filters.
        Between two measured ratios the curve is taken to be a line, and a curve that rises again
        does not count.

    Example:
        >>> level_ratios(measure_sensitivity(model, data), 0.9)
    """
    ratios = {}
    for name, measured in sensitivity.groupby("layer", sort=False):
        curve = measured.sort_values("removed")
        gone, filters = curve["removed"].to_numpy(), int(curve["filters"].iloc[0])
        falling = curve["accuracy"].cummin().to_numpy()
        below = int((falling >= accuracy).sum())  # the first ratio that goes too far
        if below == len(gone):
            ratios[str(name)] = float(curve["ratio"].iloc[-1])
        elif below:
            fall = falling[below - 1] - falling[below]
            part = (falling[below - 1] - accuracy) / fall
            number = gone[below - 1] + part * (gone[below] - gone[below - 1])
            step = math.gcd(filters, *map(int, gone))  # layers of a stage lose equally many
            if whole := math.floor(number / step + 1e-9) * step:  # one more would be below
                ratios[str(name)] = whole / filters
    return ratios
