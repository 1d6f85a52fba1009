"""From ratios and scores to a plan: how many filters of each group go, and which."""

import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any
from warnings import warn

import torch
from torch import Tensor

from prunelab.data import DataSplits
from prunelab.graph import ChannelGraph, Group, check_graph
from prunelab.pruning.criteria import CRITERIA, WEIGHT_CRITERIA, score_filters
from prunelab.pruning.hand import Picks, list_picks, read_picks
from prunelab.pruning.plan import PruningPlan
from prunelab.pruning.surgery import remember
from prunelab.utils.checks import check_choice, check_seed, check_whole
from prunelab.utils.modules import widen

STRATEGIES = ("independent", "greedy")
ORDERS = ("smallest", "random", "largest")
ROUNDINGS: dict[str, Callable[[float], int]] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "round": round,
}


def count_removed(ratio: float, filters: int, rounding: str = "ceil") -> int:
    """How many of a layer's filters go at a ratio: `ceil(ratio · filters)`, never the last one.

    Guarded against float error: 0.3 of 10 is 3, though 0.3 · 10 > 3 in floats.
    `ceil` reproduces Table 1 of Li et al. 2017; `floor` and `round` do not.
    """
    function = ROUNDINGS[check_choice("rounding", rounding, ROUNDINGS)]
    return min(function(round(ratio * filters, 9)), filters - 1)


def make_plan(
    graph: ChannelGraph,
    ratios: Mapping[str, float],
    *,
    criterion: str = "l1",
    strategy: str = "independent",
    order: str = "smallest",
    rounding: str = "ceil",
    align: int = 1,
    data: DataSplits | None = None,
    scores: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    keep: Picks | None = None,
    drop: Picks | None = None,
) -> PruningPlan:
    """The plan that removes a fraction of the filters of each layer (Li et al. 2017, §3.1 – 3.3).

    It warns where a ratio would empty a layer: the last filter stays.

    Args:
        graph: of `trace`.
        ratios: {key: fraction of filters removed, in [0, 1)}. A key is a layer (`layer1.0.conv1` or
            `conv_2`; it stands for its whole group), a stage (`stage1`) or `"*"`; the narrower key
            wins. Stages and `"*"` mean prunable groups only.
        criterion: as in `score_filters`.
        strategy: `independent` scores all of a filter's kernels; `greedy` goes front to back and
            leaves out kernels whose input maps are already gone.
        order: which filters go, `smallest`, `random` (by seed) or `largest`.
        rounding: `ceil`, `floor` or `round` of ratio · filters; `ceil` reproduces Table 1 of Li et
            al. 2017, the others do not.
        align: what stays of each layer is rounded up to a multiple of this, 8 say, since hardware
            computes such widths faster; a layer never grows beyond its own width.
        data: for criteria that look at images.
        scores: {layer: scores} of `score_filters`, when at hand, or of a criterion of your own (the
            plan's settings then still say `criterion`); not with greedy, which scores what is left
            by itself.
        seed: of the order `random`, and of the images that a criterion looks at.
        keep: {layer: original numbers of filters} that stay whatever their score, even where fewer
            go than the ratio says. A layer stands for its whole group; filters that are tied go
            together.
        drop: likewise, those that go: the first of those that the ratio removes, and all of them
            where they are more. Both come before `align`.

    Returns:
        Which filters of each layer stay.

    Raises:
        ValueError: an unknown key or choice, a ratio outside [0, 1), a layer that cannot be pruned,
            two ratios for tied layers; of `keep` and `drop`, a filter that there is not, one in
            both, or all of a layer.

    Example:
        >>> plan = make_plan(graph, {"stage1": 0.6, "conv_16": 0})
    """
    check_graph(graph, "make_plan")
    check_choice("strategy", strategy, STRATEGIES)
    check_choice("order", order, ORDERS)
    check_choice("criterion", criterion, CRITERIA)
    check_whole("align", align, why="8 keeps widths at multiples of 8")
    check_seed(seed)
    if strategy == "greedy":
        _check_greedy(criterion, scores)
    channels = graph.channels
    by_hand = {"keep": list_picks(keep), "drop": list_picks(drop)}
    resolved, picks = resolve_ratios(graph, ratios), read_picks(graph, **by_hand)
    if scores is not None:
        scores = {graph.find(layer): own for layer, own in scores.items()}
    else:
        scores = score_filters(graph, criterion, data=data, layers=list(resolved), seed=seed)
    _check_scores(graph, scores, resolved)
    alive = torch.ones(len(channels.root), dtype=torch.bool)
    for index, group in enumerate(graph.groups):
        ratio, units = resolved.get(group.leader, 0), len(group.units)
        wanted = count_removed(ratio, units, rounding)
        picked = picks.get(group.leader, torch.zeros(units, dtype=torch.int))
        go, stay = int((picked < 0).sum()), int((picked > 0).sum())
        count = max(go, units - _align(max(units - wanted, stay), group, align))
        if count == 0:
            continue
        own = scores[group.leader] if ratio else torch.zeros(group.size)
        if strategy == "greedy" and group.leader in channels.reads:
            own = _score_what_is_left(graph, group.leader, criterion, alive)
        ranked = _rank(score_units(group, own), order, seed * 100_003 + index)
        ranked = ranked[picked[ranked].argsort(stable=True)]  # by hand first, or last
        able = ranked[~torch.isin(ranked, _last_of_each(group, ranked))] if group.parts else ranked
        able = able[picked[able] < 1]
        alive[group.units[able[:count]]] = False
        emptied = wanted != ROUNDINGS[rounding](round(ratio * units, 9)) or len(able) < count
        if emptied and not stay:
            what = "filters" if units == group.size else "units of filters"
            also = " or of a layer tied to it" if group.parts else ""
            warn(
                f"ratio {ratio} would remove all {units} {what} of {group.leader}{also}; one stays",
                stacklevel=2,
            )
    settings: dict[str, Any] = {
        "ratios": dict(ratios),
        "criterion": criterion,
        "strategy": strategy,
        "order": order,
        "rounding": rounding,
        "align": align,
        "seed": seed,
    }
    settings |= {name: chosen for name, chosen in by_hand.items() if chosen}
    kept = {}
    for name, numbers in graph.numbers.items():
        kept[name] = numbers[alive[channels.root[channels.made[name]]]].tolist()
    groups = dict(channels.groups)
    about = (graph.widths, graph.input_shapes, settings, groups, graph.input_dtypes)
    return remember(PruningPlan(kept, *about), graph)


