"""What a rule is given: one use of an operator, with the labels of the tensors that go in."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.graph.labels import Channels, Count, Mix


@dataclass(frozen=True)
class Maps:
    """A tensor of the trace: its shape and the labels of its channels."""

    shape: torch.Size
    labels: Tensor
    source: str = ""  # its qualified name, when it is a parameter or buffer
    owner: nn.Module | None = None  # the module it belongs to
    bare: bool = False  # computed from parameters and buffers alone
    inputs: Tensor | None = None  # of a weight that the code works on: labels of what it reads
    origin: str = ""  # the parameter or buffer that it was computed from

    def along(self, dim: int) -> Tensor | None:
        """The labels (n,) of a dimension, or None if they also change along another one."""
        dim %= len(self.shape)
        if any(size != 1 for d, size in enumerate(self.labels.shape) if d != dim):
            return None
        return self.labels.reshape(-1).expand(self.shape[dim])

    def varies(self, dim: int) -> bool:
        """Whether the labels change along a dimension."""
        return self.labels.shape[dim] != 1

    def size(self, dim: int) -> "int | Count":
        """The size of a dimension as the model's code sees it: a number, or a count of labels."""
        for labels in (self.labels, self.inputs):
            if labels is not None and labels.shape[dim] != 1:
                return Count(labels.movedim(dim, 0).reshape(labels.shape[dim], -1)[:, 0])
        return self.shape[dim]

    @property
    def is_wide(self) -> bool:
        """Whether it extends along several dimensions."""
        return sum(size > 1 for size in self.shape) > 1


@dataclass(frozen=True)
class Call:
    """One use of an operator: what a rule may look at, and what it may say."""

    operator: str  # 'Conv2d', 'add', …
    name: str  # the module's qualified name, or the node's
    within: str  # the qualified name of the module whose forward makes the call
    module: nn.Module | None
    args: tuple[Any, ...]  # Maps in place of tensors, Count in place of a number of channels
    kwargs: dict[str, Any]
    shapes: tuple[torch.Size, ...]  # of the tensors that come out
    channels: Channels = field(repr=False)
    owner: nn.Module | None = None  # that module
    of_inputs: bool = False  # the labels are those of what a weight's filters read

    @property
    def maps(self) -> list[Maps]:
        """The tensors that go in, those inside lists too."""
        return [item for item in leaves((self.args, self.kwargs)) if isinstance(item, Maps)]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """What was given by position or by name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    @property
    def where(self) -> str:
        """The operator and its module, for sentences."""
        if self.module is not None:
            return f"{self.operator} ({self.name})"
        return f"{self.operator} in {self.within}"

    def slice(self, tensor: str, dim: int, labels: Tensor) -> None:
        """Slice i of one of the module's tensors (None is left out) goes with labels[i]."""
        if isinstance(getattr(self.module, tensor, None), Tensor):
            self.channels.slice(f"{self.name}.{tensor}", dim, labels)

    def count(self, attribute: str, labels: Tensor, place: int | None = None) -> None:
        """An attribute of the module, or its entry at `place`, counts which of the labels stay."""
        if self.module is not None:
            self.channels.count(self.name, attribute, labels, place)

    def refuse(self, why: str) -> Tensor:
        """Refuse all filters that reach this operator; its output counts as made by no filter."""
        reason = f"its maps reach {self.where}, {why}"
        for maps in self.maps:
            said = reason
            if maps.bare and maps.origin:
                said = f"the model's code reads {maps.origin} by itself, in {self.where}, {why}"
                if ".parametrizations." in maps.origin:
                    said += "; torch.nn.utils.parametrize.remove_parametrizations makes it a weight"
            self.channels.refuse(maps.labels, said)
            if maps.inputs is not None:
                self.channels.refuse(maps.inputs, said)
        return self.channels.fix(reason).reshape([1] * len(self.shapes[0]))

    def refuse_all(self, why: str) -> Tensor:
        """Refuse what reaches this operator, and what its parameters belong to."""
        for maps in self.maps:
            if maps.source and maps.is_wide:
                self.channels.by_hand.setdefault(maps.source, self.where)
        for name, _ in self.module.named_parameters() if self.module is not None else ():
            self.channels.by_hand.setdefault(f"{self.name}.{name}", self.where)
        return self.refuse(why)

    def mix(self, *, shrinks: bool = False) -> bool:
        """Note that channels are mixed here, all in the same way: it is done to those left."""
        x = self.maps[0]
        varying = [d for d in range(len(x.shape)) if x.varies(d)]
        of_filters = x.bare and not self.of_inputs  # each has a weight of its own
        if len(varying) != 1 or of_filters:
            return False
        labels = x.labels.reshape(-1)
        self.channels.mixes[self.name] = Mix(varying[0], labels, alone=True, shrinks=shrinks)
        return True


def leaves(value: Any) -> list[Any]:
    """What nested lists, tuples, dicts and slices hold, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, slice):
        value = [value.start, value.stop, value.step]
    if not isinstance(value, list | tuple):
        return [value]
    return [leaf for item in value for leaf in leaves(item)]
