"""Filters that are picked by hand: they stay or go, whatever their score."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from prunelab.graph import ChannelGraph, Group
from prunelab.utils.checks import check_whole

Picks = Mapping[str, Iterable[int]]  # {layer: original numbers of filters}


def read_picks(
    graph: ChannelGraph, keep: Mapping[str, list[int]], drop: Mapping[str, list[int]]
) -> dict[str, Tensor]:
    """What is picked by hand; keys and errors as in `make_plan`.

    Args:
        graph: of `trace`.
        keep: filters that stay, of `list_picks`.
        drop: filters that go; those that went before are no error.

    Returns:
        ``{leader: (units,)}``: -1 for a unit that goes, 1 for one that stays, 0 for the others.
    """
    picks: dict[str, Tensor] = {}
    for sign, chosen in ((1, keep), (-1, drop)):
        for layer, numbers in chosen.items():
            (group,) = graph.select(graph.find(layer))
            own = picks.setdefault(group.leader, torch.zeros(len(group.units), dtype=torch.int))
            units = _find_units(graph, group, graph.find(layer), numbers, gone=sign < 0)
            if bool((own[units] == -sign).any()):
                raise ValueError(
                    f"filters of {layer} are both in keep and in drop: what goes together with "
                    f"{numbers} cannot stay and go"
                )
            own[units] = sign
    for leader, own in picks.items():
        _check_left(graph.group_of(leader), own)
    return picks


def list_picks(chosen: Picks | None) -> dict[str, list[int]]:
    """Picks as plain sorted lists, without the layers that have none."""
    if chosen is not None and not isinstance(chosen, Mapping):
        raise ValueError(
            f"keep and drop map layers to filters, {{'conv_2': [0, 7]}}; got {chosen!r}"
        )
    lists = {}
    for layer, numbers in (chosen or {}).items():
        single = getattr(numbers, "ndim", 1) == 0  # which says that it can be iterated over
        if single or isinstance(numbers, str) or not isinstance(numbers, Iterable):
            raise ValueError(f"the filters of {layer!r} must be a list of numbers; got {numbers!r}")
        own = list(numbers)
        for number in own:
            check_whole(f"a filter of {layer!r}", number, least=0)
        if own:
            lists[layer] = sorted({int(number) for number in own})
    return lists


def _find_units(
    graph: ChannelGraph, group: Group, layer: str, numbers: list[int], *, gone: bool
) -> Tensor:
    """The units that filters of a layer belong to; with `gone`, without those that went before."""
    there = graph.numbers[layer]
    last = graph.widths[layer] - 1
    odd = [n for n in numbers if n > last or not (gone or n in there)]
    if odd:
        what = f"0 … {last}" if odd[-1] > last else f"{there.tolist()}, what is left of them"
        raise ValueError(f"{layer} has no filter {odd[-1]}; its filters are {what}")
    places = torch.isin(there, torch.tensor(numbers))
    labels = graph.channels.root[graph.channels.made[layer]][places]
    return torch.isin(group.units, labels).nonzero().squeeze(1)


def _check_left(group: Group, own: Tensor) -> None:
    """ValueError where a layer would lose all of its filters."""
    for part in (torch.arange(len(own)), *group.parts):
        if bool((own[part] < 0).all()):
            also = " or of a layer tied to it" if group.parts else ""
            raise ValueError(
                f"drop would remove all filters of {group.leader}{also}: leave at least one"
            )
