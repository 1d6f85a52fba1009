"""A traced model: its layers, and the groups of filters that go together."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape
from textwrap import shorten
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, fx, nn

from prunelab.graph.flow import Flow
from prunelab.graph.groups import FREE, Group, find_groups, find_stages, list_groups, say_role
from prunelab.graph.history import find_history, outline
from prunelab.graph.labels import Channels, Layer
from prunelab.graph.walk import WRAP, walk
from prunelab.utils.checks import did_you_mean

if TYPE_CHECKING:
    import pandas as pd  # a trace needs none: it is imported where a table is made

Key = TypeVar("Key")


class ChannelGraph:
    """A traced model: every conv in forward order, and the groups of layers that go together.

    `trace` makes it. A linear layer that runs at every position of its maps is a 1×1 convolution in
    other words: it leads a group, but is not among `layers`.

    Attributes:
        model: the one traced, not a copy.
        layers: every conv in forward order, by qualified name.
        groups: layers whose filters must go together; `print(graph)` lists them.
        shapes: {layer: Layer}, of linear layers too.
        stage_of: {layer: `stage1` …}; a group has that of its leader.
        numbers: {layer: the original numbers of its filters}.
        widths: {layer: original number of filters}.
        input_shapes: what it was traced with.
        input_dtypes: likewise.
        channels: what the trace learned.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: tuple[Tensor, ...],
        channels: Channels,
        shapes: Mapping[str, Layer],
        flow: Sequence[Flow],
    ) -> None:
        self.model = model
        self._flow = flow
        self.input_shapes = [list(x.shape) for x in inputs]
        self.input_dtypes = [str(x.dtype).removeprefix("torch.") for x in inputs]
        self.channels = channels
        self._outline = outline(model, channels.slices)
        self.shapes = dict(shapes)
        convs = ("conv", "shortcut")
        self.layers = [name for name, layer in shapes.items() if layer.kind in convs]
        self.stage_of = find_stages(self.shapes)
        self.groups = find_groups(channels, self.shapes, self.stage_of)
        history = find_history(model)
        if history is not None:
            self.numbers = {name: torch.tensor(kept) for name, kept in history.keep.items()}
            self.widths = {name: history.widths[name] for name in history.keep}
        else:
            tied = {*self.layers, *(name for group in self.groups for name in group.layers)}
            made = [name for name in channels.made if name in self.shapes.keys() & tied]
            self.widths = {name: self.shapes[name].n_out for name in made}
            self.numbers = {name: torch.arange(width) for name, width in self.widths.items()}

    @property
    def stages(self) -> list[str]:
        """`stage1` …, layers of one feature-map size; a stem alone counts to the next."""
        return sorted({group.stage for group in self.groups})

    @cached_property
    def _group_of(self) -> dict[str, Group]:
        return {name: group for group in self.groups for name in group.layers}

    @cached_property
    def _by_paper(self) -> dict[str, str]:
        return {self.shapes[name].paper_name: name for name in (*self.layers, *self._group_of)}

    def group_of(self, layer: str) -> Group:
        """The group of a layer, by qualified or paper name."""
        return self._group_of[self.find(layer)]

    def find_change(self, model: nn.Module) -> str:
        """What is not as in the model that was traced, as a clause; "" for that or a copy of it."""
        now = outline(model, self.channels.slices)
        for name in [*self._outline, *now]:
            was, found = (own.get(name, "missing") for own in (self._outline, now))
            if was != found:
                was, found = (shorten(words, 60, placeholder=" …") for words in (was, found))
                return f"{name or 'the model'} was {was}, and is {found} in this network"
        return ""

    def find(self, layer: str) -> str:
        """The qualified name of a layer, given by that or by its paper name.

        Raises:
            ValueError: there is no such layer; it names the nearest.
        """
        by_paper = self._by_paper
        if layer in self.layers or layer in self._group_of:
            return layer
        if layer in by_paper:
            return by_paper[layer]
        hint = did_you_mean(layer, [*by_paper, *self.layers])
        numbered = [name for name in by_paper if name.startswith("conv_")]
        raise ValueError(
            f"unknown layer {layer!r}{hint}The layers are {numbered[0]} … {numbered[-1]} "
            f"({self.layers[0]} … {self.layers[-1]}), the stages {', '.join(self.stages)}"
        )

    def select(self, key: str) -> list[Group]:
        """The groups that a ratio's key means.

        Args:
            key: a layer, a stage, or "*" for all; the last two mean prunable groups only.

        Raises:
            ValueError: the layer is unknown, or cannot be pruned.
        """
        if key == "*" or key in self.stages:
            return [g for g in self.groups if g.prunable and key in ("*", g.stage)]
        group = self.group_of(key)
        if not group.prunable:
            raise ValueError(f"{key!r} cannot be pruned: {group.reason}")
        return [group]

    @property
    def scored(self) -> list[str]:
        """The layers that have filters to score, every conv and what else leads a group."""
        scored = {*self.layers, *(group.leader for group in self.groups)}
        return [
            name for name, layer in self.shapes.items() if name in scored and layer.kind != "filter"
        ]

    def module_of(self, layer: str) -> nn.Module:
        """The module of a layer; ValueError for one that the model's code applies as a function."""
        name = self.find(layer)
        if self.shapes[name].weight != f"{name}.weight":
            raise ValueError(
                f"{name} is a bare parameter, applied by a function: it has no maps to hook into"
            )
        return self.model.get_submodule(name)

    def filters(self, layer: str) -> Tensor:
        """The weight of a layer with a filter in each row: `(out, in / groups, *kernel)`."""
        layer = layer if layer in self.shapes else self.find(layer)
        owner, _, attribute = self.shapes[layer].weight.rpartition(".")
        return self.as_filters(layer, getattr(self.model.get_submodule(owner), attribute).detach())

    def as_filters(self, layer: str, weight: Tensor) -> Tensor:
        """A tensor shaped as a layer's weight, with a filter in each row."""
        shape = self.shapes[layer]
        if not shape.transposed:
            return weight
        split = weight.unflatten(0, (shape.groups, -1))  # (groups, in / groups, out / groups, …)
        return split.transpose(1, 2).flatten(0, 1)

    def coupled(self, layer: str) -> "pd.DataFrame":
        """What goes when filters of a layer go.

        Returns:
            A row for each module that loses something, in the model's order; columns module,
            paper_name (of convs and linear layers, else the module's kind), loses (filters, entries
            or inputs), role (leader, tied, follows or reads), why (a sentence).
        """
        import pandas as pd

        group, channels = self.group_of(layer), self.channels
        own = channels.root[torch.cat([channels.made[name] for name in group.layers])].unique()
        order = {name: i for i, (name, _) in enumerate(self.model.named_modules())}
        rows: dict[tuple[str, str], tuple[str, ...]] = {}
        for tensor, dims in channels.slices.items():
            owner, _, attribute = tensor.rpartition(".")
            for dim, labels in dims.items():
                if not torch.isin(channels.root[labels], own).any():
                    continue
                name = tensor if tensor in self.shapes else owner
                shape = self.shapes.get(name)
                if shape is None:
                    module = self.model.get_submodule(owner) if owner in order else None
                    kind = type(module).__name__ if module is not None else attribute
                    rows[name, "entries"] = (kind, "follows", "one entry for each of these maps")
                elif name in group.layers and (attribute == "bias" or dim == int(shape.transposed)):
                    role = "leader" if name == group.leader else "tied"
                    rows[name, "filters"] = (
                        shape.paper_name,
                        role,
                        say_role(group, name, self.shapes[name]),
                    )
                elif attribute != "bias":
                    why = "its kernels for these maps have nothing to read"
                    rows[name, "inputs"] = (shape.paper_name, "reads", why)
        found = [(name, paper, loses, *rest) for (name, loses), (paper, *rest) in rows.items()]
        found.sort(key=lambda row: order.get(row[0], len(order)))
        return pd.DataFrame(found, columns=["module", "paper_name", "loses", "role", "why"])

    def flow(self) -> "pd.DataFrame":
        """Which layer's maps flow where; pooling, norms, activations and reshapes are left out.

        Returns:
            A row for each way that maps take, in forward order; columns source, target and size
            (height and width of the maps that arrive). Source and target are layers, by qualified
            name; modules that could not be followed; and, named by kind and number, inputs and
            outputs (`input 1`, `output 1`) and joins (`add 1`, `concat 1`, `multiply 1` …). A layer
            that is applied twice is there once, and its maps may flow back to it. A
            concatenation that begins as an earlier one did goes on from that.

        Example:
            >>> graph.flow().query("target == 'add 1'")["source"].tolist()
            ['layer1.0.conv2', 'conv1']
        """
        import pandas as pd

        return pd.DataFrame(self._flow, columns=["source", "target", "size"])

    def alive(self, keep: Mapping[str, Sequence[int]]) -> Tensor:
        """Which labels are left (bool, one for each label) when the layers keep what `keep` says.

        Args:
            keep: {layer: survivors in the original numbering}.

        Raises:
            ValueError: tied layers keep different filters, or a filter goes that cannot.
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
                tied = [other for other in group.layers if other != name]
                others = ", ".join(tied) or "their own, in units"
                raise ValueError(
                    f"tied layers must keep the same filters: {name} and {others} do not"
                )
        return alive

    def count(self, alive: Tensor, labels: Mapping[Key, Tensor]) -> dict[Key, int]:
        """{name: how many of its labels are left}."""
        if not labels:
            return {}
        sums = alive[self.channels.root[torch.cat(list(labels.values()))]].cumsum(0)
        ends = torch.tensor([len(own) for own in labels.values()]).cumsum(0)
        totals = torch.cat([sums.new_zeros(1), sums[ends - 1]])
        return dict(zip(labels, totals.diff().tolist(), strict=True))

    def __repr__(self) -> str:
        lines = [self._title]
        for row in list_groups(self.groups, self.shapes):
            tied = f" with {row['goes with it']}" if row["goes with it"] else ""
            stays = row["verdict"] != FREE
            lines.append(
                f"  {row['stage']} {row['number']} = {row['leader']}, {row['filters']}{tied}"
                + f"  (stays: {row['verdict']})" * stays
            )
        return "\n".join([*lines, *(f"  {words}" for words in self._idle)])

    def _repr_html_(self) -> str:
        """The table that a notebook shows: a row for each group, with the reason if it stays."""
        import pandas as pd

        # reasons are shown whole, and names as they are
        with pd.option_context("display.max_colwidth", None, "display.html.use_mathjax", False):
            table = pd.DataFrame(list_groups(self.groups, self.shapes)).to_html(
                index=False, border=0, justify="left"
            )
        box = '<div style="max-height:32em;overflow:auto">'
        idle = "".join(map(escape, self._idle))
        return f"{box}<b>{escape(self._title)}</b>{table}{idle}</div>"

    @property
    def _idle(self) -> list[str]:
        """What the run did not reach, as a line; none if it reached all."""
        idle = self.channels.idle
        more = f" and {len(idle) - 5} more" if len(idle) > 5 else ""
        return [f"never ran, so not adapted: {', '.join(idle[:5])}{more}"] if idle else []

    @property
    def _title(self) -> str:
        free = sum(group.prunable for group in self.groups)
        return (
            f"ChannelGraph of {type(self.model).__name__}: {len(self.layers)} convs, "
            f"{free} of {len(self.groups)} groups can be pruned"
        )


def trace(model: nn.Module, example_input: Tensor | tuple[Tensor, ...]) -> ChannelGraph:
    """The channel graph of a model: its layers, which filters go together, which must stay and why.

    Args:
        model: any nn.Module that runs. It is not changed: a copy that shares its
            tensors runs once, in evaluation mode, on the model's device (the meta device, too).
        example_input: a tensor, or a tuple of them, of the shape that forward takes, e.g.
            (1, 3, 32, 32).

    Returns:
        The graph; `print(graph)` shows its groups.

    Raises:
        ValueError: the model cannot be traced, or does not take such an input.

    Example:
        >>> graph = trace(load_model("vgg16"), torch.zeros(1, 3, 32, 32))
        >>> graph.layers[:2]
        ['features.0', 'features.3']
    """
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    _check_model(model)
    if not all(isinstance(x, Tensor) for x in inputs) or not inputs:
        raise ValueError(
            "example_input must be a tensor or a tuple of tensors, such as "
            f"torch.zeros(1, 3, 32, 32); got a {type(example_input).__name__}. {WRAP}"
        )
    if any(x.numel() == 0 for x in inputs):
        shape = tuple(inputs[0].shape)
        raise ValueError(f"example_input is empty, of shape {shape}; one image is enough")
    channels, shapes, flow = walk(model, inputs)
    if not any(layer.kind in ("conv", "shortcut") for layer in shapes.values()):
        name = type(model).__name__
        if any(layer.kind == "filter" for layer in shapes.values()):
            raise ValueError(
                f"{name} has only convolutions by weights that its code computes or that are not "
                "trained, so no norms decide which filters to prune"
            )
        raise ValueError(f"{name} has no convolution, so there are no filters to prune")
    return ChannelGraph(model, inputs, channels, shapes, flow)


def check_graph(graph: object, taker: str) -> None:
    """ValueError unless it is a graph; `taker` is the function that takes it."""
    if not isinstance(graph, ChannelGraph):
        given = type(graph).__name__
        raise ValueError(f"{taker} takes the graph of trace(model, example_input), not {given}")


def _check_model(model: nn.Module) -> None:
    """ValueError for what is no plain nn.Module, with what to pass instead."""
    if isinstance(model, type):
        name = model.__name__
        raise ValueError(f"trace takes a model; got the class {name}. Pass {name}()")
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise ValueError(f"trace takes a model; got a {name}. Pass an instance of an nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            "a scripted model has no Python code to follow: pass the module that it was made from"
        )
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ValueError(f"{name} wraps the model: pass model.module, and wrap what comes out anew")
    if any(isinstance(m, fx.GraphModule) and "eval" in vars(m) for m in model.modules()):
        raise ValueError(
            "an exported model has no Python code to follow: pass the module that it was made from"
        )
    if hasattr(model, "_orig_mod"):  # of torch.compile
        raise ValueError(
            "a compiled model cannot be followed: pass model._orig_mod, and compile what comes out "
            "anew"
        )
