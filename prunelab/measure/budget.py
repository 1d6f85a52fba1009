"""Ratios for a budget: which layers lose how much, so that the network costs at most so much."""

import math
import warnings
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import nn

from prunelab.data import DataSplits, FileSplit, Split
from prunelab.graph import ChannelGraph, trace
from prunelab.measure.latency import measure_latency
from prunelab.measure.search import ChosenRatios, Search, as_number, list_choices
from prunelab.pruning import make_plan, measure_cost, prune, total_cost
from prunelab.training import TrainSettings, evaluate, train
from prunelab.utils.intervals import wilson
from prunelab.utils.modules import find_place


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
    """The ratios that meet a budget and, by what was measured of each layer, do the least harm.

    The sum of what each layer alone adds to the cross-entropy is made small: it rises before the
    first image is misclassified, so it tells layers apart that accuracy does not. A layer never
    gains from losing more: where its curve falls again, the highest value so far counts. The cost
    is exact, with what neighbouring layers save together. Found by Lagrange's multiplier, then by
    swaps.

    Args:
        sensitivity: of `measure_sensitivity`. Only the layers and ratios that were measured are
            chosen among.
        graph: the trace of the network that was measured.
        max_flops: the fraction of multiply-adds of conv and linear layers that may be left, in
            (0, 1], or a number above 1. At least one of the budgets is needed; with several, all
            hold, and the result is never over them.
        max_params: likewise of the parameters of conv and linear layers.
        max_latency: the fraction of the measured time of a forward pass that may be left.
        per: `layer`, or `stage` for one ratio for all layers of a stage (Li et al. 2017, §3.2),
            which then must all have been measured.
        align: as in `make_plan`.
        batch: images at once, for max_latency.

    Returns:
        ``{layer or stage: ratio}``, for `make_plan`. Its `.predicted["accuracy"]` is the product of
        what each layer alone leaves; together they lose more, so look at `compare_ratios`.

    Raises:
        ValueError: a budget that the measured ratios cannot meet, or layers measured twice.

    Example:
        >>> ratios = choose_ratios(measure_sensitivity(model, data), graph, max_flops=0.7)
        >>> plan = make_plan(graph, ratios)
    """
    budgets = {"flops": max_flops, "params": max_params, "latency": max_latency}
    limits = {}
    for name, limit in budgets.items():
        if limit is not None:
            limits[name] = check_budget(f"max_{name}", limit)
    if not limits:
        raise ValueError(
            "a budget is missing, such as max_flops=0.7: at most 70 % of the multiply-adds are left"
        )
    if per not in ("layer", "stage"):
        raise ValueError(f"per must be 'layer' or 'stage', not {per!r}")
    accuracy = whole_accuracy(sensitivity)
    search = Search(graph, list_choices(sensitivity, graph, per, align), accuracy, align)
    latency = limits.pop("latency", None)
    if latency is None:
        return search.solve(limits)
    return _meet_latency(search, limits, latency, batch)


def check_budget(name: str, limit: object) -> float:
    """A budget as a number; ValueError for what is none."""
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf:
        raise ValueError(
            f"{name} must be a number above 0 (0.7 means that 70 % may be left), not {limit!r}"
        )
    if name != "max_latency" and 1 < limit < 1000:
        raise ValueError(
            f"{name}={limit!r}: a fraction that may be left is at most 1, and a number is far "
            "above it"
        )
    if name == "max_latency" and limit > 1:
        raise ValueError(
            "max_latency is a fraction of the whole network's measured time, at most 1, not "
            f"{limit!r}"
        )
    return float(limit)


def whole_accuracy(sensitivity: pd.DataFrame) -> float:
    """The accuracy of the network that loses nothing."""
    missing = {"layer", "ratio", "removed", "correct", "total", "loss"} - set(sensitivity.columns)
    if missing or sensitivity.empty:
        raise ValueError(
            "choose_ratios takes a frame of measure_sensitivity; this one has no "
            f"{sorted(missing) or 'rows'}"
        )
    whole = sensitivity[sensitivity["removed"] == 0]
    if whole.empty:
        raise ValueError(
            "the whole network's accuracy is missing: keep the rows of ratio 0 that "
            "measure_sensitivity gives"
        )
    return float(whole["correct"].iloc[0] / whole["total"].iloc[0])


