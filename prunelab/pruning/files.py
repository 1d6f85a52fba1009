"""Pruned models on disk: tensors, plan and architecture in one safetensors file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.models import load_model
from prunelab.pruning.plan import PruningPlan, check_widths
from prunelab.pruning.surgery import prune
from prunelab.utils.tensors import load_tensors, read_tensors, write_tensors


def save_pruned(
    path: str | Path,
    model: nn.Module,
    plan: PruningPlan,
    *,
    info: Mapping[str, Any] | None = None,
) -> Path:
    """Write a pruned model as one safetensors file.

    The file holds the tensors and a JSON header: the plan, the architecture's name (for models of
    `load_model`) and `info`. It is written whole or not at all.

    Args:
        path: the file.
        model: what `prune` made, retrained or not.
        plan: by which it was made.
        info: plain JSON to keep with it: normalisation, classes, scores, …

    Returns:
        The path.

    Raises:
        ValueError: `model` does not have the widths of `plan`.
        OSError: the disk is full; what was there before is untouched.

    Example:
        >>> save_pruned("small.safetensors", small, plan)
        >>> same = load_pruned("small.safetensors")
    """
    planned = {name: len(kept) for name, kept in plan.keep.items()}
    check_widths(planned, _find_widths(model, plan), type(model).__name__)
    header = {
        "plan": json.loads(plan.to_json()),
        "architecture": getattr(model, "architecture", None),
        "info": dict(info or {}),
    }
    return write_tensors(path, model.state_dict(), header)


def _find_widths(model: nn.Module, plan: PruningPlan) -> dict[str, int]:
    """How many filters the layers of a plan have in a model.

    A layer whose weight the model's code computes has none that could be counted: that of the plan
    is taken.
    """
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    modules = dict(model.named_modules())
    found = {}
    for name, kept in plan.keep.items():
        owner = modules.get(name)
        if isinstance(owner, nn.modules.conv._ConvTransposeNd):  # its filters: second dimension
            found[name] = owner.out_channels
        elif owner is not None and isinstance(getattr(owner, "weight", None), Tensor):
            found[name] = owner.weight.shape[0]  # also of a parametrised one
        elif name in tensors:
            found[name] = tensors[name].shape[0]
        elif owner is None:
            found[name] = len(kept)
    return found


def load_pruned(path: str | Path, model: nn.Module | None = None) -> nn.Module:
    """The pruned model of a file, in evaluation mode on the CPU.

    Args:
        path: a file of `save_pruned`.
        model: an unpruned instance of the same network, left untouched; needed only when the
            network did not come from `load_model`.

    Returns:
        The network, with its tensors as they were saved, to the bit.

    Raises:
        ValueError: the file is torn, foreign or altered, or of another network.
        FileNotFoundError: there is no such file.
    """
    tensors, header = read_tensors(path)
    if "plan" not in header:
        raise ValueError(f"{path} holds no pruned model; it was not written by save_pruned")
    plan = PruningPlan.from_json(json.dumps(header["plan"]))
    architecture = header["architecture"]
    if model is None and architecture is None:
        raise ValueError(
            f"{path} holds a network of your own: pass an unpruned instance, "
            "load_pruned(path, MyNet())"
        )
    if model is None:
        with torch.random.fork_rng(devices=[]):
            model = load_model(architecture["name"], num_classes=architecture["num_classes"])
    small = prune(model, plan)
    load_tensors(small, tensors)
    return small.cpu().eval()
