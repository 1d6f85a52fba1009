"""Pruned models on disk: tensors, plan and architecture in one safetensors file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.models.families import build_network
from prunelab.models.weights import (
    compare_tensors,
    describe_network,
    plain_info,
    read_architecture,
    read_plan,
    say_problems,
    warn_of_infinite,
)
from prunelab.pruning import PruningPlan, check_widths, prune
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
        ValueError: `model` does not have the widths of `plan`, or has tensors without numbers (on
            the device meta); `info` is no plain JSON.
        OSError: the disk is full; what was there before is untouched.

    Example:
        >>> save_pruned("small.safetensors", small, plan)
        >>> same = load_pruned("small.safetensors")
    """
    if not isinstance(model, nn.Module) or not isinstance(plan, PruningPlan):
        given = f"{type(model).__name__} and {type(plan).__name__}"
        raise ValueError(f"save_pruned takes a model of prune and its plan, not {given}")
    planned = {name: len(kept) for name, kept in plan.keep.items()}
    check_widths(planned, _find_widths(model, plan), type(model).__name__)
    about = {"plan": json.loads(plan.to_json()), "info": plain_info(info)}
    header = describe_network(model) | about
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


def load_pruned(path: str | Path, model: nn.Module | str | None = None) -> nn.Module:
    """The pruned model of a file, in evaluation mode on the CPU.

    Args:
        path: a file of `save_pruned`.
        model: an unpruned instance of the same network, left untouched, or its name for
            `load_model`. None: the name that the file gives. Of those, a function of your own is
            called only if you gave its name before, on this machine: code is not run because a file
            asks for it.

    Returns:
        The network, with its tensors as they were saved, to the bit.

    Raises:
        ValueError: the file is torn, foreign or altered, or of another network.
        FileNotFoundError: there is no such file.

    Example:
        >>> small = load_pruned("small.safetensors")
    """
    tensors, header = read_tensors(path)
    if "plan" not in header:
        raise ValueError(f"{path} holds no pruned model; it was not written by save_pruned")
    plan = read_plan(path, header["plan"])
    if not isinstance(model, nn.Module):
        model = _build(path, read_architecture(path, tensors, header), model)
    small = prune(model, plan).cpu()
    if problems := compare_tensors(small.state_dict(), tensors):
        raise ValueError(f"{path} does not hold the tensors of its plan; {say_problems(problems)}")
    _take_dtypes(small, tensors)
    load_tensors(small, tensors)
    warn_of_infinite(str(path), small)
    return small.eval()


def _take_dtypes(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Make a model's tensors, in place, of the kinds of numbers of those that it will hold."""
    kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(kinds) == 1:  # that of the whole model, and so of buffers that are not saved
        kind = kinds.pop()
        model._apply(lambda tensor: tensor.to(kind) if tensor.is_floating_point() else tensor)
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    for name in own.keys() & tensors.keys():
        own[name].data = own[name].data.to(tensors[name].dtype)


def _build(path: str | Path, about: dict[str, Any] | None, name: str | None) -> nn.Module:
    """An unpruned instance of the network of a file, by the name given or else the file's."""
    if about is None and name is None:
        raise ValueError(
            f"{path} holds a network of your own: pass an unpruned instance, "
            "load_pruned(path, MyNet())"
        )
    about = about or {}
    classes, options = about.get("num_classes", 10), about.get("options")
    with torch.random.fork_rng(devices=[]):
        if name is not None:
            return build_network(name, classes, options)
        return build_network(about["name"], classes, options, trusted_only=True)
