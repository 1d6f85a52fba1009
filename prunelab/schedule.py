"""How much goes before each retraining: all, a layer, a filter, or a part of every layer (Li et al. 2017, §3.4)."""

from collections.abc import Mapping

from prunelab.graph import ChannelGraph
from prunelab.plan import check_choice, count_removed, resolve_ratios

SCHEDULES = ("once", "layer by layer", "filter by filter", "rounds")


def make_steps(
    graph: ChannelGraph, ratios: Mapping[str, float], schedule: str, *, rounds: int = 1, rounding: str = "ceil"
) -> list[dict[str, int]]:
    """For each step of a schedule, how many filters of a group stay: {leader: filters}, in forward order.

    graph: of the whole network. rounds: for the schedule `rounds`, in how many equal steps the ratios are reached.
    Groups whose filters go in twos or more (units) are counted by those.

    >>> make_steps(graph, {"conv_2": 0.5}, "rounds", rounds=2)  # of 16 filters
    [{'layer1.0.conv1': 12}, {'layer1.0.conv1': 8}]
    """
    check_choice("schedule", schedule, SCHEDULES)
    chosen = resolve_ratios(graph, ratios)
    sizes = {g.leader: len(g.units) for g in graph.groups if g.leader in chosen}
    goes = {leader: count_removed(chosen[leader], size, rounding) for leader, size in sizes.items()}
    if schedule == "layer by layer":
        return [{leader: size - goes[leader]} for leader, size in sizes.items()]
    if schedule == "filter by filter":
        return [{leader: size - i} for leader, size in sizes.items() for i in range(1, goes[leader] + 1)]
    if schedule == "once":
        rounds = 1
    return [
        {leader: size - count_removed(chosen[leader] * i / rounds, size, rounding) for leader, size in sizes.items()}
        for i in range(1, rounds + 1)
    ]


def find_ratios(graph: ChannelGraph, step: Mapping[str, int]) -> dict[str, float]:
    """The ratios by which a network, pruned so far as it is, gets to a step of `make_steps`."""
    left = {g.leader: len(g.units) for g in graph.groups}
    return {leader: 1 - stay / left[leader] for leader, stay in step.items() if stay < left[leader]}
