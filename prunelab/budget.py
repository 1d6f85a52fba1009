"""Ratios for a budget: which layers lose how much, so that the network costs at most so much."""

import math
import warnings
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from prunelab.batches import FileSplit, Split
from prunelab.cost import measure_cost, total_cost, widths_after
from prunelab.data import DataSplits
from prunelab.graph import ChannelGraph, trace
from prunelab.latency import measure_latency
from prunelab.plan import make_plan
from prunelab.sensitivity import wilson
from prunelab.surgery import prune
from prunelab.training import evaluate

BUDGETS = {"flops": "multiply-adds", "params": "parameters of conv and linear layers", "latency": "measured time"}


class ChosenRatios(dict[str, float]):
    """{layer or stage: ratio}, for `make_plan`, and what they promise.

    predicted: `accuracy` (if none made another's loss worse, not retrained), and the fractions of
        `flops`, `params` and, where it was the budget, `latency` that are left.
    """

    def __init__(self, ratios: Mapping[str, float], predicted: Mapping[str, float]) -> None:
        super().__init__(ratios)
        self.predicted = dict(predicted)


class _Choice(NamedTuple):
    """What one layer or stage may lose: a level for each measured ratio, the first of which is none."""

    key: str
    ratios: list[float]
    losses: np.ndarray  # (levels,) by how much the cross-entropy rises
    shares: np.ndarray  # (levels,) of the right answers, how many are left
    widths: np.ndarray  # (levels, 3, layers) how many outputs, inputs and groups fewer


def choose_ratios(
    sensitivity: pd.DataFrame,
    graph: ChannelGraph,
    *,
    max_flops: float | None = None,
    max_params: float | None = None,
    max_latency: float | None = None,
    per: str = "layer",
    align: int = 1,
    batch: int = 1,
) -> ChosenRatios:
    """The ratios that meet a budget, and by what was measured of each layer harm the network least.

    sensitivity: of `measure_sensitivity`. Only the layers and ratios that were measured are chosen among.
    max_flops, max_params, max_latency: the fraction of multiply-adds, of parameters (both of conv and linear
        layers) or of the measured time of a forward pass that may be left, in (0, 1]; flops and params may also
        be numbers above 1. At least one; with several, all hold. The result is never over them.
    per: `layer`, or `stage` for one ratio for all layers of a stage (Li et al. 2017, §3.2), which then must all
        have been measured.
    align: as in `make_plan`. batch: images at once, for max_latency.

    The sum of what each layer alone adds to the cross-entropy is made small: it rises before the first answer is
    wrong, so it tells layers apart that accuracy does not. A layer never gains from losing more: where its curve
    falls again, the highest value so far counts. The cost is exact, with what neighbouring layers save together.
    Found by Lagrange's multiplier, then by swaps. `.predicted["accuracy"]` is the product of what each layer alone
    leaves; together they lose more, so look at `compare_ratios`.
    Raises ValueError for a budget that the measured ratios cannot meet, or layers measured twice.

    >>> ratios = choose_ratios(measure_sensitivity(model, data), graph, max_flops=0.7)
    >>> plan = make_plan(graph, ratios)
    """
    limits = {"flops": max_flops, "params": max_params, "latency": max_latency}
    given = {name: _check_budget(f"max_{name}", limit) for name, limit in limits.items() if limit is not None}
    if not given:
        raise ValueError("a budget is missing, such as max_flops=0.7: at most 70 % of the multiply-adds are left")
    if per not in ("layer", "stage"):
        raise ValueError(f"per must be 'layer' or 'stage', not {per!r}")
    accuracy = _whole_accuracy(sensitivity)
    search = _Search(graph, _list_choices(sensitivity, graph, per, align), accuracy, align)
    latency = given.pop("latency", None)
    if latency is None:
        return search.solve(given)
    return _meet_latency(search, given, latency, batch)


def _check_budget(name: str, limit: object) -> float:
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0 or not math.isfinite(limit):
        raise ValueError(f"{name} must be a number above 0 (0.7 means that 70 % may be left), not {limit!r}")
    if name != "max_latency" and 1 < limit < 1000:
        raise ValueError(f"{name}={limit!r}: a fraction that may be left is at most 1, and a number is far above it")
    if name == "max_latency" and limit > 1:
        raise ValueError(f"max_latency is a fraction of the whole network's measured time, at most 1, not {limit!r}")
    return float(limit)


