"""What is coupled with what: a traced model, its layers, and the groups of filters that go together."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from prunelab.channels import Channels
from prunelab.tracing import Layer, walk

if TYPE_CHECKING:
    from prunelab.plan import PruningPlan


@dataclass(frozen=True)
class Group:
    """Layers whose filters must go together. `units` are the labels of the leader's filters."""

    leader: str
    layers: tuple[str, ...]
    size: int  # filters of the leader
    stage: str
    prunable: bool
    reason: str  # why it is not prunable, or ""
    units: Tensor = field(repr=False, compare=False)


class Cut(NamedTuple):
    """The positions of one module that stay; None means all."""

    outputs: Tensor | None
    inputs: Tensor | None


class ChannelGraph:
    """A traced model: every conv in forward order (`layers`), and the groups of layers that go together.

    Attributes: `model` (the one traced, not a copy), `layers`, `groups`, `shapes` {layer: Layer},
    `input_shapes`, `channels` (what the trace learned), `numbers` {layer: original numbers of its filters},
    `widths` {layer: original number of filters}.
    """

    def __init__(
        self, model: nn.Module, input_shapes: list[list[int]], channels: Channels, shapes: Mapping[str, Layer]
    ) -> None:
        self.model = model
        self.input_shapes = input_shapes
        self.channels = channels
        self.shapes = dict(shapes)
        self.layers = [name for name, layer in shapes.items() if layer.kind != "linear"]
        self.groups = _find_groups(channels, self.shapes, self._find_stages())
        pruned: PruningPlan | None = getattr(model, "pruning_plan", None)
        tied = [name for group in self.groups for name in group.layers]
        made = [name for name in channels.made if name in self.shapes and (name in self.layers or name in tied)]
        self.numbers = {
            name: torch.tensor(pruned.keep[name]) if pruned else torch.arange(self.shapes[name].n_out) for name in made
        }
        self.widths = {name: pruned.widths[name] if pruned else self.shapes[name].n_out for name in made}

    @property
    def stages(self) -> list[str]:
        """`stage1` …: layers of one feature-map size; a stem alone at its size counts to the next."""
        return sorted({group.stage for group in self.groups})

    @cached_property
    def _group_of(self) -> dict[str, Group]:
        return {name: group for group in self.groups for name in group.layers}

    def group_of(self, layer: str) -> Group:
        """The group of a layer, by qualified or paper name."""
        return self._group_of[self.find(layer)]

    def find(self, layer: str) -> str:
        """The qualified name of a layer given by that or by its paper name; ValueError names the nearest."""
        by_paper = {self.shapes[name].paper_name: name for name in self.layers}
        if layer in self.layers or layer in self._group_of:
            return layer
        if layer in by_paper:
            return by_paper[layer]
        near = difflib.get_close_matches(str(layer), [*by_paper, *self.layers], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        numbered = [name for name in by_paper if name.startswith("conv_")]
        raise ValueError(
            f"unknown layer {layer!r}; {hint}The layers are {numbered[0]} … {numbered[-1]} "
            f"({self.layers[0]} … {self.layers[-1]}), the stages {', '.join(self.stages)}"
        )

    def select(self, key: str) -> list[Group]:
        """The groups that a ratio's key means: a layer, a stage, or "*" for all; the last two, prunable ones."""
        if key == "*" or key in self.stages:
            return [g for g in self.groups if g.prunable and key in ("*", g.stage)]
        group = self.group_of(key)
        if not group.prunable:
            raise ValueError(f"{key!r} cannot be pruned: {group.reason}")
        return [group]

    def cuts(self, keep: Mapping[str, Sequence[int] | Tensor]) -> dict[str, Cut]:
        """What a plan leaves of each module. `keep` names survivors in the original numbering.

        Raises ValueError when tied layers keep different filters, or a filter goes that cannot.
        """
        root, alive = self.channels.root, self.alive(keep)
        cuts: dict[str, Cut] = {}
        for name in self.channels.made.keys() | self.channels.reads.keys() | self.channels.follows.keys():
            out = self.channels.made.get(name, self.channels.follows.get(name))
            read = self.channels.reads.get(name)
            cut = Cut(*(None if labels is None else _positions(alive[root[labels]]) for labels in (out, read)))
            if cut != (None, None):
                cuts[name] = cut
        return cuts

    def alive(self, keep: Mapping[str, Sequence[int] | Tensor]) -> Tensor:
        """Which labels are left (bool, one for each label) when the layers keep what `keep` says."""
        root = self.channels.root
        alive = torch.ones(len(root), dtype=torch.bool)
        stays = {name: torch.isin(self.numbers[name], torch.as_tensor(kept)) for name, kept in keep.items()}
        for name, mask in stays.items():
            alive[root[self.channels.made[name][~mask]]] = False
        for name, mask in stays.items():
            if not torch.equal(alive[root[self.channels.made[name]]], mask):
                others = [other for other in self._group_of[name].layers if other != name]
                raise ValueError(f"tied layers must keep the same filters: {name} and {', '.join(others)} do not")
            group = self._group_of.get(name)
            if group is not None and not group.prunable and not mask.all():
                raise ValueError(f"filters of {name} cannot be removed: {group.reason}")
        return alive

    def _find_stages(self) -> dict[str, str]:
        sizes = list(dict.fromkeys(self.shapes[name].size for name in self.layers))
        count = [sum(self.shapes[name].size == size for name in self.layers) for size in sizes]
        if len(sizes) > 1 and count[0] == 1:  # a stem, as ResNet's 7×7 conv before the pooling
            number = {size: max(i, 1) for i, size in enumerate(sizes)}
        else:
            number = {size: i + 1 for i, size in enumerate(sizes)}
        return {name: f"stage{number[self.shapes[name].size]}" for name in self.layers}

    def __repr__(self) -> str:
        free = [g for g in self.groups if g.prunable]
        lines = [
            f"ChannelGraph of {type(self.model).__name__}: {len(self.layers)} convs, "
            f"{len(free)} of {len(self.groups)} groups can be pruned"
        ]
        for group in self.groups:
            also = f" with {', '.join(n for n in group.layers if n != group.leader)}" if len(group.layers) > 1 else ""
            why = "" if group.prunable else f"  (stays: {group.reason})"
            paper = self.shapes[group.leader].paper_name
            lines.append(f"  {group.stage} {paper} = {group.leader}, {group.size} filters{also}{why}")
        return "\n".join(lines)


def _positions(mask: Tensor) -> Tensor | None:
    return None if bool(mask.all()) else mask.nonzero().squeeze(1)


def trace(model: nn.Module, example_input: Tensor | tuple[Tensor, ...]) -> ChannelGraph:
    """The channel graph of a model: its layers, which filters go together, and which must stay and why.

    model: any nn.Module that torch.fx can trace. It is not changed: a copy that shares its tensors runs once,
        in evaluation mode, on the model's device (the meta device, too).
    example_input: a tensor, or a tuple of them, of the shape that forward takes, e.g. (1, 3, 32, 32).

    Raises ValueError when the model cannot be traced, or does not take such an input.

    >>> graph = trace(load_model("vgg16"), torch.zeros(1, 3, 32, 32))
    >>> graph.layers[:2]
    ['features.0', 'features.3']
    """
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    if not all(isinstance(x, Tensor) for x in inputs):
        raise ValueError("example_input must be a tensor or a tuple of tensors, such as torch.zeros(1, 3, 32, 32)")
    channels, shapes = walk(model, inputs)
    if not any(layer.kind != "linear" for layer in shapes.values()):
        raise ValueError(f"{type(model).__name__} has no convolution, so there are no filters to prune")
    return ChannelGraph(model, [list(x.shape) for x in inputs], channels, shapes)


def _find_groups(channels: Channels, shapes: Mapping[str, Layer], stages: Mapping[str, str]) -> tuple[Group, ...]:
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
        if any(shapes[other].kind != "linear" for other in layers):
            groups.append(_make_group(layers, units, shapes, stages, reasons))
    order = {name: i for i, name in enumerate(units)}
    return tuple(sorted(groups, key=lambda group: order[group.leader]))


def _make_group(
    layers: tuple[str, ...],
    units: Mapping[str, Tensor],
    shapes: Mapping[str, Layer],
    stages: Mapping[str, str],
    reasons: Mapping[int, str],
) -> Group:
    convs = [name for name in layers if shapes[name].kind != "linear"]
    every = torch.cat([units[name] for name in layers]).unique()
    complete = [name for name in convs if torch.equal(units[name].unique(), every)]
    leader = next((name for name in complete if shapes[name].kind == "shortcut"), (complete or convs)[0])
    own = units[leader]
    why = next((reasons[unit] for unit in every.tolist() if unit in reasons), "")
    if not why and not complete:
        why = f"its filters are tied only in part to those of {', '.join(name for name in layers if name != leader)}"
    elif not why and len(own) != len(own.unique()):
        why = "several of its own filters are tied to one another"
    elif not why and len(own) == 1:
        why = "it has a single filter"
    return Group(leader, layers, len(own), stages[leader], not why, why, own)
