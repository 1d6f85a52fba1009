"""Exercises of 01_filter_norms: norms by hand, the steepest stage, why layers are not compared."""

import math
from typing import Any

import torch
from torch import Tensor

from prunelab.exercises.verdict import Wrong, exercise, take_names, take_number, take_tensor
from prunelab.findings import join, percent
from prunelab.graph import ChannelGraph
from prunelab.pruning import rank_filters


@exercise
def check_norms(answer: Any, graph: ChannelGraph, layer: str) -> str:
    """What is the ℓ1-norm of each filter of this layer? A tensor, one number for each filter.

    Args:
        answer: (filters,)
        graph: of `trace`.
        layer: by its qualified or its paper name.

    Returns:
        The verdict.

    Example:
        >>> exercises.check_norms(weight.abs().sum(dim=(1, 2, 3)), graph, "conv_2")
    """
    name = graph.find(layer)
    weight = graph.filters(name).float().cpu()
    given = _take_any(answer)
    _name_other_sums(given, weight)
    given = take_tensor(given, (len(weight),))
    norms = weight.flatten(1).abs().sum(1)
    if _same(given, norms):
        order = norms.argsort()
        least, most = int(order[0]), int(order[-1])
        return (
            f"Filter {least} of {graph.shapes[name].paper_name} is the smallest, with "
            f"{percent(float(norms[least] / norms[most]), 0)} of the norm of filter {most}, the "
            "largest: it would go first. No image was needed to say so."
        )
    if _same(given.sort().values, norms.sort().values):
        raise Wrong(
            "The norms are right, but sorted: leave them in the order of the filters, whose places "
            "say which is meant."
        )
    if _same(given, norms / norms.max()):
        raise Wrong("You divided by the largest; the norms themselves are asked for.")
    raise Wrong(
        "The shape is right, the numbers are not: of the weight (filters, inputs, height, width), "
        "take magnitudes, and add them up over all dimensions but the first."
    )


def _take_any(answer: Any) -> Tensor:
    try:
        given = answer if isinstance(answer, Tensor) else torch.as_tensor(answer)
        return given.detach().float().cpu()
    except (TypeError, ValueError, RuntimeError):
        return take_tensor(answer, ())  # it says what was given


def _name_other_sums(given: Tensor, weight: Tensor) -> None:
    """Wrong for what is often taken for ℓ1-norms of filters."""
    sizes, last = weight.abs(), tuple(range(2, weight.ndim))
    flat = weight.flatten(1)
    others = {
        "these are ℓ2-norms: squares are added up, and the root is taken; ℓ1 adds up magnitudes": (
            flat.norm(dim=1)
        ),
        "these are sums of squares; ℓ1 adds up magnitudes": (flat**2).sum(1),
        "these are means of the magnitudes; the norm is their sum": flat.abs().mean(1),
        "positive and negative weights cancel in a plain sum: take magnitudes first": flat.sum(1),
        "these are magnitudes of plain sums: take magnitudes first, then add up": flat.sum(1).abs(),
        "these are the largest magnitudes (ℓ∞); ℓ1 adds up all": flat.abs().amax(1),
        "these are norms of kernels, one for each filter and input: a filter is all its kernels": (
            sizes.sum(last) if last else sizes
        ),
        "these are norms of input channels: the filters are in the first dimension": (
            sizes.transpose(0, 1).flatten(1).sum(1)
        ),
        "this is the norm of the whole layer: one number for each filter is asked for": sizes.sum(),
    }
    right = flat.abs().sum(1)
    for what, found in others.items():
        if _same(given, found) and not _same(found, right):
            raise Wrong(f"{what[0].upper()}{what[1:]}.")


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-6)


