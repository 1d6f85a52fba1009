"""A Pareto front of ratios: what accuracy can be had at what cost, each network measured."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from prunelab.data import DataSplits, FileSplit, Split, take
from prunelab.graph import ChannelGraph, trace
from prunelab.measure.budget import check_budget, uniform_ratios, whole_accuracy
from prunelab.measure.latency import measure_latency
from prunelab.measure.predict import predict_accuracy
from prunelab.measure.search import Search, as_number, list_choices
from prunelab.measure.sensitivity import count_images, identify
from prunelab.measure.store import Store
from prunelab.pruning import make_plan, prune, score_filters, total_cost
from prunelab.training import evaluate
from prunelab.utils.checks import check_whole
from prunelab.utils.intervals import wilson
from prunelab.utils.modules import find_place
from prunelab.utils.tensors import hash_text

STEP = 0.05  # of the multiply-adds, from one budget to the next
PATIENCE = 100  # neighbours in a row that were all known: there are hardly any others
REPEATS = 10  # turns in which a time is measured


def find_front(
    model: nn.Module,
    data: DataSplits | Split | FileSplit,
    sensitivity: pd.DataFrame,
    *,
    graph: ChannelGraph | None = None,
    max_flops: float | None = None,
    max_latency_ms: float | None = None,
    max_loss: float | None = None,
    images: int | None = None,
    points: int = 60,
    batch: int = 1,
    align: int = 1,
    seed: int = 0,
    store: str | Path | None = None,
    on_point: Callable[[pd.DataFrame], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **how: Any,
) -> pd.DataFrame:
    """Networks of which none is both cheaper and more accurate than another, found by measuring.

    First come ratios for budget after budget, as `choose_ratios` chooses them, for layers and for
    stages, and as `uniform_ratios` does. Then those on the front are changed: one layer is spared
    and another loses more, at about the same cost, guided by the curves. Each network is pruned and
    run, not retrained. The best of many, looked at on the same images, looks better than it is:
    `evaluate` it on others in the end.

    Args:
        model: the network; it is left untouched.
        data: a data set, of which the validation split is looked at (and the training split, by
            criteria of images); or a split.
        sensitivity: of `measure_sensitivity`, by layers or stages. Only what was measured is
            changed, to ratios that were measured.
        graph: the trace of `model`, when at hand.
        max_flops: a goal near which to look: the multiply-adds that may be left, a fraction or a
            number, as in `choose_ratios`.
        max_latency_ms: likewise, the milliseconds of a forward pass; with it, each network is timed
            in turns with the whole one.
        max_loss: likewise, the accuracy that may be lost: 0.01 is one point.
        images: only so many of the split's images, picked by `seed`.
        points: how many networks to measure.
        batch: images at once, where time is measured.
        align: as in `make_plan`.
        seed: of the search, of that pick, of random orders and of criteria of images; the same seed
            finds the same networks, unless measured times point elsewhere.
        store: a file that takes each count as it comes, of one or many searches. Stopped and called
            again with it, what is known is not run again.
        on_point: called with the frame so far, as below, after each network.
        on_progress: called with (done, total) after each batch of images.
        how: further arguments of `make_plan` (criterion, strategy, order, rounding, scores).

    Returns:
        A row for each network, in the order in which they were found, the whole one first. Columns:
        point (a number), found (whole, layers, stages, uniform or changed), ratios, flops,
        flops_left, params_left, correct, total, accuracy, accuracy_low, accuracy_high (95 %), loss
        (mean cross-entropy), predicted (of `predict_accuracy`), latency_ms (with max_latency_ms),
        on_front: whether no other is at least as accurate with fewer multiply-adds. `best_within`
        picks one.

    Raises:
        ValueError: a goal that is no number, and what `choose_ratios` and `make_plan` raise.
        KeyboardInterrupt: a callback stopped it; `on_point` was given what was found.

    Example:
        >>> front = find_front(model, data, found, max_flops=0.7, images=500)
        >>> ratios = best_within(front, max_flops=0.7)["ratios"]
    """
    goals = _check_goals(max_flops, max_latency_ms, max_loss)
    check_whole("points", points)
    split = data.val if isinstance(data, DataSplits) else data
    total = count_images(images, split)
    graph = graph or trace(model, torch.zeros(1, 3, split.image_size, split.image_size))
    if how.get("scores") is None and how.get("strategy") != "greedy":
        how["scores"] = score_filters(graph, how.get("criterion", "l1"), data=data, seed=seed)
    search = Search(
        graph, list_choices(sensitivity, graph, "layer", align), whole_accuracy(sensitivity), align
    )
    about = identify(model, data, split, how.get("criterion", "l1"), "", seed)
    front = _Front(
        graph=graph,
        split=_pick(split, total, seed),
        sensitivity=sensitivity,
        how={**how, "align": align, "seed": seed, "data": data},
        batch=batch if max_latency_ms else None,
        points=points,
        store=Store(store, about),
        on_point=on_point,
        on_progress=on_progress,
    )
    try:
        front.measure("whole", {})
        _sweep(front, search, sensitivity, goals)
        _change(front, search, goals, np.random.default_rng(seed))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped after {len(front.rows)} of {points} networks, which on_point was given"
            + (f"; the same call goes on from {store}" if store else "")
        ) from None
    return front.frame


class _Front:
    """The networks that were measured, by what is removed from each."""

    def __init__(
        self,
        graph: ChannelGraph,
        split: Split,
        sensitivity: pd.DataFrame,
        how: dict[str, Any],
        batch: int | None,
        points: int,
        store: Store,
        on_point: Callable[[pd.DataFrame], None] | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self.graph, self.split, self.sensitivity, self.how = graph, split, sensitivity, how
        self.batch, self.points, self.store = batch, points, store
        self.on_point, self.on_progress = on_point, on_progress
        self.rows: dict[str, dict[str, Any]] = {}

    @property
    def full(self) -> bool:
        return len(self.rows) >= self.points

    @property
    def frame(self) -> pd.DataFrame:
        frame = pd.DataFrame(self.rows.values())
        ordered = frame.sort_values(["flops", "correct"], ascending=[True, False], kind="stable")
        best = ordered["correct"].cummax().shift(fill_value=-1)
        return frame.assign(on_front=ordered["correct"] > best)

    def measure(self, found: str, ratios: Mapping[str, float]) -> dict[str, Any]:
        """The row of these ratios; measured, unless a network that lost the same was."""
        plan = make_plan(self.graph, ratios, **self.how)
        key = hash_text(json.dumps(plan.removed))
        if key in self.rows:
            return self.rows[key]
        small = prune(self.graph.model, plan, graph=self.graph)
        correct, loss = self._count(small, key)
        total, cost = len(self.split), total_cost(self.graph, plan)
        low, high = wilson(correct, total)
        row = {
            "point": len(self.rows),
            "found": found,
            "ratios": dict(ratios),
            "flops": int(cost["flops"]["after"]),
            "flops_left": cost["flops"]["after"] / cost["flops"]["before"],
            "params_left": cost["params"]["after"] / cost["params"]["before"],
            "correct": correct,
            "total": total,
            "accuracy": correct / total,
            "accuracy_low": low,
            "accuracy_high": high,
            "loss": loss,
            "predicted": predict_accuracy(self.sensitivity, self.graph, plan),
        }
        if self.batch:
            row["latency_ms"] = self._time(small)
        self.rows[key] = row
        if self.on_point:
            self.on_point(self.frame)
        return row

    def _count(self, small: nn.Module, key: str) -> tuple[int, float]:
        """Correct predictions and mean loss, of the store or counted."""
        total, before = len(self.split), len(self.rows) * len(self.split)

        def note(done: int, _: int) -> None:
            if self.on_progress:
                self.on_progress(before + done, self.points * total)

        place = ("front " + key, 0, 0, total)
        if place not in self.store.found:
            counted = evaluate(small, self.split, on_batch=note)
            self.store.add(place, counted.correct, counted.loss)
        note(total, total)
        return self.store.found[place]

    def _time(self, small: nn.Module) -> float:
        """Milliseconds: the share that is left, by turns, of the time the whole took at first."""
        shape, device = self.graph.input_shapes[0][1:], find_place(small)[0]
        models = {"whole": self.graph.model, "pruned": small}
        times = measure_latency(
            models, shape, device=device, batch=self.batch or 1, repeats=REPEATS
        ).set_index("model")
        if not self.rows:
            return float(times["median_ms"]["whole"])
        first = next(iter(self.rows.values()))["latency_ms"]
        return float(first * times["time_left"]["pruned"])


def _sweep(
    front: _Front, search: Search, sensitivity: pd.DataFrame, goals: Mapping[str, float]
) -> None:
    """Budget after budget, in three ways, each until it has lost too much to be of use."""
    graph, whole = front.graph, next(iter(front.rows.values()))
    ways: dict[str, Callable[[float], Mapping[str, float]]] = {
        "layers": lambda left: search.solve({"flops": left}),
        "uniform": lambda left: uniform_ratios(graph, max_flops=left, align=search.align),
    }
    try:
        stages = list_choices(sensitivity, graph, "stage", search.align)
    except ValueError:  # some of their layers were not measured
        stages = []
    if len(stages) < len(search.choices):
        by_stage = Search(graph, stages, search.accuracy, search.align)
        ways["stages"] = lambda left: by_stage.solve({"flops": left})
    most = max(0.1, 3 * goals["loss"]) if "loss" in goals else 0.7 * whole["accuracy"]
    budgets = np.arange(1 - STEP, 0, -STEP).round(9).tolist()
    if "flops" in goals:
        aim = as_number(goals["flops"], whole["flops"]) / whole["flops"]
        budgets = [aim, *(left for left in budgets if left > 0.7 * aim)]
    for left in budgets:
        for way in list(ways):
            if front.full:
                return
            try:
                row = front.measure(way, ways[way](left))
            except ValueError:  # beyond what was measured
                del ways[way]
                continue
            if row["accuracy"] < whole["accuracy"] - most:
                del ways[way]


def _change(
    front: _Front, search: Search, goals: Mapping[str, float], draw: np.random.Generator
) -> None:
    """Neighbours of the best so far: half of them near the goal, half along the front."""
    known = 0
    while not front.full and known < PATIENCE and len(search.choices) > 1:
        frame = front.frame
        parents = frame[frame["on_front"]]
        parent = parents.iloc[draw.integers(len(parents))]
        if goals and draw.random() < 0.5:
            parent = _rank(frame, goals).iloc[0]
        before = len(front.rows)
        front.measure("changed", search.nudge(parent["ratios"], draw))
        known = known + 1 if len(front.rows) == before else 0


def best_within(
    front: pd.DataFrame,
    *,
    max_flops: float | None = None,
    max_latency_ms: float | None = None,
    max_loss: float | None = None,
) -> pd.Series:
    """The network of a front that meets a goal: the most accurate, or the cheapest.

    Args:
        front: of `find_front`.
        max_flops: the multiply-adds that may be left, a fraction or a number above 1.
        max_latency_ms: the milliseconds it may take.
        max_loss: how much less accurate than the whole network it may be: 0.01 is one point. Alone,
            it asks for the cheapest; else the most accurate is given.

    Returns:
        A row of the front.

    Raises:
        ValueError: none meets the goal; it says how near the nearest came.

    Example:
        >>> best_within(front, max_flops=0.7, max_loss=0.01)["ratios"]
    """
    goals = _check_goals(max_flops, max_latency_ms, max_loss)
    if not goals:
        raise ValueError("a goal is missing, such as max_flops=0.7 or max_loss=0.01")
    best = _rank(front, goals).iloc[0]
    if best["over"] <= 0:
        return best.drop("over")
    said = {
        "flops": f"{best['flops_left']:.1%} of the multiply-adds are left",
        "latency": f"it takes {best.get('latency_ms', 0):.3g} ms",
        "loss": f"{100 * (front['accuracy'].iloc[0] - best['accuracy']):.1f} points are lost",
    }
    raise ValueError(
        f"none of {len(front)} networks meets the goal; of the nearest, "
        f"point {int(best['point'])}, "
        f"{' and '.join(said[name] for name in goals)}. Allow more, or measure more points"
    )


def _check_goals(
    max_flops: float | None, max_latency_ms: float | None, max_loss: float | None
) -> dict[str, float]:
    """{flops, latency or loss: the most that may be left, taken or lost}, of the goals given."""
    goals = {}
    if max_flops is not None:
        goals["flops"] = check_budget("max_flops", max_flops)
    limits = {"latency": ("max_latency_ms", max_latency_ms), "loss": ("max_loss", max_loss)}
    for name, (argument, limit) in limits.items():
        if limit is None:
            continue
        most = 1 if name == "loss" else np.inf
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit <= most:
            example = "0.01 is one point" if name == "loss" else "milliseconds"
            raise ValueError(f"{argument} must be a number from 0 ({example}), not {limit!r}")
        goals[name] = float(limit)
    return goals


def _rank(front: pd.DataFrame, goals: Mapping[str, float]) -> pd.DataFrame:
    """The best first, with a column `over`: by how much the goals are missed, 0 where they are met.

    Of those that meet them, the most accurate; the cheapest where accuracy is the goal.
    """
    whole, over = front.iloc[0], pd.Series(0.0, front.index)
    for name, limit in goals.items():
        if name == "flops":
            past = front["flops_left"] - as_number(limit, whole["flops"]) / whole["flops"]
        elif name == "loss":
            past = whole["accuracy"] - front["accuracy"] - limit
        elif "latency_ms" in front:
            past = front["latency_ms"] / limit - 1
        else:
            raise ValueError("no times were measured: find_front(..., max_latency_ms=…) does")
        over = over.combine(past.where(past > 1e-9, 0.0), max)
    by = {"over": True, "correct": False, "flops": True}
    if list(goals) == ["loss"]:
        by = {"over": True, "flops": True, "correct": False}
    return front.assign(over=over).sort_values(list(by), ascending=list(by.values()), kind="stable")


def _pick(split: Split | FileSplit, count: int, seed: int) -> Split:
    """So many images, those that `measure_sensitivity` picks; of files, decoded once."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    picked = take(split, order[:count])
    if isinstance(picked, Split):
        return picked
    mean, std = (torch.tensor(own, device=picked.device) for own in picked.normalization)
    pixels = []
    for images, _ in picked.batches(64):
        colours = images * std[:, None, None] + mean[:, None, None]
        pixels.append((255 * colours).round().byte())
    labels = picked.labels.to(picked.device)
    return Split(torch.cat(pixels), labels, picked.normalization)
