"""Exercises of 02_removing_a_filter: pruned by hand, and what zeroing leaves."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.exercises.verdict import Wrong, exercise, take_tensor
from prunelab.findings import join
from prunelab.graph import ChannelGraph
from prunelab.pruning import PruningPlan, make_plan, mask, prune


@exercise
def check_removal(answer: Any, graph: ChannelGraph, layer: str, ratio: float) -> str:
    """Remove the smallest filters by hand: {name: tensor} of all that changes in the state dict.

    Args:
        answer: {name in the state dict: what is left of that tensor}; those that stay as they are
            may be in it.
        graph: of `trace`.
        layer: by its qualified or its paper name.
        ratio: the fraction of its filters that goes.

    Returns:
        The verdict: held against `prune`.

    Example:
        >>> exercises.check_removal({"layer1.0.conv1.weight": weight[keep]}, graph, "conv_2", 0.25)
    """
    if not isinstance(answer, Mapping) or not answer:
        raise Wrong("A dict {name in the state dict: tensor} is asked for, with what changes.")
    plan, name = make_plan(graph, {layer: ratio}), graph.find(layer)
    before = graph.model.state_dict()
    after = prune(graph.model, plan, graph=graph).state_dict()
    for key, tensor in answer.items():
        if key not in before:
            raise Wrong(f"There is no {key!r} in the state dict.")
        if not isinstance(tensor, Tensor):
            raise Wrong(f"{key} should be a tensor; yours is a {type(tensor).__name__}.")
    changed = [key for key in before if before[key].shape != after[key].shape]
    own = graph.shapes[name].weight
    changed.sort(key=lambda key: key != own)  # the layer's own filters first
    largest = prune(graph.model, make_plan(graph, {layer: ratio}, order="largest"), graph=graph)
    gone = {key: _left_out(before[key], after[key]) for key in changed}
    for key in changed:
        _compare_tensor(key, answer.get(key), before[key], after[key], gone[key], graph, name)
        if _equal(answer[key], largest.state_dict()[key]):
            raise Wrong(f"{key}: you removed the filters with the largest norms.")
        if not _equal(answer[key], after[key]):
            raise Wrong(_say_other(key, answer[key], before[key], after[key], key == own))
    for key in answer:
        if key not in changed and not _equal(answer[key], before[key]):
            raise Wrong(f"{key} does not change when these filters go, but yours is another.")
    numbers = sum(before[key].numel() - after[key].numel() for key in changed)
    return (
        f"The same as `prune`: {numbers:,} numbers go, in {len(changed)} of {len(before)} tensors. "
        "What is left is a smaller, dense network."
    )


def _left_out(before: Tensor, after: Tensor) -> int:
    """The dimension in which slices go."""
    return next(d for d in range(before.ndim) if before.shape[d] != after.shape[d])


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(
        one.detach().float().cpu(), other.float().cpu(), rtol=1e-4, atol=1e-6
    )


def _compare_tensor(
    key: str,
    given: Tensor | None,
    before: Tensor,
    after: Tensor,
    dim: int,
    graph: ChannelGraph,
    layer: str,
) -> None:
    """Wrong for a tensor that is missing, as before, or of another shape."""
    owner, _, attribute = key.rpartition(".")
    roles = graph.coupled(layer).drop_duplicates("module").set_index("module")["role"]
    role = str(roles.get(owner, ""))
    if given is None or (given.shape == before.shape and _equal(given, before)):
        if role == "reads":
            raise Wrong(f"{key}: it still has the kernels that read the maps that are gone.")
        if attribute.startswith("running_"):
            raise Wrong(
                f"{key}: batch norm keeps a running mean and a running variance of each map, too."
            )
        if role == "follows":
            raise Wrong(f"{key}: the norm behind the filters still has entries of removed maps.")
        raise Wrong(f"{key}: its filters are all still there.")
    if given.shape == after.shape:
        return
    if given.shape == before.shape:
        raise Wrong(f"{key}: you set slices to zero, but its shape is as before: cut them out.")
    shape = tuple(given.shape)
    if given.ndim != before.ndim:
        raise Wrong(f"{key} has the shape {shape}: it should keep its {before.ndim} dimensions.")
    axes = [d for d in range(before.ndim) if given.shape[d] != before.shape[d]]
    if axes != [dim]:
        what = "its input channels" if dim else "its filters"
        raise Wrong(
            f"{key} has the shape {shape}: you cut along dimension {join(map(str, axes))}; what "
            f"goes are {what if before.ndim > 1 else 'entries'}, in dimension {dim}."
        )
    left, right = given.shape[dim], after.shape[dim]
    if left == before.shape[dim] - right:
        raise Wrong(f"{key} has {left} slices left: it seems that you kept those that should go.")
    raise Wrong(
        f"{key} has {left} slices left of {before.shape[dim]}, so you removed "
        f"{before.shape[dim] - left}: a wrong number of filters."
    )


def _say_other(key: str, given: Tensor, before: Tensor, after: Tensor, own: bool) -> str:
    """Of a tensor of the right shape: which slices it holds instead."""
    dim = _left_out(before, after)
    rows = before.movedim(dim, 0).flatten(1) if before.ndim > 1 else before[:, None]
    found = given.detach().to(before).movedim(dim, 0)
    found = found.flatten(1) if given.ndim > 1 else found[:, None]
    near = [(rows - row).abs().amax(1) for row in found]
    places = [int(gap.argmin()) if float(gap.min()) < 1e-5 else -1 for gap in near]
    if -1 in places:
        return f"{key} has the right shape, but holds numbers that were not in it before."
    if places != sorted(places):
        return f"{key} holds its slices in another order: keep that of before."
    if own:
        return f"{key} lacks other filters than those with the smallest ℓ1-norms."
    return f"{key} lacks other slices than the filters that are gone: use the same numbers."


@exercise
def check_leak(answer: Any, graph: ChannelGraph, plan: PruningPlan, layer: str) -> str:
    """What does each zeroed filter of this layer send to its reader? A tensor, a number for each.

    Args:
        answer: (filters removed,), in the order of `plan.removed`.
        graph: of `trace`.
        plan: of `make_plan`; its filters are set to zero.
        layer: by its qualified or its paper name.

    Returns:
        The verdict: held against what the network computes.

    Example:
        >>> exercises.check_leak(torch.zeros(4), graph, plan, "conv_2")
    """
    name = graph.find(layer)
    gone = plan.removed[name]
    sent = _read_zeroed(graph, plan, name)
    norm = _norm_behind(graph, name)
    given = answer if isinstance(answer, Tensor) else take_tensor(answer, (len(gone),))
    given = given.detach().float().cpu()
    if len(sent) != len(gone) and given.shape == sent.shape:
        raise Wrong(
            f"That is a number for each filter; those of the {len(gone)} removed are asked."
        )
    given, right = take_tensor(given, (len(gone),)), sent[gone]
    if _close(given, right):
        leaks = int((right > 0).sum())
        return (
            f"So the network computes it: {leaks} of {len(gone)} zeroed filters send something on, "
            f"up to {right.max():.2f} in every pixel. Removed filters send nothing."
        )
    if not given.any():
        raise Wrong(
            "The maps of zeroed filters are zero, but what stands between them and their reader "
            "makes something of a zero: what does batch norm add?"
        )
    for what, number in _slips(norm).items() if norm else ():
        if _close(given, number.detach().float().cpu()[gone]):
            raise Wrong(f"{what}.")
    if _close(given.sort().values, right.sort().values):
        raise Wrong("The numbers are right, but not in the order of `plan.removed`.")
    raise Wrong(
        "The network computes something else. Put a zero into batch norm, (0 - mean) / deviation · "
        "weight + bias with its running mean and variance, and what comes out into the ReLU."
    )


def _slips(norm: nn.BatchNorm2d) -> dict[str, Tensor]:
    """What is often taken for what batch norm and ReLU make of a zero map."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:  # one of its batch's own statistics
        return {}
    weight, bias, deviation = norm.weight, norm.bias, (variance + norm.eps).sqrt()
    return {
        "That is what batch norm makes of a zero; a ReLU comes after it": (
            bias - mean * weight / deviation
        ),
        "That is batch norm's bias; it also takes its running mean off, before it scales": bias,
        "That is batch norm's bias after the ReLU; its running mean is taken off, too": bias.relu(),
        "Batch norm divides by the deviation, the root of the running variance": (
            bias - mean * weight / (variance + norm.eps)
        ).relu(),
        "The running mean is taken off, not added": (bias + mean * weight / deviation).relu(),
        "After the running mean is taken off, batch norm divides by the deviation": (
            bias - mean * weight
        ).relu(),
        "Batch norm also scales by its weight": (bias - mean / deviation).relu(),
    }


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-2, atol=5e-3)  # two digits are enough


def _norm_behind(graph: ChannelGraph, layer: str) -> nn.BatchNorm2d | None:
    coupled = graph.coupled(layer)
    for name in coupled.loc[coupled["role"] == "follows", "module"]:
        module = graph.model.get_submodule(name)
        if isinstance(module, nn.BatchNorm2d):
            return module
    return None


def _read_zeroed(graph: ChannelGraph, plan: PruningPlan, layer: str) -> Tensor:
    """What the reader gets from each filter, in one pixel, where those of the plan are zero."""
    coupled = graph.coupled(layer)
    reader = coupled.loc[coupled["role"] == "reads", "module"].iloc[0]
    zeroed = mask(graph.model, plan, graph=graph).eval()
    seen: list[Tensor] = []
    hook = zeroed.get_submodule(reader).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].detach())
    )
    parameter = next(zeroed.parameters())
    with torch.no_grad():
        zeroed(*(torch.zeros(shape, device=parameter.device) for shape in graph.input_shapes))
    hook.remove()
    return seen[0].flatten(2)[0, :, -1].float().cpu()
