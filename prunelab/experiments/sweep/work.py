"""The work that is ahead, in multiply-adds, and in hours by what was measured."""

from functools import lru_cache
from typing import Any, NamedTuple

import pandas as pd
import torch

from prunelab.data import find_size
from prunelab.experiments.recipe import PruneRecipe, Recipe
from prunelab.experiments.sweep.points import Point
from prunelab.graph import ChannelGraph, trace
from prunelab.models import known_preprocessing, load_model, open_weights
from prunelab.pruning import make_plan, make_steps, prune, total_cost

# of a training step: forward, and backward for what is learned and for what flows back
PASSES = 3


class Work(NamedTuple):
    """Of a replay: epochs in all, and multiply-adds."""

    epochs: int
    flops: float


def count_work(point: Point, recipe: Recipe) -> Work:
    """What a point has to train, if no patience ends it before; evaluation is left out."""
    name, weights = recipe.model.name, recipe.model.weights
    expected = open_weights(name, weights).preprocessing if weights else known_preprocessing(name)
    size = find_size(point.data, recipe.data.image_size or expected.image_size)
    classes = recipe.model.num_classes or size.classes
    network = (name, weights, classes, size.pixels)
    images = round(size.train * (1 - recipe.data.val_fraction))
    pruning = None if recipe.prune is None else recipe.prune.model_dump_json()
    whole, left = _count_flops(network, recipe.shortcuts, pruning)
    first = recipe.baseline if weights is None else recipe.fine_tune
    epochs: dict[str, tuple[float, float]] = {}  # {what: (epochs, multiply-adds of an image)}
    if first is not None and point.baseline is None:
        epochs["baseline"] = first.epochs, whole
    if recipe.prune is not None and recipe.retrain is not None:
        turns = recipe.retrain.epochs * _count_steps(_trace(*network), recipe)
        epochs["retrained"] = turns, left
        if recipe.continued:
            epochs["continued"] = turns, whole
    if recipe.prune is not None and recipe.scratch is not None:
        longer = whole / left if recipe.scratch == "B" else 1
        epochs["scratch"] = round(recipe.baseline.epochs * longer), left
    flops = sum(n * cost for n, cost in epochs.values()) * images * PASSES
    return Work(round(sum(n for n, _ in epochs.values())), flops)


def measure_speed(rows: pd.DataFrame, device: str | None = None) -> float | None:
    """Multiply-adds of training in a second, by the rows of replays; None where none tells.

    device: whose rows count, as they name it; None: all.
    """
    if "n_train" not in rows:
        return None
    known = rows[(rows["epochs"] > 0) & (rows["seconds"] > 0) & rows["n_train"].notna()]
    if device is not None:
        known = known[known["device"] == device]
    if known.empty:
        return None
    flops = PASSES * (known["epochs"] * known["n_train"] * known["flops"]).sum()
    return float(flops / known["seconds"].sum())


@lru_cache(maxsize=64)
def _trace(name: str, weights: str | None, classes: int, pixels: int) -> ChannelGraph:
    """The network as it is before it is pruned; its widths, and no weights."""
    model = load_model(name, num_classes=classes)
    if weights is not None and (plan := open_weights(name, weights).plan) is not None:
        model = prune(model, plan)
    return trace(model, torch.zeros(1, 3, pixels, pixels))


@lru_cache(maxsize=4096)
def _count_flops(
    network: tuple[str, str | None, int, int], shortcuts: bool, pruning: str | None
) -> tuple[float, float]:
    """Multiply-adds for one image, before and after; network: of `_trace`; pruning: as JSON."""
    graph = _trace(*network)
    recipe = None if pruning is None else PruneRecipe.model_validate_json(pruning)
    ratios, how = {}, {}
    if recipe is not None:
        ratios = recipe.all_ratios if recipe.max_flops is None else {}
        how = recipe.model_dump(include={"rounding", "align", "keep", "drop"})
    cost = total_cost(graph, make_plan(graph, ratios, **how), shortcuts=shortcuts)
    whole, left = (float(cost["flops"][when]) for when in ("before", "after"))
    if recipe is not None and recipe.max_flops is not None:
        left = whole * recipe.max_flops
    return whole, left


def _count_steps(graph: ChannelGraph, recipe: Recipe) -> int:
    """How often a pruned network is retrained."""
    pruning = recipe.prune
    assert pruning is not None
    if pruning.schedule == "once":
        return 1
    if pruning.max_flops is not None:
        return pruning.rounds
    how: dict[str, Any] = {"rounds": pruning.rounds, "rounding": pruning.rounding}
    return len(make_steps(graph, pruning.all_ratios, pruning.schedule, **how))
