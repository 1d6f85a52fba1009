"""What a file says of its network."""

import json
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from prunelab.export.inputs import Inputs
from prunelab.graph import trace
from prunelab.pruning import total_cost


def describe(model: nn.Module, inputs: Inputs, info: Mapping[str, Any]) -> dict[str, Any]:
    """What the network is, what it takes, what was pruned, what it costs; plain JSON."""
    plan = getattr(model, "pruning_plan", None)
    pruned = {}
    if plan is not None:
        left = {name: len(kept) for name, kept in plan.keep.items()}
        pruned = {"ratios": plan.settings.get("ratios"), "filters_left": left}
    about = {
        "network": type(model).__name__,
        "architecture": getattr(model, "architecture", None),
        "input_shape": inputs.shapes[0] if len(inputs.shapes) == 1 else inputs.shapes,
        "normalization": info.get("normalization"),
        "classes": info.get("classes"),
        **pruned,
        **_count(model, inputs),
        "torch": torch.__version__,
        "prunelab": version("prunelab"),
        "info": dict(info),
    }
    try:
        json.dumps(about)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"info must be plain JSON values, such as lists and texts: {error}"
        ) from error
    return about


def _count(model: nn.Module, inputs: Inputs) -> dict[str, int]:
    """Multiply-adds of one image and parameters; nothing of a network that cannot be traced."""
    tensors = tuple(inputs.tensors)
    if isinstance(inputs.args[0], list):  # of images
        tensors = (tensors[0][None],)
    try:
        with warnings.catch_warnings():  # which the user had of his own trace
            warnings.simplefilter("ignore")
            cost = total_cost(trace(model, tensors))
    except ValueError:
        return {}
    return {str(name): int(cost[name]["before"]) for name in cost}
