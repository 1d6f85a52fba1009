"""How much goes before each retraining (Li et al. 2017, §3.4): all, a layer, a filter, a part."""

from collections.abc import Mapping

from prunelab.graph import ChannelGraph
from prunelab.pruning.selection import count_removed, resolve_ratios
from prunelab.utils.checks import check_choice

SCHEDULES = ("once", "layer by layer", "filter by filter", "rounds")


def make_steps(
    graph: ChannelGraph,
    ratios: Mapping[str, float],
    schedule: str,
    *,
    rounds: int = 1,
    rounding: str = "ceil",
) -> list[dict[str, int]]:
    """For each step of a schedule, how many filters of a group stay.

    Args:
        graph: of the whole network.
        ratios: as in `make_plan`.
        schedule: one of `SCHEDULES`.
        rounds: for the schedule `rounds`, in how many equal steps the ratios are reached.
        rounding: as in `make_plan`.

    Returns:
        For each step {leader: filters}, in forward order. Groups whose filters go in twos or more
        (units) are counted by those.

    Example:
        >>> make_steps(graph, {"conv_2": 0.5}, "rounds", rounds=2)  # of 16 filters
        [{'layer1.0.conv1': 12}, {'layer1.0.conv1': 8}]
    """
    check_choice("schedule", schedule, SCHEDULES)
    chosen = resolve_ratios(graph, ratios)
    sizes = {g.leader: len(g.units) for g in graph.groups if g.leader in chosen}
    goes = {leader: count_removed(chosen[leader], size, rounding) for leader, size in sizes.items()}
    if schedule == "layer by layer":
        return [{leader: size - goes[leader]} for leader, size in sizes.items()]
    steps: list[dict[str, int]] = []
    if schedule == "filter by filter":
        for leader, size in sizes.items():
            steps += [{leader: size - i} for i in range(1, goes[leader] + 1)]
        return steps
    rounds = 1 if schedule == "once" else rounds
    for i in range(1, rounds + 1):
        step = {}
        for leader, size in sizes.items():
            step[leader] = size - count_removed(chosen[leader] * i / rounds, size, rounding)
        steps.append(step)
    return steps


def find_ratios(graph: ChannelGraph, step: Mapping[str, int]) -> dict[str, float]:
    """The ratios by which a network, pruned so far as it is, gets to a step of `make_steps`."""
    left = {g.leader: len(g.units) for g in graph.groups}
    return {leader: 1 - stay / left[leader] for leader, stay in step.items() if stay < left[leader]}