def _meet_latency(
    search: Search, limits: dict[str, float], latency: float, batch: int
) -> ChosenRatios:
    """The most multiply-adds with which the network was measured to be fast enough, by halving."""
    whole = search.start["flops"][0]
    most = as_number(limits.get("flops", 1.0), whole)
    low, high, best, fastest = 0.0, 1.0, None, 1.0
    for _ in range(7):
        share = (low + high) / 2
        try:
            ratios = search.solve({**limits, "flops": min(share * whole, most)})
        except ValueError:  # beyond what was measured
            low = share
            continue
        measured = _measure_left(search, ratios, batch)
        fastest = min(fastest, measured)
        if measured <= latency:
            ratios.predicted["latency"] = measured
            best, low = ratios, share
        else:
            high = share
    if best is None:
        raise ValueError(
            f"max_latency={latency} was not met: the fastest network measured took {fastest:.1%} "
            "of the whole one's time. Measure larger ratios, or allow more; small networks may not "
            "get faster (see measure_latency)"
        )
    return best


def _measure_left(search: Search, ratios: ChosenRatios, batch: int) -> float:
    """The measured time of a pruned network, in fractions of the whole one's."""
    model, graph = search.graph.model, search.graph
    small = prune(model, make_plan(graph, ratios, align=search.align), graph=graph)
    device, _ = find_place(model)
    networks, shape = {"whole": model, "pruned": small}, graph.input_shapes[0][1:]
    times = measure_latency(networks, shape, device=device, batch=batch)
    return float(times.set_index("model")["time_left"]["pruned"])


def uniform_ratios(graph: ChannelGraph, *, max_flops: float, align: int = 1) -> dict[str, float]:
    """One ratio for all layers, the smallest that meets a budget of multiply-adds.

    Args:
        graph: the trace of the network.
        max_flops: as in `choose_ratios`.
        align: as in `make_plan`.

    Returns:
        ``{"*": ratio}``, for `make_plan`; the ratio is in steps of a thousandth.

    Raises:
        ValueError: 99.9 % of the filters are not enough.

    Example:
        >>> uniform_ratios(graph, max_flops=0.7)
    """
    limit = check_budget("max_flops", max_flops)
    budget = as_number(limit, int(measure_cost(graph)["flops"].sum()))

    def fits(step: int) -> bool:
        plan = make_plan(graph, {"*": step / 1000}, align=align)
        return int(measure_cost(graph, plan)["flops_after"].sum()) <= budget

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
    retrain: TrainSettings | None = None,
    **how: Any,
) -> pd.DataFrame:
    """What came of several choices of ratios, beside what was predicted without retraining.

    Args:
        model: the network; it is left untouched.
        data: a data set, of which the validation split is looked at, or a split.
        choices: {name: ratios}.
        graph: the trace of `model`, when at hand.
        retrain: how each pruned network is trained before it is measured; None: not at all.
        how: further arguments of `make_plan` (criterion, strategy, align, …).

    Returns:
        A row for each choice; columns choice, flops, flops_left, params, params_left, correct,
        total, accuracy, accuracy_low, accuracy_high (95 %), predicted (of `choose_ratios`; else
        empty).

    Raises:
        ValueError: choices that are no names with ratios; and what `make_plan` and `train` raise.

    Example:
        >>> chosen = choose_ratios(found, graph, max_flops=0.7)
        >>> compare_ratios(model, data, {"uniform": {"*": 0.2}, "chosen": chosen})
    """
    if not choices or not all(isinstance(ratios, Mapping) for ratios in choices.values()):
        raise ValueError(
            'choices maps names to ratios, such as {"uniform": {"*": 0.2}, "chosen": ratios}'
        )
    split = data.val if isinstance(data, DataSplits) else data
    graph = graph or trace(model, torch.zeros(1, 3, split.image_size, split.image_size))
    rows = []
    for name, ratios in choices.items():
        plan = make_plan(graph, ratios, data=data, **how)  # type: ignore[arg-type]
        small = prune(model, plan, graph=graph)
        if retrain is not None:
            train(small, data, retrain)  # type: ignore[arg-type]  # which it checks
        found = evaluate(small, split)
        low, high = wilson(found.correct, found.total)
        row: dict[str, Any] = {"choice": name}
        for key, cost in total_cost(graph, plan)[["flops", "params"]].items():
            row |= {str(key): cost["after"], f"{key}_left": cost["after"] / cost["before"]}
        row |= {
            "correct": found.correct,
            "total": found.total,
            "accuracy": found.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "predicted": getattr(ratios, "predicted", {}).get("accuracy"),
        }
        rows.append(row)
    return pd.DataFrame(rows)
