"""Pruning by a recipe: the plan, or several by turns with a retraining after each."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.optim import SGD

from prunelab.data import DataSplits
from prunelab.experiments.recipe import PruneRecipe
from prunelab.experiments.trainings import Trainings
from prunelab.graph import ChannelGraph, trace
from prunelab.pruning import (
    PruningPlan,
    find_ratios,
    make_plan,
    make_steps,
    prune,
    prune_optimizer,
)
from prunelab.training import TrainSettings


def plan_by_recipe(
    recipe: PruneRecipe, ratios: dict[str, float], graph: ChannelGraph, data: DataSplits, seed: int
) -> PruningPlan:
    """The plan for these ratios; all else is the recipe's."""
    names = {"criterion", "strategy", "order", "rounding", "align", "keep", "drop"}
    how = recipe.model_dump(include=names)
    return make_plan(graph, ratios, data=data, seed=seed, **how)


def plan_of(model: nn.Module | None) -> PruningPlan:
    """The plan that a pruned network knows."""
    plan = getattr(model, "pruning_plan", None)
    assert isinstance(plan, PruningPlan)
    return plan


def carry_momentum(optimizer: SGD | None, model: nn.Module, small: nn.Module) -> SGD | None:
    """The optimizer for a pruned network; None where the model's weights come from a file."""
    return None if optimizer is None else prune_optimizer(optimizer, model, small)


def prune_in_steps(
    baseline: nn.Module,
    optimizer: SGD | None,
    recipe: PruneRecipe,
    ratios: dict[str, float],
    settings: TrainSettings,
    trainings: Trainings,
) -> nn.Module:
    """The baseline pruned and retrained by turns, as the schedule says."""
    data, seed = trainings.data, trainings.seed
    example = torch.zeros(data.image_shape)
    model, graph = baseline, trace(baseline, example)
    how: dict[str, Any] = {"schedule": recipe.schedule, "rounds": recipe.rounds}
    steps = make_steps(graph, ratios, **how, rounding=recipe.rounding) or [{}]
    for i, step in enumerate(steps, 1):
        plan = plan_by_recipe(recipe, find_ratios(graph, step), graph, data, seed)
        whole = all(len(kept) == len(graph.numbers[name]) for name, kept in plan.keep.items())
        if whole and (i < len(steps) or model is not baseline):
            continue  # nothing goes, for a width that `align` likes
        small = prune(model, plan, graph=graph)
        optimizer = carry_momentum(optimizer, model, small)
        what = ", ".join(step) if len(step) == 1 else "all layers"
        print(f"{i} of {len(steps)}: {what}", flush=True)
        file = trainings.folder / f"retrain-{i}.safetensors"
        optimizer = trainings.train("retrained", small, settings, file, optimizer, step=i)
        model, graph = small, trace(small, example)
    plan = plan_of(model)
    asked = {**plan.settings, "ratios": ratios, **how}
    model.pruning_plan = replace(plan, settings=asked)  # type: ignore[assignment]
    return model