def _check_greedy(criterion: str, scores: object) -> None:
    if criterion not in WEIGHT_CRITERIA:
        raise ValueError(
            "strategy 'greedy' leaves kernels out, so it needs a criterion of weights "
            f"({', '.join(WEIGHT_CRITERIA)}), not {criterion!r}"
        )
    if scores is not None:
        raise ValueError(
            "strategy 'greedy' scores what is left of each filter by itself: leave scores= out"
        )


def _check_scores(graph: ChannelGraph, scores: Mapping[str, Tensor], layers: Iterable[str]) -> None:
    for layer in layers:
        size = len(graph.numbers[layer])
        own = scores.get(layer)
        if not isinstance(own, Tensor) or own.shape != (size,):
            given = "none" if own is None else type(own).__name__
            if isinstance(own, Tensor):
                given = f"a tensor of shape {tuple(own.shape)}"
            raise ValueError(
                f"scores must hold one number for each of the {size} filters of {layer}; "
                f"got {given}"
            )
        if not own.is_meta and bool(own.isnan().any()):
            raise ValueError(
                f"scores of {layer} hold {int(own.isnan().sum())} NaN: such filters have no rank"
            )


def _score_what_is_left(graph: ChannelGraph, layer: str, criterion: str, alive: Tensor) -> Tensor:
    """Scores without the kernels whose input maps are already gone (Li et al. 2017, Fig. 3)."""
    weight = widen(graph.filters(layer))
    if weight.shape[1] > 1:
        read = alive[graph.channels.root[graph.channels.reads[layer][: weight.shape[1]]]]
        weight = weight[:, read.to(weight.device)]  # (out, in, kh, kw) -> (out, in left, kh, kw)
    return WEIGHT_CRITERIA[criterion](weight)


def _align(kept: int, group: Group, align: int) -> int:
    """Units that stay so that the leader's width is a multiple of `align`, or whole."""
    filters, units = group.size, len(group.units)
    step = align // math.gcd(align, filters // units)
    return min(units, math.ceil(kept / step) * step)


def _last_of_each(group: Group, ranked: Tensor) -> Tensor:
    """Of each layer that has some of the units, the one that would go last."""
    place = ranked.argsort()
    return torch.stack([part[place[part].argmax()] for part in group.parts])


def score_units(group: Group, scores: Tensor) -> Tensor:
    """The mean score of the filters that go at once. (filters of the leader,) -> (units,)"""
    if len(group.units) == group.size:
        return scores
    sums = scores.new_zeros(len(group.units)).index_add(0, group.unit_of.to(scores.device), scores)
    return sums / group.unit_of.bincount().to(scores.device)


def _rank(scores: Tensor, order: str, seed: int) -> Tensor:
    """Filters in the order in which they go: (n,) -> (n,) indices. Equal scores go by number."""
    if order == "random":
        return torch.randperm(len(scores), generator=torch.Generator().manual_seed(seed))
    if scores.is_meta:
        raise ValueError(
            "on the meta device filters have no values to rank; order='random' needs none"
        )
    return torch.sort(scores.cpu(), stable=True, descending=order == "largest").indices


def resolve_ratios(graph: ChannelGraph, ratios: Mapping[str, float]) -> dict[str, float]:
    """{leader: ratio} for the groups that lose filters; keys and errors as in `make_plan`."""
    if not isinstance(ratios, Mapping):
        raise ValueError(
            f"ratios maps layers or stages to ratios, such as {{'stage1': 0.5}}; got {ratios!r}"
        )
    chosen: dict[str, tuple[int, str, float]] = {}  # leader -> how narrow, the key, its ratio
    for key, ratio in ratios.items():
        check_ratio(key, ratio)
        width = 0 if key == "*" else 1 if key in graph.stages else 2
        for group in _select(graph, key, ratio):
            before = chosen.get(group.leader, (-1, "", 0.0))
            if before[0] == width == 2 and before[2] != ratio:
                raise ValueError(
                    f"{before[1]!r} and {key!r} are tied: their filters go together, so they take "
                    f"one ratio, not {before[2]} and {ratio}"
                )
            if width >= before[0]:
                chosen[group.leader] = (width, key, ratio)
    return {leader: ratio for leader, (_, _, ratio) in chosen.items() if ratio > 0}


def _select(graph: ChannelGraph, key: str, ratio: float) -> list[Group]:
    if ratio == 0 and key != "*" and key not in graph.stages:
        return [graph.group_of(key)]  # skipping what cannot be pruned is no error
    return graph.select(key)


def check_ratio(key: str, ratio: object) -> None:
    """ValueError unless the ratio is a number in [0, 1)."""
    if isinstance(ratio, bool) or not isinstance(ratio, Real) or not 0 <= float(ratio) < 1:
        raise ValueError(
            f"the ratio of {key!r} must be a number in [0, 1), the fraction of filters removed; "
            f"got {ratio!r}"
        )
