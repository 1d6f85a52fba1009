"""What is coupled with what: a traced model, its layers, and the groups of filters that go together."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, TypeVar

import pandas as pd
import torch
from torch import Tensor, nn

from prunelab.channels import Channels, Layer
from prunelab.tracing import walk

if TYPE_CHECKING:
    from prunelab.plan import PruningPlan

Key = TypeVar("Key")


@dataclass(frozen=True)
class Group:
    """Layers whose filters must go together.

    A unit is what goes at once: one filter of the leader, or several that are tied (those at the same place of
    each group of a grouped convolution, or of each half that a channel split makes).
    """

    leader: str
    layers: tuple[str, ...]
    size: int  # filters of the leader
    stage: str
    prunable: bool
    reason: str  # why it is not prunable, or ""
    units: Tensor = field(repr=False, compare=False)  # (units,) labels
    unit_of: Tensor = field(repr=False, compare=False)  # (size,) the unit of each filter of the leader
    parts: tuple[Tensor, ...] = field(repr=False, compare=False)  # units of layers that have some of them, by number


class ChannelGraph:
    """A traced model: every conv in forward order (`layers`), and the groups of layers that go together.

    Attributes: `model` (the one traced, not a copy), `layers`, `groups`, `shapes` {layer: Layer},
    `input_shapes`, `input_dtypes`, `channels` (what the trace learned), `numbers` {layer: original numbers of its filters},
    `widths` {layer: original number of filters}. A linear layer that runs at every position of its maps is a
    1×1 convolution in other words: it leads a group, but is not among `layers`.
    """

    def __init__(
        self, model: nn.Module, inputs: tuple[Tensor, ...], channels: Channels, shapes: Mapping[str, Layer]
    ) -> None:
        self.model = model
        self.input_shapes = [list(x.shape) for x in inputs]
        self.input_dtypes = [str(x.dtype).removeprefix("torch.") for x in inputs]
        self.channels = channels
        self.shapes = dict(shapes)
        self.layers = [name for name, layer in shapes.items() if layer.kind != "linear"]
        self.stage_of = self._find_stages()  # of each layer; a group has that of its first
        self.groups = _find_groups(channels, self.shapes, self.stage_of)
        pruned: PruningPlan | None = getattr(model, "pruning_plan", None)
        tied = {*self.layers, *(name for group in self.groups for name in group.layers)}
        made = list(pruned.keep) if pruned else [name for name in channels.made if name in self.shapes.keys() & tied]
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
        by_paper = {self.shapes[name].paper_name: name for name in (*self.layers, *self._group_of)}
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

    @property
    def scored(self) -> list[str]:
        """The layers that have filters to score, in forward order: every conv, and what else leads a group."""
        leaders = {group.leader for group in self.groups}
        return [name for name, layer in self.shapes.items() if layer.kind != "linear" or name in leaders]

    def module_of(self, layer: str) -> nn.Module:
        """The module of a layer; ValueError for one that the model's code applies as a function."""
        name = self.find(layer)
        if self.shapes[name].weight != f"{name}.weight":
            raise ValueError(f"{name} is a bare parameter, applied by a function: it has no maps to hook into")
        return self.model.get_submodule(name)

    def filters(self, layer: str) -> Tensor:
        """The weight of a layer with a filter in each row: (out, in / groups, *kernel)."""
        owner, _, attribute = self.shapes[layer].weight.rpartition(".")
        return self.as_filters(layer, getattr(self.model.get_submodule(owner), attribute).detach())

    def as_filters(self, layer: str, weight: Tensor) -> Tensor:
        """A tensor shaped as a layer's weight, with a filter in each row."""
        shape = self.shapes[layer]
        if not shape.transposed:
            return weight
        split = weight.unflatten(0, (shape.groups, -1)).transpose(1, 2)  # (groups, out / groups, in / groups, …)
        return split.flatten(0, 1)

    def coupled(self, layer: str) -> pd.DataFrame:
        """What goes when filters of a layer go: a row for each module that loses something, in the model's order.

        Columns: module, paper_name (of convs and linear layers, else the module's kind), loses (filters, entries or
        inputs), role (leader, tied, follows or reads), why (a sentence).
        """
        group, channels = self.group_of(layer), self.channels
        own = channels.root[torch.cat([channels.made[name] for name in group.layers])].unique()
        order = {name: i for i, (name, _) in enumerate(self.model.named_modules())}
        rows: dict[tuple[str, str], tuple[str, ...]] = {}
        for tensor, dims in channels.slices.items():
            owner, _, attribute = tensor.rpartition(".")
            for dim, labels in dims.items():
                if not torch.isin(channels.root[labels], own).any():
                    continue
                name = owner if owner in self.shapes else tensor if tensor in self.shapes else owner
                shape = self.shapes.get(name)
                if shape is None:
                    kind = type(self.model.get_submodule(owner)).__name__ if owner in order else attribute
                    rows[name, "entries"] = (kind, "follows", "one entry for each of these maps")
                elif name in group.layers and (attribute == "bias" or dim == int(shape.transposed)):
                    role = "leader" if name == group.leader else "tied"
                    rows[name, "filters"] = (shape.paper_name, role, self._say_role(group, name))
                elif attribute != "bias":
                    rows[name, "inputs"] = (
                        shape.paper_name,
                        "reads",
                        "its kernels for these maps have nothing to read",
                    )
        found = [(name, paper, loses, role, why) for (name, loses), (paper, role, why) in rows.items()]
        found.sort(key=lambda row: order.get(row[0], len(order)))
        return pd.DataFrame(found, columns=["module", "paper_name", "loses", "role", "why"])

    def _say_role(self, group: Group, layer: str) -> str:
        if layer != group.leader:
            return f"tied to {group.leader} (their maps are added, or read one by one): the same places must go"
        if len(group.layers) == 1:
            return "alone: its own norms decide"
        if self.shapes[layer].kind == "shortcut":
            return "its norms decide for all: the projection shortcut leads (Li et al. 2017, §3.3)"
        return "its norms decide for all: the first of those tied"

    def alive(self, keep: Mapping[str, Sequence[int]]) -> Tensor:
        """Which labels are left (bool, one for each label) when the layers keep what `keep` says.

        keep: {layer: survivors in the original numbering}.
        Raises ValueError when tied layers keep different filters, or a filter goes that cannot.
        """
        root = self.channels.root
        alive = torch.ones(len(root), dtype=torch.bool)
        thinned = [name for name, kept in keep.items() if len(kept) != len(self.numbers[name])]
        stays = {name: torch.isin(self.numbers[name], torch.tensor(keep[name])) for name in thinned}
        for name, mask in stays.items():
            alive[root[self.channels.made[name][~mask]]] = False
            group = self._group_of.get(name)
            if group is not None and not group.prunable:
                raise ValueError(f"filters of {name} cannot be removed: {group.reason}")
        left = self.count(alive, {name: self.channels.made[name] for name in keep})
        for name, kept in keep.items():
            if left[name] != len(kept):
                group = self._group_of[name]
                tied = ", ".join(other for other in group.layers if other != name) or "their own, in units"
                raise ValueError(f"tied layers must keep the same filters: {name} and {tied} do not")
        return alive

    def count(self, alive: Tensor, labels: Mapping[Key, Tensor]) -> dict[Key, int]:
        """{name: how many of its labels are left}."""
        if not labels:
            return {}
        sums = alive[self.channels.root[torch.cat(list(labels.values()))]].cumsum(0)
        ends = torch.tensor([len(own) for own in labels.values()]).cumsum(0)
        totals = torch.cat([sums.new_zeros(1), sums[ends - 1]])
        return dict(zip(labels, totals.diff().tolist(), strict=True))

    def _find_stages(self) -> dict[str, str]:
        spatial = [name for name, layer in self.shapes.items() if layer.size]
        sizes = list(dict.fromkeys(self.shapes[name].size for name in spatial))
        count = [sum(self.shapes[name].size == size for name in spatial) for size in sizes]
        if len(sizes) > 1 and count[0] == 1:  # a stem, as ResNet's 7×7 conv before the pooling
            number = {size: max(i, 1) for i, size in enumerate(sizes)}
        else:
            number = {size: i + 1 for i, size in enumerate(sizes)}
        return {name: f"stage{number[self.shapes[name].size]}" for name in spatial}

    def __repr__(self) -> str:
        lines = [self._title]
        for group in self.groups:
            also = f" with {', '.join(n for n in group.layers if n != group.leader)}" if len(group.layers) > 1 else ""
            tied = "" if len(group.units) in (1, group.size) else f" in {len(group.units)} units"
            why = "" if group.prunable else f"  (stays: {group.reason})"
            paper = self.shapes[group.leader].paper_name
            lines.append(f"  {group.stage} {paper} = {group.leader}, {group.size} filters{tied}{also}{why}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The table that a notebook shows: a row for each group, those that stay with the reason."""
        rows = []
        for group in self.groups:
            others = ", ".join(name for name in group.layers if name != group.leader)
            tied = "" if len(group.units) in (1, group.size) else f" in {len(group.units)} units"
            paper = self.shapes[group.leader].paper_name
            cells = [group.stage, paper, group.leader, f"{group.size}{tied}", others, group.reason or "can be pruned"]
            style = "" if group.prunable else ' style="opacity:0.6"'
            left = '<td style="text-align:left">'
            rows.append(f"<tr{style}>" + "".join(f"{left}{escape(cell)}</td>" for cell in cells) + "</tr>")
        heads = ["stage", "number", "leader", "filters", "goes with it", "verdict"]
        head = "".join(f'<th style="text-align:left">{name}</th>' for name in heads)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        return f'<div style="max-height:32em;overflow:auto"><b>{escape(self._title)}</b>{table}</div>'

    @property
    def _title(self) -> str:
        free = sum(group.prunable for group in self.groups)
        return (
            f"ChannelGraph of {type(self.model).__name__}: {len(self.layers)} convs, "
            f"{free} of {len(self.groups)} groups can be pruned"
        )


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
    _check_model(model)
    if not all(isinstance(x, Tensor) for x in inputs) or not inputs:
        raise ValueError("example_input must be a tensor or a tuple of tensors, such as torch.zeros(1, 3, 32, 32)")
    if any(x.numel() == 0 for x in inputs):
        raise ValueError(f"example_input is empty, of shape {tuple(inputs[0].shape)}; one image is enough")
    channels, shapes = walk(model, inputs)
    if not any(layer.kind != "linear" for layer in shapes.values()):
        raise ValueError(f"{type(model).__name__} has no convolution, so there are no filters to prune")
    return ChannelGraph(model, inputs, channels, shapes)


def _check_model(model: nn.Module) -> None:
    """ValueError for what is no plain nn.Module, with what to pass instead."""
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        given = f"the class {model.__name__}" if isinstance(model, type) else f"a {name}"
        instead = f"{model.__name__}()" if isinstance(model, type) else "an instance of an nn.Module"
        raise ValueError(f"trace takes a model; got {given}. Pass {instead}")
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("a scripted model has no Python code to follow: pass the module that it was made from")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ValueError(f"{name} wraps the model: pass model.module, and wrap what comes out anew")
    if hasattr(model, "_orig_mod"):  # of torch.compile
        raise ValueError("a compiled model cannot be followed: pass model._orig_mod, and compile what comes out anew")


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
        if any(shapes[other].size for other in layers):
            group = _make_group(layers, units, shapes, stages, reasons)
            groups.append(group if group.prunable or group.reason else _say_why_tied(group, channels))
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
    able = convs if why else complete or convs
    leader = next((name for name in able if shapes[name].kind == "shortcut"), able[0])
    own, unit_of = _number_units(units[leader])
    if not why and not complete:
        why = f"its filters are tied only in part to those of {', '.join(name for name in layers if name != leader)}"
    elif not why and len(unit_of) == 1:
        why = "it has a single filter"
    some = [units[name] for name in layers if len(units[name].unique()) < len(own)] if not why else []
    parts = tuple(torch.isin(own, theirs).nonzero().squeeze(1) for theirs in some)
    return Group(leader, layers, len(unit_of), stages[leader], not why and len(own) > 1, why, own, unit_of, parts)


def _say_why_tied(group: Group, channels: Channels) -> Group:
    """The reason of a group that is a single unit: which operators keep its channels in step."""
    found = [name for labels, name in channels.grids if torch.isin(channels.root[labels], group.units).any()]
    where = list(dict.fromkeys(found))
    more = f" and {len(where) - 2} more" if len(where) > 2 else ""
    by = f": {', '.join(where[:2])}{more} keep parts of them equally wide, so none can go alone" if where else ""
    return replace(group, reason=f"all of its {group.size} filters are tied to one another{by}")


def _number_units(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct labels in the order of their first filter, and the number of each filter's: as torch.unique."""
    own, unit_of = labels.unique(return_inverse=True)
    first = torch.full_like(own, len(labels)).scatter_reduce(0, unit_of, torch.arange(len(labels)), "amin")
    order = first.argsort()
    return own[order], order.argsort()[unit_of]