@exercise
def check_steepest(answer: Any, graph: ChannelGraph) -> str:
    """In which stage are the norms steepest: least, on average, smallest over largest? A name.

    Args:
        answer: `"stage1"`, say.
        graph: of `trace`.

    Returns:
        The verdict.

    Example:
        >>> exercises.check_steepest("stage1", graph)
    """
    named = take_names(answer)
    if len(named) != 1:
        raise Wrong(f"You named {len(named)}; one stage is asked for.")
    given = named.pop()
    ranked = rank_filters(graph)
    shares = ranked.groupby(["stage", "paper_name"])["share"]
    least, mean = shares.min(), shares.mean()
    stages = least.groupby("stage").mean()
    if given not in stages.index:
        raise Wrong(f"There is no stage {given!r}; the stages are {join(stages.index)}.")
    said = (
        f"there the smallest norm is {percent(float(stages[given]), 0)} of the largest on average"
    )
    if math.isclose(stages[given], stages.min(), rel_tol=1e-3):
        told = ", ".join(f"{stage} {percent(share, 0)}" for stage, share in stages.items())
        return (
            f"Smallest over largest: {told}. By §3.2 the steepest should be robust, the flattest "
            "sensitive: whether they are, only images can say."
        )
    if given == stages.idxmax():
        raise Wrong(f"That is the flattest: {said}.")
    if given == least.sort_values().index.get_level_values("stage")[0]:
        raise Wrong(f"The steepest layer is in it, but the others of it are flatter: {said}.")
    if given == mean.groupby("stage").mean().idxmin():
        raise Wrong(f"It is by the mean norm; by the smallest, another falls lower: {said}.")
    raise Wrong(f"In another the norms fall lower: {said}.")


@exercise
def check_filter_size(answer: Any, graph: ChannelGraph, layer: str, other: str) -> str:
    """How many weights has a filter of `layer`, for each weight of a filter of `other`? A number.

    Args:
        answer: weights in a filter of `layer` over weights in a filter of `other`.
        graph: of `trace`.
        layer: by its qualified or its paper name.
        other: likewise.

    Returns:
        The verdict; of a right answer, also what that does to the norms.

    Example:
        >>> exercises.check_filter_size(4, graph, "conv_19", "conv_2")
    """
    given = take_number(answer)
    one, two = graph.filters(graph.find(layer)), graph.filters(graph.find(other))
    names = [graph.shapes[graph.find(name)].paper_name for name in (layer, other)]
    right = one[0].numel() / two[0].numel()
    if math.isclose(given, right, rel_tol=0.01):
        norms = [float(weight.flatten(1).abs().sum(1).mean()) for weight in (one, two)]
        larger = norms[0] > norms[1]
        more = right > 1
        told = (
            f"A filter of {names[0]} adds up {one[0].numel()} magnitudes, one of {names[1]} "
            f"{two[0].numel()}; the mean norms are {norms[0]:.1f} and {norms[1]:.1f}."
        )
        if right == 1:
            return f"{told} Of filters of one size, what differs is the weights alone."
        if larger == more:
            return f"{told} Size alone makes norms of different layers differ: compare within one."
        return f"{told} Here the weights differ by more than the sizes: compare within a layer."
    wrongs = {
        1 / right: "That is the second over the first; the first over the second is asked for.",
        one.numel() / two.numel(): "These are the weights of whole layers: divide by the filters.",
        len(one) / len(two): "That compares how many filters there are, not how large one is.",
        one[0].numel(): f"So many weights has a filter of {names[0]}; over those of {names[1]}?",
        two[0].numel(): f"So many weights has a filter of {names[1]}; those of {names[0]} over it?",
        one.shape[1:].numel() / two[0, 0].numel(): (
            "You forgot the input channels of the second: a filter has a kernel for each."
        ),
        one[0, 0].numel() / two[0, 0].numel(): (
            "You compared kernels: a filter has one for each input channel."
        ),
    }
    for number, what in wrongs.items():
        if math.isclose(given, number, rel_tol=0.01):
            raise Wrong(what)
    raise Wrong("A filter has a weight for each input channel and each place of its k×k kernels.")