def _as_number(limit: float, whole: float) -> float:
    """A budget in multiply-adds or parameters: a limit of up to 1 is a fraction of the whole."""
    return limit if limit > 1 else limit * whole


def _whole_accuracy(sensitivity: pd.DataFrame) -> float:
    missing = {"layer", "ratio", "removed", "correct", "total", "loss"} - set(sensitivity.columns)
    if missing or sensitivity.empty:
        raise ValueError(
            f"choose_ratios takes a frame of measure_sensitivity; this one has no {sorted(missing) or 'rows'}"
        )
    whole = sensitivity[sensitivity["removed"] == 0]
    if whole.empty:
        raise ValueError(
            "the whole network's accuracy is missing: keep the rows of ratio 0 that measure_sensitivity gives"
        )
    return float(whole["correct"].iloc[0] / whole["total"].iloc[0])


def _list_choices(sensitivity: pd.DataFrame, graph: ChannelGraph, per: str, align: int) -> list[_Choice]:
    """For each layer or stage: its ratios, what they lose, and by how much they narrow each layer."""
    owner: dict[str, str] = {}
    curves: dict[str, pd.DataFrame] = {}
    for name, curve in sensitivity.groupby("layer", sort=False):
        for group in graph.select(str(name)):
            if group.leader in owner:
                raise ValueError(f"{owner[group.leader]!r} and {name!r} both prune {group.leader}; measure one of them")
            owner[group.leader] = str(name)
        curve = curve.sort_values("ratio").set_index("ratio")
        rises = np.maximum.accumulate(np.nan_to_num(curve["loss"] - curve["loss"].iloc[0], nan=1e9).clip(0, 1e9))
        shares = np.minimum.accumulate((curve["correct"] + 0.5) / (curve["correct"].iloc[0] + 0.5))  # never 0
        curves[str(name)] = pd.DataFrame({"rise": rises, "share": shares}, curve.index)
    if per == "stage":
        curves = _join_stages(curves, owner, graph)
    return [_make_choice(graph, key, curve, align) for key, curve in curves.items()]


def _join_stages(
    curves: Mapping[str, pd.DataFrame], owner: Mapping[str, str], graph: ChannelGraph
) -> dict[str, pd.DataFrame]:
    """The curves of stages, at the ratios that all their layers have."""
    stages: dict[str, pd.DataFrame] = {}
    for stage in graph.stages:
        leaders = [group.leader for group in graph.select(stage)]
        unknown = [leader for leader in leaders if leader not in owner]
        if unknown:
            raise ValueError(f"per='stage' needs every layer of {stage}; not measured: {', '.join(unknown[:5])}")
        own = [curves[name] for name in dict.fromkeys(owner[leader] for leader in leaders)]
        if own:
            all_of_them = pd.concat(own, keys=range(len(own))).groupby(level=1)
            joined = all_of_them.agg({"rise": "sum", "share": "prod"})
            stages[stage] = joined[all_of_them.size() == len(own)]
    return stages


def _make_choice(graph: ChannelGraph, key: str, curve: pd.DataFrame, align: int) -> _Choice:
    whole = _widths(graph, key, 0.0, 1)
    widths = np.stack([whole - _widths(graph, key, ratio, align) for ratio in curve.index])
    rises = curve["rise"].to_numpy() + 1e-6 * np.arange(len(curve))  # where it makes no difference, fewer go
    return _Choice(key, list(curve.index), rises, curve["share"].to_numpy(), widths)


def _widths(graph: ChannelGraph, key: str, ratio: float, align: int) -> np.ndarray:
    """(3, layers): outputs, inputs and groups of each layer when one key is pruned."""
    left_out, left_in, groups = widths_after(graph, make_plan(graph, {key: ratio}, align=align))
    layers = graph.shapes.items()
    return np.array(
        [
            [left_out.get(name, layer.n_out) for name, layer in layers],
            [left_in.get(name, layer.n_in) for name, layer in layers],
            [groups.get(name, layer.groups) for name, layer in layers],
        ]
    )


