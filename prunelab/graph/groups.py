"""Groups: layers whose filters must go together, who leads them, and why some must stay."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from prunelab.graph.labels import Channels, Layer

FREE = "can be pruned"


@dataclass(frozen=True)
class Group:
    """Layers whose filters must go together.

    A unit is what goes at once: one filter of the leader, or several that are tied (those at the
    same place of each group of a grouped convolution, or of each half that a channel split makes).

    Attributes:
        leader: the layer whose norms decide.
        layers: all of them, in forward order.
        size: filters of the leader.
        stage: of the leader, `stage1` …
        prunable: whether its filters can go.
        reason: why not, or "".
        units: (units,) labels.
        unit_of: (size,) the unit of each filter of the leader.
        parts: for each layer that has only some of the units, which.
    """

    leader: str
    layers: tuple[str, ...]
    size: int
    stage: str
    prunable: bool
    reason: str
    units: Tensor = field(repr=False, compare=False)
    unit_of: Tensor = field(repr=False, compare=False)
    parts: tuple[Tensor, ...] = field(repr=False, compare=False)


def find_groups(
    channels: Channels, shapes: Mapping[str, Layer], stages: Mapping[str, str]
) -> tuple[Group, ...]:
    """The groups of a trace, in the forward order of their leaders."""
    root = channels.root
    reasons: dict[int, str] = {}
    for label, why in channels.reasons.items():
        reasons.setdefault(int(root[label]), why)
    units = {name: root[labels] for name, labels in channels.made.items() if name in shapes}
    members: dict[int, list[str]] = {}  # unit -> layers
    for name, own in units.items():
        for unit in own.unique().tolist():
            members.setdefault(unit, []).append(name)
    together = {name: {name} for name in units}
    for names in members.values():
        joined = set().union(*(together[name] for name in names))
        if len(joined) > len(together[names[0]]):
            together.update(dict.fromkeys(joined, joined))
    seen: set[str] = set()
    groups = []
    for name in units:
        if name in seen:
            continue
        layers = tuple(other for other in units if other in together[name])
        seen.update(layers)
        if any(shapes[other].size for other in layers):
            group = _make_group(layers, units, shapes, stages, reasons)
            if not (group.prunable or group.reason):
                group = _say_why_tied(group, channels)
            groups.append(group)
    order = {name: i for i, name in enumerate(units)}
    return tuple(sorted(groups, key=lambda group: order[group.leader]))


def _make_group(
    layers: tuple[str, ...],
    units: Mapping[str, Tensor],
    shapes: Mapping[str, Layer],
    stages: Mapping[str, str],
    reasons: Mapping[int, str],
) -> Group:
    convs = [name for name in layers if shapes[name].size]
    every = torch.cat([units[name] for name in layers]).unique()
    why = next((reasons[unit] for unit in every.tolist() if unit in reasons), "")
    complete = [name for name in convs if torch.equal(units[name].unique(), every)]
    trained = [name for name in convs if shapes[name].kind != "filter"]
    if not why and not trained:
        why = "its weight is computed by the code or not trained: no norms decide"
    able = [n for n in (convs if why else complete or convs) if n in trained] or convs
    leader = next((name for name in able if shapes[name].kind == "shortcut"), able[0])
    own, unit_of = _number_units(units[leader])
    if not why and not complete:
        others = ", ".join(name for name in layers if name != leader)
        why = f"its filters are tied only in part to those of {others}"
    elif not why and len(unit_of) == 1:
        why = "it has a single filter"
    parts = []
    for name in layers if not why else ():
        if len(units[name].unique()) < len(own):
            parts.append(torch.isin(own, units[name]).nonzero().squeeze(1))
    free = not why and len(own) > 1
    return Group(
        leader, layers, len(unit_of), stages[leader], free, why, own, unit_of, tuple(parts)
    )


def _say_why_tied(group: Group, channels: Channels) -> Group:
    """The reason of a group that is a single unit: which operators keep its channels in step."""
    where: dict[str, None] = {}  # each once
    for labels, name in channels.grids:
        if torch.isin(channels.root[labels], group.units).any():
            where[name] = None
    reason = f"all of its {group.size} filters are tied to one another"
    if where:
        more = f" and {len(where) - 2} more" if len(where) > 2 else ""
        names = ", ".join([*where][:2]) + more
        reason += f": {names} keep parts of them equally wide, so none can go alone"
    return replace(group, reason=reason)


def _number_units(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct labels in the order of their first filter, and the number of each filter's."""
    own, unit_of = labels.unique(return_inverse=True)
    places, last = torch.arange(len(labels)), torch.full_like(own, len(labels))
    first = last.scatter_reduce(0, unit_of, places, "amin")
    order = first.argsort()
    return own[order], order.argsort()[unit_of]


def find_stages(shapes: Mapping[str, Layer]) -> dict[str, str]:
    """{layer: `stage1` …}, by the size of its maps; a stem alone at its size counts to the next."""
    spatial = [name for name, layer in shapes.items() if layer.size]
    sizes = list(dict.fromkeys(shapes[name].size for name in spatial))
    alone = sum(shapes[name].size == sizes[0] for name in spatial) == 1
    first = 0 if len(sizes) > 1 and alone else 1  # a stem: ResNet's 7×7 conv before the pooling
    number = {size: max(i, 1) for i, size in enumerate(sizes, first)}
    return {name: f"stage{number[shapes[name].size]}" for name in spatial}


def list_groups(groups: Iterable[Group], shapes: Mapping[str, Layer]) -> list[dict[str, str]]:
    """A row for each group, for reading."""
    rows = []
    for group in groups:
        several = len(group.units) not in (1, group.size)
        row = {
            "stage": group.stage,
            "number": shapes[group.leader].paper_name,
            "leader": group.leader,
            "filters": f"{group.size} filters" + f" in {len(group.units)} units" * several,
            "goes with it": ", ".join(name for name in group.layers if name != group.leader),
            "verdict": FREE if group.prunable else group.reason,
        }
        rows.append(row)
    return rows


def say_role(group: Group, layer: str, shape: Layer) -> str:
    """What a layer is in its group, as a sentence."""
    if layer != group.leader:
        return (
            f"tied to {group.leader} (their maps are added, or read one by one): the same places "
            "must go"
        )
    if len(group.layers) == 1:
        return "alone: its own norms decide"
    if shape.kind == "shortcut":
        return "its norms decide for all: the projection shortcut leads (Li et al. 2017, §3.3)"
    return "its norms decide for all: the first of those tied"
