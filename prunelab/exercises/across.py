"""Exercises of notebook 04: greedy scores by hand, and maps that are tied."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from prunelab.exercises.verdict import Wrong, exercise, take_names, take_number, take_tensor
from prunelab.findings import join, percent
from prunelab.graph import ChannelGraph
from prunelab.pruning import make_plan, total_cost


@exercise
def check_greedy(answer: Any, graph: ChannelGraph, layer: str, lost: Collection[int]) -> str:
    """A tensor is asked for: the greedy score of each filter of the layer.

    Args:
        answer: one number for each filter.
        graph: of a network whose layers follow one another.
        layer: the one that is scored.
        lost: the filters that the layer before has lost.

    Returns:
        A verdict.

    Example:
        >>> exercises.check_greedy(scores, graph, "conv_2", plan.removed[graph.find("conv_1")])
    """
    weight = graph.filters(graph.find(layer)).float().cpu()  # (out, in, kh, kw)
    scores = take_tensor(answer, (len(weight),))
    gone = torch.zeros(weight.shape[1], dtype=torch.bool)
    gone[torch.tensor(sorted(lost), dtype=torch.long)] = True
    left = weight[:, ~gone]
    if _same(scores, left.abs().flatten(1).sum(1)):
        moved = _count_changed(left.abs().flatten(1).sum(1), weight.abs().flatten(1).sum(1))
        return (
            f"A filter counts by the kernels that still read something. Half of {layer}'s filters "
            f"gone, {moved} of {len(weight) // 2} would be others than by independent scoring."
        )
    known = {
        "These are the independent scores: all kernels count, also those whose maps are gone.": (
            weight.abs().flatten(1).sum(1)
        ),
        "These are ℓ2-norms of what is left; the criterion is ℓ1, the sum of absolute values.": (
            left.square().flatten(1).sum(1).sqrt()
        ),
        "These are the sums over the kernels that have nothing to read any more: kept and removed "
        "are mixed up.": weight[:, gone].abs().flatten(1).sum(1),
        "These are sums without absolute values: positive and negative weights cancel.": (
            left.flatten(1).sum(1)
        ),
        "These are means; the criterion is the sum. (Their order is the same.)": (
            left.abs().flatten(1).mean(1)
        ),
        "These are the scores of another cut: filters of this layer were left out, and not the "
        "kernels of each filter. Which dimension of the weight is the input?": (
            _cut_filters(weight, gone)
        ),
    }
    for what, wrong in known.items():
        if _same(scores, wrong):
            raise Wrong(what)
    off = int((~torch.isclose(scores, left.abs().flatten(1).sum(1), rtol=1e-3)).sum())
    raise Wrong(
        f"{off} of {len(weight)} scores are others. The weight of {layer} has the shape (filters, "
        "input maps, height, width): which input maps are left?"
    )


@exercise
def check_tied(answer: Any, graph: ChannelGraph, layer: str) -> str:
    """A list of names is asked for: the layers that must lose the same filters.

    Args:
        answer: names, or paper names; with or without the layer itself.
        graph: of `trace`.
        layer: whose filters go.

    Returns:
        A verdict.

    Example:
        >>> exercises.check_tied(["conv_9", "conv_11"], graph, "conv_9")
    """
    named = _find_all(graph, take_names(answer)) | {graph.find(layer)}
    group = set(graph.group_of(layer).layers)
    coupled = graph.coupled(layer)
    readers = set(coupled.loc[coupled["role"] == "reads", "module"]) - group
    if readers & named:
        raise Wrong(
            f"{_say(graph, readers & named)}: such a layer reads these maps. It loses input "
            "kernels, and keeps its filters."
        )
    if named - group:
        raise Wrong(
            f"{_say(graph, named - group)} can lose other filters than {layer}: is its output "
            "added to the same sum?"
        )
    if group - named:
        missing = len(group - named)
        hint = ""
        if any(graph.shapes[name].kind == "shortcut" for name in group - named):
            hint = " What stands on the other side of the first addition of the stage?"
        raise Wrong(f"All of yours are tied, but {missing} more must follow.{hint}")
    return (
        f"{len(group)} layers are added into one sum, so they keep the same places: map i of one "
        "is added to map i of the others."
    )


@exercise
def check_leader(answer: Any, graph: ChannelGraph, layer: str) -> str:
    """A name is asked for: the layer whose norms decide for all that are tied.

    Args:
        answer: a name, or paper name.
        graph: of `trace`.
        layer: one of those that are tied.

    Returns:
        A verdict.

    Example:
        >>> exercises.check_leader("conv_9", graph, "conv_9")
    """
    names = _find_all(graph, take_names(answer))
    if len(names) != 1:
        raise Wrong(f"You named {len(names)} layers; one leads.")
    group = graph.group_of(layer)
    if names == {group.leader}:
        return (
            "Its 1×1 filters make the maps that all of the stage is added to, so their norms "
            "choose (§3.3), and the second convolutions follow."
            if graph.shapes[group.leader].kind == "shortcut"
            else "It is the first whose maps enter the sum."
        )
    (name,) = names
    if name in group.layers:
        raise Wrong(
            f"{graph.shapes[name].paper_name} is tied, but follows. Which maps are there before "
            "any block has added its own (§3.3)?"
        )
    raise Wrong(f"{graph.shapes[name].paper_name} does not belong to those that are tied.")


@exercise
def check_share(answer: Any, graph: ChannelGraph, ratios: Mapping[str, float]) -> str:
    """A fraction is asked for: the share of the multiply-adds that goes, shortcuts left out.

    Args:
        answer: a number.
        graph: of the network, traced with images of its size.
        ratios: {layer: ratio}, what goes.

    Returns:
        A verdict.

    Example:
        >>> exercises.check_share(0.1, graph, {"shortcut_2": 0.2})
    """
    share = take_number(answer)
    plan = make_plan(graph, ratios)
    cost = {way: total_cost(graph, plan, shortcuts=way) for way in (False, True)}
    gone = {way: (1 - own.loc["after"] / own.loc["before"]).to_dict() for way, own in cost.items()}
    right, exact = gone[False]["flops"], 5e-5
    if abs(share - right) <= exact:
        return (
            f"{percent(right, 2)} goes; with the shortcuts it would be "
            f"{percent(gone[True]['flops'], 2)}. Table 1 prints 7.5 % for "
            "ResNet-34-pruned-C. Such small differences tell how others counted."
        )
    known = {
        "This is the share of what goes counted with the projection shortcuts, which the paper "
        "leaves out. `total_cost` has an argument for that.": gone[True]["flops"],
        "This is the share of the parameters that goes; the multiply-adds are asked for.": (
            gone[False]["params"]
        ),
        "This is in per cent; a fraction is asked for.": 100 * right,
        "This is what is left; what goes is asked for.": 1 - right,
    }
    for what, wrong in known.items():
        if abs(share - wrong) <= (exact if wrong < 1.5 else 5e-3):
            raise Wrong(what)
    before, after = cost[False]["flops"]
    if share in (before, after, before - after):
        raise Wrong("This is a number of multiply-adds; what share of all of them goes?")
    raise Wrong(
        "It is another. Make the plan, and set `total_cost(graph, plan)` before beside after; "
        "four digits behind the point are enough."
    )


def _find_all(graph: ChannelGraph, names: Collection[str]) -> set[str]:
    try:
        return {graph.find(name) for name in names}
    except ValueError as error:
        raise Wrong(str(error)) from None


def _say(graph: ChannelGraph, layers: Collection[str]) -> str:
    return join(graph.shapes[name].paper_name for name in graph.layers if name in layers)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-6)


def _cut_filters(weight: Tensor, gone: Tensor) -> Tensor:
    """All scores, and 0 for filters of the numbers that the layer before has lost."""
    scores = weight.abs().flatten(1).sum(1)
    if len(scores) == len(gone):
        scores = scores * ~gone
    return scores


def _count_changed(one: Tensor, other: Tensor) -> int:
    """How many of the smaller half by one score are not among that by the other."""
    half = len(one) // 2
    smallest = [set(own.argsort(stable=True)[:half].tolist()) for own in (one, other)]
    return len(smallest[0] - smallest[1])
