"""Exercises of 00_start_here: what is left of the work, and which layers lose nothing."""

from collections.abc import Mapping
from typing import Any

from prunelab.exercises.verdict import Wrong, exercise, take_names, take_number
from prunelab.findings import join, percent
from prunelab.graph import ChannelGraph
from prunelab.pruning import make_plan, total_cost


@exercise
def check_flops_left(answer: Any, graph: ChannelGraph, ratios: Mapping[str, float]) -> str:
    """How many multiply-adds, for one image, do these ratios leave of the network? A number.

    Args:
        answer: a number.
        graph: of `trace`.
        ratios: as in `make_plan`.

    Returns:
        The verdict.

    Example:
        >>> exercises.check_flops_left(20_000_000, graph, {"*": 0.5})
    """
    given = take_number(answer)
    cost = total_cost(graph, make_plan(graph, ratios))
    before, left = cost["flops"].astype(int).tolist()
    counted = {column: {int(n) for n in cost[column]} for column in ("params", "params_all")}
    if given == left:
        return (
            f"{percent(left / before)} are left. A layer loses by its own filters, and again by "
            "maps that it no longer reads; layers that lose on neither side keep all their work."
        )
    if 0 < given <= 1:
        near = abs(given - left / before) < 0.005
        raise Wrong(
            f"That is a share{' and it is the right one' * near}; the number of multiply-adds is "
            "asked for."
        )
    if given in counted["params"] | counted["params_all"]:
        raise Wrong("That is a number of parameters; the multiply-adds are in the column flops.")
    if given == before:
        raise Wrong("So many has the whole network; look at the row after.")
    if given == before - left:
        raise Wrong("So many go; how many are left?")
    if given in (2 * left, 2 * before):
        raise Wrong(
            "You counted a multiplication and an addition apart; the paper counts the two once."
        )
    kept = 1 - max(ratios.values())
    if abs(given - kept * before) <= 1:
        raise Wrong(
            f"That is {percent(kept, 0)} of the whole, as if each layer lost just its share of "
            "filters. But its readers lose input maps, too, and some layers lose nothing."
        )
    if abs(given - kept**2 * before) <= 1:
        raise Wrong(
            f"That is {percent(kept**2, 0)} of the whole, as if each layer lost both filters and "
            "input maps. Which layers lose on one side only, or on neither?"
        )
    if abs(given - left) < 0.01 * left:
        raise Wrong("That is close; the exact number is asked for, without rounding.")
    raise Wrong(
        "Count it layer by layer, or let `make_plan` and `total_cost` do it with these ratios."
    )


@exercise
def check_layers_that_stay(answer: Any, graph: ChannelGraph) -> str:
    """Which convolutions can lose no filter? A list of names, such as ["conv_7", "conv_8"].

    Args:
        answer: names of layers; an empty list for none.
        graph: of `trace`.

    Returns:
        The verdict.

    Example:
        >>> exercises.check_layers_that_stay(["conv_1", "conv_3"], graph)
    """
    named = take_names(answer)
    try:
        given = {graph.find(name) for name in named}
    except ValueError as error:
        raise Wrong(str(error)) from None
    free = {name for group in graph.groups if group.prunable for name in group.layers}
    fixed = {name: group for group in graph.groups if not group.prunable for name in group.layers}
    asked = set(graph.layers)
    stay, go = asked & fixed.keys(), asked & free
    if given == stay:
        if not stay:
            return "Each convolution of this network can lose filters."
        reasons = dict.fromkeys(fixed[name].reason for name in graph.layers if name in stay)
        told = join(reasons, "or")
        return f"{len(stay)} of {len(asked)} convolutions keep all, each because {told}."
    if given == go:
        raise Wrong("These are the ones that do lose filters; the others are asked for.")
    if wrong := [name for name in graph.layers if name in given & go]:
        raise Wrong(f"{_call(graph, wrong[0])} does lose filters: `plan.removed` names them.")
    if other := given - asked:
        raise Wrong(f"{_call(graph, min(other))} is no convolution.")
    missing = len(stay - given)
    first = graph.layers[0]
    hint = " What of the very first?" if first in stay - given else ""
    hint = hint or " Which others have their maps added to those of a layer on your list?"
    raise Wrong(
        f"Those do stay, but {missing} more of {len(stay)} {'do' if missing > 1 else 'does'}.{hint}"
    )


def _call(graph: ChannelGraph, layer: str) -> str:
    return graph.shapes[layer].paper_name
