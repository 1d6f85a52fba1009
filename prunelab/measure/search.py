"""The search for ratios within a budget: Lagrange's multiplier, then swaps, at exact costs."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from prunelab.graph import ChannelGraph
from prunelab.pruning import make_plan, resolve_ratios, total_cost, widths_after

BUDGETS = {
    "flops": "multiply-adds",
    "params": "parameters of conv and linear layers",
    "latency": "measured time",
}
DRAWN = 32  # neighbours of which one is tried


class ChosenRatios(dict[str, float]):
    """{layer or stage: ratio}, for `make_plan`, and what they promise. `choose_ratios` makes one.

    Attributes:
        predicted: `accuracy` (if none made another's loss worse, not retrained), and the fractions
            of `flops`, `params` and, where it was the budget, `latency` that are left.
    """

    def __init__(self, ratios: Mapping[str, float], predicted: Mapping[str, float]) -> None:
        super().__init__(ratios)
        self.predicted = dict(predicted)


class Choice(NamedTuple):
    """What one layer or stage may lose: a level for each measured ratio, the first being none."""

    key: str
    ratios: list[float]
    losses: np.ndarray  # (levels,) by how much the cross-entropy rises
    shares: np.ndarray  # (levels,) of the correct predictions, how many are left
    widths: np.ndarray  # (levels, 4, layers) outputs, inputs, groups, positions: how many fewer


def as_number(limit: float, whole: float) -> float:
    """A budget in multiply-adds or parameters: a limit of up to 1 is a fraction of the whole."""
    return limit if limit > 1 else limit * whole


def list_choices(
    sensitivity: pd.DataFrame, graph: ChannelGraph, per: str, align: int
) -> list[Choice]:
    """For each layer or stage: its ratios, what they lose, and by how much they narrow layers."""
    by_layer = sensitivity.groupby("layer", sort=False)
    owners = find_owners(by_layer.groups, graph)
    curves = {str(name): _never_falling(measured) for name, measured in by_layer}
    if per == "stage":
        curves = _join_stages(curves, owners, graph)
    return [_make_choice(graph, key, curve, align) for key, curve in curves.items()]


def find_owners(names: Iterable[Any], graph: ChannelGraph) -> dict[str, str]:
    """{leader of a group: the layer or stage by which it was measured}."""
    leaders = {group.leader: [group] for group in graph.groups if group.prunable}
    owners: dict[str, str] = {}
    for name in names:
        for group in leaders.get(name) or graph.select(name):
            if group.leader in owners:
                raise ValueError(
                    f"{owners[group.leader]!r} and {name!r} both prune {group.leader}; "
                    "measure one of them"
                )
            owners[group.leader] = name
    return owners


def keep_falling(correct: np.ndarray) -> np.ndarray:
    """The share of correct predictions that is left, never rising; the first is of the whole."""
    return np.minimum.accumulate((correct + 0.5) / (correct[0] + 0.5))  # never 0


def _never_falling(measured: pd.DataFrame) -> pd.DataFrame:
    """By ratio: how much the loss rises, and the share of correct predictions that is left."""
    curve = measured.sort_values("ratio").set_index("ratio")
    rises = np.nan_to_num(curve["loss"] - curve["loss"].iloc[0], nan=1e9).clip(0, 1e9)
    shares = keep_falling(curve["correct"].to_numpy())
    columns = {"rise": np.maximum.accumulate(rises), "share": shares}
    return pd.DataFrame(columns, curve.index)


def _join_stages(
    curves: Mapping[str, pd.DataFrame], owner: Mapping[str, str], graph: ChannelGraph
) -> dict[str, pd.DataFrame]:
    """The curves of stages, at the ratios that all their layers have."""
    stages: dict[str, pd.DataFrame] = {}
    for stage in graph.stages:
        leaders = [group.leader for group in graph.select(stage)]
        unknown = [leader for leader in leaders if leader not in owner]
        if unknown:
            raise ValueError(
                f"per='stage' needs every layer of {stage}; not measured: {', '.join(unknown[:5])}"
            )
        own = [curves[name] for name in dict.fromkeys(owner[leader] for leader in leaders)]
        if own:
            by_ratio = pd.concat(own, keys=range(len(own))).groupby(level=1)
            joined = by_ratio.agg({"rise": "sum", "share": "prod"})
            stages[stage] = joined[by_ratio.size() == len(own)]
    return stages


def _make_choice(graph: ChannelGraph, key: str, curve: pd.DataFrame, align: int) -> Choice:
    whole = _widths(graph, key, 0.0, 1)
    widths = np.stack([whole - _widths(graph, key, ratio, align) for ratio in curve.index])
    fewer = 1e-6 * np.arange(len(curve))  # where it makes no difference, fewer go
    losses, shares = curve["rise"].to_numpy() + fewer, curve["share"].to_numpy()
    return Choice(key, list(curve.index), losses, shares, widths)


def _widths(graph: ChannelGraph, key: str, ratio: float, align: int) -> np.ndarray:
    """(4, layers): outputs, inputs, groups and positions of each layer when one key is pruned."""
    left = widths_after(graph, make_plan(graph, {key: ratio}, align=align))
    whole = _whole_widths(graph)
    names = [*graph.shapes]
    rows = zip(left, whole, strict=True)
    return np.array([[*map(own.get, names, row)] for own, row in rows])


def _whole_widths(graph: ChannelGraph) -> np.ndarray:
    """(4, layers): outputs, inputs, groups and positions of each layer of the whole network."""
    layers = graph.shapes.values()
    return np.array([(s.n_out, s.n_in, s.groups, s.positions) for s in layers]).T


class Search:
    """Which level of each choice: the exact cost of any of them, and the way to a good one."""

    def __init__(
        self, graph: ChannelGraph, choices: Sequence[Choice], accuracy: float, align: int
    ) -> None:
        self.graph, self.choices, self.accuracy, self.align = graph, choices, accuracy, align
        layers = list(graph.shapes.values())
        self.whole = _whole_widths(graph)
        self.kernels = np.array([math.prod(s.kernel) for s in layers], dtype=float)
        self.bias = np.array([s.bias for s in layers], dtype=float)
        self.start = self._costs(self.whole[None])

    def _costs(self, widths: np.ndarray) -> dict[str, np.ndarray]:
        """(n, 4, layers) -> multiply-adds and parameters, each (n,)."""
        out, into, groups, positions = widths.swapaxes(0, 1)
        pairs = (out * (into // groups)).astype(float)
        flops = (pairs * positions) @ self.kernels
        return {"flops": flops, "params": pairs @ self.kernels + out @ self.bias}

    def solve(self, limits: Mapping[str, float]) -> ChosenRatios:
        """The ratios with the smallest loss found within limits, {"flops" or "params": limit}."""
        budgets = {name: as_number(limit, self.start[name][0]) for name, limit in limits.items()}
        most = [len(choice.ratios) - 1 for choice in self.choices]
        least = self._costs(self._narrow(most)[None])
        for name, budget in budgets.items():
            if least[name][0] > budget:
                raise ValueError(
                    f"the measured ratios cannot meet max_{name}={limits[name]}: at the largest of "
                    f"each, {least[name][0] / self.start[name][0]:.1%} of the {BUDGETS[name]} are "
                    "left. Measure larger ratios, or more layers"
                )

        def over(widths: np.ndarray) -> np.ndarray:
            """(n, 4, layers) -> (n,) the largest cost over its budget."""
            costs = self._costs(widths)
            return np.max([costs[name] / budget for name, budget in budgets.items()], axis=0)

        best = most
        # Lagrange's multiplier: what a budget's worth of cost weighs against the loss
        low, high = 1e-6, 1e6
        for _ in range(40):
            weight = math.sqrt(low * high)
            levels = self._descend([0] * len(most), over, weight)
            if over(self._narrow(levels)[None])[0] <= 1:
                best, high = min(best, levels, key=self._loss), weight
            else:
                low = weight
        return self._name(self._swap(best, over))

    def _narrow(self, levels: Sequence[int]) -> np.ndarray:
        """(4, layers): the widths that are left at these levels."""
        pairs = zip(self.choices, levels, strict=True)
        return self.whole - sum(choice.widths[level] for choice, level in pairs)

    def _loss(self, levels: Sequence[int]) -> float:
        pairs = zip(self.choices, levels, strict=True)
        return sum(choice.losses[level] for choice, level in pairs)

    def _descend(
        self, levels: list[int], over: Callable[[np.ndarray], np.ndarray], weight: float
    ) -> list[int]:
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
        """Within the budget, while that helps: spare a layer, or let another lose more for it."""
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
                        within = over(spared + b.widths[levels[j]] - b.widths) <= 1
                        fits = (losses < best) & within
                        if fits.any():
                            other = int(np.argmin(np.where(fits, losses, np.inf)))
                            best, move = float(losses[other]), {i: level, j: other}
            if move is None:
                return levels
            for i, level in move.items():
                levels[i] = level

    def nudge(self, ratios: Mapping[str, float], draw: np.random.Generator) -> ChosenRatios:
        """A neighbour: one layer is spared and another loses more, at about the same cost.

        Of some that are drawn, the one whose loss is the smallest by the curves.
        """
        levels = self._read(ratios)
        most = [len(choice.ratios) - 1 for choice in self.choices]
        tries = np.tile(levels, (DRAWN, 1))
        for own in tries:
            spared, more = draw.permutation(len(most))[:2]
            own[spared] = draw.integers(0, own[spared] + 1)
            own[more] = draw.integers(own[more], most[more] + 1)
        costs = self._costs(np.stack([self._narrow(own) for own in tries]))["flops"]
        limit = self._costs(self._narrow(levels)[None])["flops"][0] * draw.uniform(0.97, 1.02)
        new = (costs <= limit) & (tries != levels).any(axis=1)
        losses = np.where(new, [self._loss(own) for own in tries], np.inf)
        return self._name(tries[losses.argmin()])

    def _read(self, ratios: Mapping[str, float]) -> list[int]:
        """The levels nearest to these ratios, which may have been chosen in another way."""
        asked = resolve_ratios(self.graph, ratios)
        levels = []
        for choice in self.choices:
            own = [asked.get(group.leader, 0.0) for group in self.graph.select(choice.key)]
            levels.append(int(np.abs(np.array(choice.ratios) - np.mean(own)).argmin()))
        return levels

    def _name(self, levels: Sequence[int]) -> ChosenRatios:
        """The ratios of these levels, and what they promise."""
        pairs = list(zip(self.choices, levels, strict=True))
        ratios = {choice.key: float(choice.ratios[level]) for choice, level in pairs if level}
        shares = [choice.shares[level] for choice, level in pairs]
        predicted = {"accuracy": float(self.accuracy * math.prod(shares))}
        total = total_cost(self.graph, make_plan(self.graph, ratios, align=self.align))
        for name in ("flops", "params"):
            predicted[name] = int(total[name]["after"]) / int(total[name]["before"])
        return ChosenRatios(ratios, predicted)
