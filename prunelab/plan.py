"""Which filters stay. A plan decides; `prune` obeys."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import combinations
from numbers import Real
from typing import TYPE_CHECKING, Any
from warnings import warn

import pandas as pd
import torch
from torch import Tensor, nn

from prunelab.criteria import CRITERIA, WEIGHT_CRITERIA, check_choice, score_filters
from prunelab.graph import ChannelGraph, Group

if TYPE_CHECKING:
    from prunelab.data import DataSplits

STRATEGIES = ("independent", "greedy")
ORDERS = ("smallest", "random", "largest")
ROUNDINGS: dict[str, Callable[[float], int]] = {"ceil": math.ceil, "floor": math.floor, "round": round}


@dataclass(frozen=True)
class PruningPlan:
    """Which filters of each layer stay, in the numbers of the original, unpruned model.

    keep: {layer: sorted indices of survivors}, for every conv. widths: {layer: filters of the original}.
    input_shapes, input_dtypes: what the model was traced with. settings: how the plan was made (ratios, criterion, …).
    groups: {grouped conv or norm: "go" where it loses whole groups, as a depthwise conv does, or "stay" where
        each of them gets thinner}.
    """

    keep: dict[str, list[int]]
    widths: dict[str, int]
    input_shapes: list[list[int]]
    settings: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    input_dtypes: list[str] = field(default_factory=list)

    @property
    def removed(self) -> dict[str, list[int]]:
        """{layer: sorted indices of the filters that go}, without the layers that lose none."""
        gone = {name: sorted(set(range(self.widths[name])) - set(kept)) for name, kept in self.keep.items()}
        return {name: indices for name, indices in gone.items() if indices}

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Zeros of the shapes and kinds of numbers that the model was traced with."""
        dtypes = [getattr(torch, name) for name in self.input_dtypes] or [torch.float32] * len(self.input_shapes)
        return tuple(torch.zeros(s, dtype=dtype) for s, dtype in zip(self.input_shapes, dtypes, strict=True))

    def to_json(self) -> str:
        """The plan as JSON text; `from_json` gives it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "PruningPlan":
        """The plan of a JSON text; ValueError says what is wrong with it."""
        try:
            plan = cls(**json.loads(text))
            agree = plan.keep.keys() == plan.widths.keys()
            whole = {
                n: kept == sorted(set(kept)) and kept[0] >= 0 and kept[-1] < plan.widths[n]
                for n, kept in plan.keep.items()
                if agree
            }
        except (json.JSONDecodeError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"this is not a pruning plan ({error})") from error
        if not agree:
            raise ValueError("this is not a pruning plan: keep and widths name different layers")
        for name in (name for name, good in whole.items() if not good):
            raise ValueError(
                f"the plan's filters of {name} must be sorted, distinct, and in 0 … {plan.widths[name] - 1}"
            )
        return plan

    def check_graph(self, graph: ChannelGraph) -> None:
        """ValueError unless the model is the one this plan was made for, pruned no further than it says."""
        _check_layers(self.widths, graph.widths, type(graph.model).__name__)
        for name, kept in self.keep.items():
            lost = sorted(set(kept) - set(graph.numbers[name].tolist()))
            if lost:
                raise ValueError(f"the plan keeps filters {lost[:5]} of {name}, which were already removed")

    def check_pruned(self, model: nn.Module) -> None:
        """ValueError unless the model has exactly the filters that this plan keeps."""
        tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        found = {}
        for name in self.keep:
            weight = tensors.get(f"{name}.weight", tensors.get(name))
            owner = model.get_submodule(name) if f"{name}.weight" in tensors else None
            if isinstance(owner, nn.modules.conv._ConvTransposeNd):  # whose filters are in its second dimension
                found[name] = owner.out_channels
            elif weight is not None:
                found[name] = weight.shape[0]
        _check_layers({name: len(kept) for name, kept in self.keep.items()}, found, type(model).__name__)


def _check_layers(expected: Mapping[str, int], found: Mapping[str, int], model: str) -> None:
    for name in expected.keys() | found.keys():
        if expected.get(name) != found.get(name):
            ours, theirs = (f"{n} filters" if n else "no such layer" for n in (expected.get(name), found.get(name)))
            raise ValueError(
                f"this plan was made for another network: {name} has {ours} in the plan and {theirs} in {model}"
            )


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
    data: "DataSplits | None" = None,
    scores: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> PruningPlan:
    """The plan that removes a fraction of the filters of each layer (Li et al. 2017, §3.1 – 3.3).

    ratios: {key: fraction of filters removed, in [0, 1)}. A key is a layer (`layer1.0.conv1` or `conv_2`;
        it stands for its whole group), a stage (`stage1`) or `"*"`; the narrower key wins. Stages and `"*"`
        mean prunable groups only.
    criterion: as in `score_filters`. data: for criteria that look at images.
    scores: {layer: scores} of `score_filters`, when at hand, or of a criterion of your own (the
        plan's settings then still say `criterion`); not with greedy, which scores what is left by itself.
    strategy: `independent` scores all of a filter's kernels; `greedy` goes front to back and leaves out
        kernels whose input maps are already gone.
    order: which filters go, `smallest`, `random` (by seed) or `largest`.
    rounding: `ceil`, `floor` or `round`; see `count_removed`.
    align: what stays of each layer is rounded up to a multiple of this, 8 say, since hardware computes
        such widths faster; a layer never grows beyond its own width.

    Raises ValueError for an unknown key or choice, a ratio outside [0, 1), a layer that cannot be pruned,
    or two ratios for tied layers. Warns where a ratio would empty a layer: its last filter stays.

    >>> plan = make_plan(graph, {"stage1": 0.6, "conv_16": 0})
    """
    if not isinstance(graph, ChannelGraph):
        raise ValueError(f"make_plan takes the graph of trace(model, example_input), not {type(graph).__name__}")
    check_choice("strategy", strategy, STRATEGIES)
    check_choice("order", order, ORDERS)
    if isinstance(align, bool) or not isinstance(align, int) or align < 1:
        raise ValueError(f"align must be a whole number, 1 or more (8 keeps widths at multiples of 8); got {align!r}")
    check_choice("criterion", criterion, CRITERIA)
    if strategy == "greedy" and criterion not in WEIGHT_CRITERIA:
        raise ValueError(
            f"strategy 'greedy' leaves kernels out, so it needs a criterion of weights ({', '.join(WEIGHT_CRITERIA)}), "
            f"not {criterion!r}"
        )
    channels = graph.channels
    resolved = resolve_ratios(graph, ratios)
    if scores is not None and strategy == "greedy":
        raise ValueError("strategy 'greedy' scores what is left of each filter by itself: leave scores= out")
    if scores is not None:
        scores = {graph.find(layer): own for layer, own in scores.items()}
    else:
        scores = score_filters(graph, criterion, data=data, layers=list(resolved), seed=seed)
    _check_scores(graph, scores, resolved)
    alive = torch.ones(len(channels.root), dtype=torch.bool)
    for index, group in enumerate(graph.groups):
        ratio, units = resolved.get(group.leader, 0), len(group.units)
        wanted = count_removed(ratio, units, rounding)
        count = units - _align(units - wanted, group, align)
        if count == 0:
            continue
        own = scores[group.leader]
        if strategy == "greedy" and group.leader in channels.reads:
            own = _score_what_is_left(graph, group.leader, criterion, alive)
        ranked = _rank(score_units(group, own), order, seed * 100_003 + index)
        able = ranked[~torch.isin(ranked, _last_of_each(group, ranked))] if group.parts else ranked
        alive[group.units[able[:count]]] = False
        if wanted != ROUNDINGS[rounding](round(ratio * units, 9)) or len(able) < count:
            what = "filters" if units == group.size else "units of filters"
            also = " or of a layer tied to it" if group.parts else ""
            warn(f"ratio {ratio} would remove all {units} {what} of {group.leader}{also}; one stays", stacklevel=2)
    settings = {
        "ratios": dict(ratios), "criterion": criterion, "strategy": strategy, "order": order,
        "rounding": rounding, "align": align, "seed": seed,
    }  # fmt: skip
    keep = {name: graph.numbers[name][alive[channels.root[channels.made[name]]]].tolist() for name in graph.numbers}
    return PruningPlan(keep, graph.widths, graph.input_shapes, settings, dict(channels.groups), graph.input_dtypes)


def _check_scores(graph: ChannelGraph, scores: Mapping[str, Tensor], layers: Iterable[str]) -> None:
    for layer in layers:
        size = len(graph.numbers[layer])
        own = scores.get(layer)
        if not isinstance(own, Tensor) or own.shape != (size,):
            given = f"a tensor of shape {tuple(own.shape)}" if isinstance(own, Tensor) else type(own).__name__
            given = "none" if own is None else given
            raise ValueError(f"scores must hold one number for each of the {size} filters of {layer}; got {given}")
        if not own.is_meta and bool(own.isnan().any()):
            raise ValueError(f"scores of {layer} hold {int(own.isnan().sum())} NaN: such filters have no rank")


def _score_what_is_left(graph: ChannelGraph, layer: str, criterion: str, alive: Tensor) -> Tensor:
    """Scores without the kernels whose input maps are already gone (Li et al. 2017, Fig. 3)."""
    weight = graph.filters(layer)
    if weight.shape[1] > 1:
        read = alive[graph.channels.root[graph.channels.reads[layer][: weight.shape[1]]]]
        weight = weight[:, read.to(weight.device)]  # (out, in, kh, kw) -> (out, in that are left, kh, kw)
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
        raise ValueError("on the meta device filters have no values to rank; order='random' needs none")
    return torch.sort(scores.cpu(), stable=True, descending=order == "largest").indices


def resolve_ratios(graph: ChannelGraph, ratios: Mapping[str, float]) -> dict[str, float]:
    """{leader: ratio} for the groups that lose filters; the narrower key wins. Errors as in `make_plan`."""
    if not isinstance(ratios, Mapping):
        raise ValueError(f"ratios maps layers or stages to ratios, such as {{'stage1': 0.5}}; got {ratios!r}")
    chosen: dict[str, tuple[int, str, float]] = {}  # leader -> how narrow, the key, its ratio
    for key, ratio in ratios.items():
        check_ratio(key, ratio)
        width = 0 if key == "*" else 1 if key in graph.stages else 2
        for group in _select(graph, key, ratio):
            before = chosen.get(group.leader, (-1, "", 0.0))
            if before[0] == width == 2 and before[2] != ratio:
                raise ValueError(
                    f"{before[1]!r} and {key!r} are tied: their filters go together, so they take one ratio, "
                    f"not {before[2]} and {ratio}"
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
            f"the ratio of {key!r} must be a number in [0, 1), the fraction of filters removed; got {ratio!r}"
        )


def compare_plans(plans: Mapping[str, PruningPlan]) -> pd.DataFrame:
    """How much the choices of plans overlap: a row for each layer and each pair of plans.

    plans: {name: plan}, of different criteria, orders or strategies, for one network.
    Columns: layer, one, other, removed_one, removed_other, common (filters that both remove), overlap (common
    over the smaller number removed: 1 where one choice holds the other). Layers where either removes none are left out.

    >>> compare_plans({c: make_plan(graph, {"*": 0.5}, criterion=c) for c in ("l1", "l2")})
    """
    rows = []
    for (one, a), (other, b) in combinations(plans.items(), 2):
        _check_layers(a.widths, b.widths, other)
        for layer in a.removed.keys() & b.removed.keys():
            first, second = set(a.removed[layer]), set(b.removed[layer])
            common = len(first & second)
            sizes = len(first), len(second)
            rows.append((layer, one, other, *sizes, common, common / min(sizes)))
    columns = ["layer", "one", "other", "removed_one", "removed_other", "common", "overlap"]
    order: dict[Any, int] = {name: i for plan in plans.values() for i, name in enumerate(plan.keep)}
    return pd.DataFrame(sorted(rows, key=lambda row: (row[1:3], order[row[0]])), columns=columns)


def rank_filters(
    graph: ChannelGraph,
    plan: PruningPlan | None = None,
    *,
    criterion: str = "l1",
    data: "DataSplits | None" = None,
    scores: Mapping[str, Tensor] | None = None,
) -> pd.DataFrame:
    """A row for each filter of each conv, largest first, as Fig. 2(a) of Li et al. 2017 draws them.

    scores: those of `score_filters`, when at hand; then only their layers.
    Columns: layer, paper_name, stage, filter (original number), score, rank (in (0, 1], over the layer's
    filters), share (score over the layer's largest), fate (kept, removed or fixed: it cannot go).
    """
    keep = {} if plan is None else plan.keep
    frames = []
    scores = score_filters(graph, criterion, data=data) if scores is None else scores
    for name, own in scores.items():
        group, numbers = graph.group_of(name), graph.numbers[name].numpy()
        frame = pd.DataFrame({"filter": numbers, "score": own.cpu().numpy()})
        stays = frame["filter"].isin(keep.get(name, numbers))
        frame["fate"] = stays.map({True: "kept", False: "removed"}) if group.prunable else "fixed"
        frame = frame.sort_values("score", ascending=False, ignore_index=True)
        frame["rank"] = (frame.index + 1) / len(frame)
        frame["share"] = frame["score"] / frame["score"].max()
        frames.append(
            frame.assign(
                layer=name, paper_name=graph.shapes[name].paper_name, stage=graph.stage_of.get(name, group.stage)
            )
        )
    columns = ["layer", "paper_name", "stage", "filter", "score", "rank", "share", "fate"]
    return pd.concat(frames, ignore_index=True)[columns]