class _Search:
    """Which level of each choice: the exact cost of any of them, and the way to a good one."""

    def __init__(self, graph: ChannelGraph, choices: Sequence[_Choice], accuracy: float, align: int) -> None:
        self.graph, self.choices, self.accuracy, self.align = graph, choices, accuracy, align
        shapes = list(graph.shapes.values())
        self.whole = np.array([[s.n_out for s in shapes], [s.n_in for s in shapes], [s.groups for s in shapes]])
        kernels = np.array([math.prod(s.kernel) for s in shapes], dtype=float)
        self.positions = kernels * [s.positions for s in shapes]
        self.kernels, self.bias = kernels, np.array([s.bias for s in shapes], dtype=float)
        self.start = self._costs(self.whole[None])

    def _costs(self, widths: np.ndarray) -> dict[str, np.ndarray]:
        """(n, 3, layers) -> multiply-adds and parameters, each (n,)."""
        out, into, groups = widths[:, 0], widths[:, 1], widths[:, 2]
        pairs = (out * (into // groups)).astype(float)
        return {"flops": pairs @ self.positions, "params": pairs @ self.kernels + out @ self.bias}

    def solve(self, limits: Mapping[str, float]) -> ChosenRatios:
        budgets = {name: _as_number(limit, self.start[name][0]) for name, limit in limits.items()}
        most = [len(choice.ratios) - 1 for choice in self.choices]
        least = self._costs(self._narrow(most)[None])
        for name, budget in budgets.items():
            if least[name][0] > budget:
                raise ValueError(
                    f"the measured ratios cannot meet max_{name}={limits[name]}: at the largest of each, "
                    f"{least[name][0] / self.start[name][0]:.1%} of the {BUDGETS[name]} are left. Measure larger "
                    "ratios, or more layers"
                )

        def over(widths: np.ndarray) -> np.ndarray:  # (n, 3, layers) -> (n,) the largest cost over its budget
            costs = self._costs(widths)
            return np.max([costs[name] / budget for name, budget in budgets.items()], axis=0)

        best = most
        low, high = 1e-6, 1e6  # Lagrange's multiplier: what a budget's worth of cost weighs against accuracy
        for _ in range(40):
            weight = math.sqrt(low * high)
            levels = self._descend([0] * len(most), over, weight)
            if over(self._narrow(levels)[None])[0] <= 1:
                best, high = min(best, levels, key=self._loss), weight
            else:
                low = weight
        return self._name(self._swap(best, over))

    def _narrow(self, levels: Sequence[int]) -> np.ndarray:
        return self.whole - sum(c.widths[level] for c, level in zip(self.choices, levels, strict=True))

    def _loss(self, levels: Sequence[int]) -> float:
        return sum(c.losses[level] for c, level in zip(self.choices, levels, strict=True))

    def _descend(self, levels: list[int], over: Callable[[np.ndarray], np.ndarray], weight: float) -> list[int]:
        """One choice after the other at its best, the others as they are, until none changes."""
        levels, widths = list(levels), self._narrow(levels)
        for _ in range(20):
            before = list(levels)
            for i, choice in enumerate(self.choices):
                others = widths + choice.widths[levels[i]]
                levels[i] = int(np.argmin(choice.losses + weight * over(others - choice.widths)))
                widths = others - choice.widths[levels[i]]
            if levels == before:
                break
        return levels

    def _swap(self, levels: list[int], over: Callable[[np.ndarray], np.ndarray]) -> list[int]:
        """Within the budget: spare a layer what is not needed, or let another lose more for it, while that helps."""
        levels = list(levels)
        while True:
            widths, best, move = self._narrow(levels), self._loss(levels) - 1e-12, None
            for i, a in enumerate(self.choices):
                freed = widths + a.widths[levels[i]]
                for level in range(levels[i]):
                    spared = freed - a.widths[level]
                    loss = self._loss(levels) - a.losses[levels[i]] + a.losses[level]
                    if loss < best and over(spared[None])[0] <= 1:
                        best, move = loss, {i: level}
                    for j, b in enumerate(self.choices):
                        if j == i:
                            continue
                        losses = loss - b.losses[levels[j]] + b.losses
                        fits = (losses < best) & (over(spared + b.widths[levels[j]] - b.widths) <= 1)
                        if fits.any():
                            other = int(np.argmin(np.where(fits, losses, np.inf)))
                            best, move = float(losses[other]), {i: level, j: other}
            if move is None:
                return levels
            for i, level in move.items():
                levels[i] = level

    def _name(self, levels: Sequence[int]) -> ChosenRatios:
        ratios = {c.key: float(c.ratios[level]) for c, level in zip(self.choices, levels, strict=True) if level}
        total = total_cost(self.graph, make_plan(self.graph, ratios, align=self.align))
        left = {name: int(total[name]["after"]) / int(total[name]["before"]) for name in ("flops", "params")}
        shares = [c.shares[level] for c, level in zip(self.choices, levels, strict=True)]
        return ChosenRatios(ratios, {"accuracy": float(self.accuracy * math.prod(shares)), **left})


def _meet_latency(search: _Search, limits: dict[str, float], latency: float, batch: int) -> ChosenRatios:
    """The most multiply-adds with which the network was measured to be fast enough, by halving."""
    model, graph = search.graph.model, search.graph
    whole = search.start["flops"][0]
    most = _as_number(limits.get("flops", 1.0), whole)
    low, high, best, fastest = 0.0, 1.0, None, 1.0
    for _ in range(7):
        share = (low + high) / 2
        try:
            ratios = search.solve({**limits, "flops": min(share * whole, most)})
        except ValueError:  # beyond what was measured
            low = share
            continue
        small = prune(model, make_plan(graph, ratios, align=search.align), graph=graph)
        times = measure_latency(
            {"whole": model, "pruned": small},
            graph.input_shapes[0][1:],
            device=next(model.parameters()).device,
            batch=batch,
        ).set_index("model")["time_left"]
        measured = float(times["pruned"])
        fastest = min(fastest, measured)
        if measured <= latency:
            ratios.predicted["latency"] = measured
            best, low = ratios, share
        else:
            high = share
    if best is None:
        raise ValueError(
            f"max_latency={latency} was not met: the fastest network measured took {fastest:.1%} of the whole one's "
            "time. Measure larger ratios, or allow more; small networks may not get faster (see measure_latency)"
        )
    return best


def uniform_ratios(graph: ChannelGraph, *, max_flops: float, align: int = 1) -> dict[str, float]:
    """`{"*": ratio}` with the smallest ratio, in steps of a thousandth, that meets a budget of multiply-adds.

    max_flops: as in `choose_ratios`. Raises ValueError where 99.9 % of the filters are not enough.
    """
    limit = _check_budget("max_flops", max_flops)
    budget = _as_number(limit, int(measure_cost(graph)["flops"].sum()))

    def fits(step: int) -> bool:
        return (
            int(measure_cost(graph, make_plan(graph, {"*": step / 1000}, align=align))["flops_after"].sum()) <= budget
        )

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "ratio .* would remove all")
        step = bisect_left(range(1000), True, key=fits)
    if step == 1000:
        raise ValueError(f"no ratio for all layers meets max_flops={max_flops}")
    return {"*": step / 1000}


def compare_ratios(
    model: nn.Module,
    data: DataSplits | Split | FileSplit,
    choices: Mapping[str, Mapping[str, float]],
    *,
    graph: ChannelGraph | None = None,
    **how: Any,
) -> pd.DataFrame:
    """What came of several choices of ratios, none retrained: a row for each, with what was predicted beside it.

    data: a data set, of which the validation split is looked at, or a split. choices: {name: ratios}.
    how: further arguments of `make_plan` (criterion, strategy, align, …).
    Columns: choice, flops, flops_left, params, params_left, correct, total, accuracy, accuracy_low, accuracy_high
    (95 %), predicted (of `choose_ratios`; else empty).

    >>> compare_ratios(model, data, {"uniform": {"*": 0.2}, "chosen": choose_ratios(found, graph, max_flops=0.7)})
    """
    if not choices or not all(isinstance(ratios, Mapping) for ratios in choices.values()):
        raise ValueError('choices maps names to ratios, such as {"uniform": {"*": 0.2}, "chosen": ratios}')
    split = data.val if isinstance(data, DataSplits) else data
    graph = graph or trace(model, torch.zeros(1, 3, split.image_size, split.image_size))
    rows = []
    for name, ratios in choices.items():
        plan = make_plan(graph, ratios, data=data, **how)  # type: ignore[arg-type]
        total = total_cost(graph, plan)
        found = evaluate(prune(model, plan, graph=graph), split)
        low, high = wilson(found.correct, found.total)
        cost = {key: total.loc["after", key] for key in ("flops", "params")}
        left = {f"{key}_left": value / total.loc["before", key] for key, value in cost.items()}  # type: ignore[operator]
        rows.append(
            {"choice": name, "flops": cost["flops"], "flops_left": left["flops_left"], "params": cost["params"],
             "params_left": left["params_left"], "correct": found.correct, "total": found.total,
             "accuracy": found.accuracy, "accuracy_low": low, "accuracy_high": high,
             "predicted": getattr(ratios, "predicted", {}).get("accuracy")}
        )  # fmt: skip
    return pd.DataFrame(rows)
