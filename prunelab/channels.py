"""What a trace carries and learns: channels' labels, which are tied, who reads them, and which must stay.

During a trace every tensor carries *labels*: integers that say, for each channel, which filter made it. Labels have
the tensor's number of dimensions; a dimension of size 1 means that they do not change along it, so a conv's output
(n, 16, 32, 32) has labels (1, 16, 1, 1).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


class Channels:
    """What a trace learns: which filters exist, which are tied, who reads them, and which must stay, and why."""

    def __init__(self) -> None:
        self.root = torch.empty(0, dtype=torch.long)  # label -> the label that stands for all tied to it
        self.made: dict[str, Tensor] = {}  # layer -> label of each of its filters
        self.reads: dict[str, Tensor] = {}  # layer -> label of each of its input channels
        self.follows: dict[str, Tensor] = {}  # norm or PReLU -> label of each of its channels
        self.reasons: dict[int, str] = {}  # label -> why it must stay

    def make(self, layer: str, n: int) -> Tensor:
        """The labels of a layer's n filters; the same ones each time the layer is used."""
        if layer not in self.made:
            self.made[layer] = self._new(n)
        return self.made[layer]

    def fix(self, reason: str) -> Tensor:
        """One label for channels that no filter made; what is tied to it must stay."""
        label = self._new(1)
        self.reasons[int(label)] = reason
        return label

    def tie(self, a: Tensor, b: Tensor) -> None:
        """The filters of a[i] and b[i] stay or go together."""
        while True:
            low, high = torch.minimum(self.root[a], self.root[b]), torch.maximum(self.root[a], self.root[b])
            if torch.equal(low, high):
                return
            rename = torch.arange(len(self.root)).scatter_reduce(0, high, low, "amin")
            self.root = rename[self.root]

    def read(self, layer: str, labels: Tensor) -> None:
        self._once(self.reads, layer, labels)

    def follow(self, module: str, labels: Tensor) -> None:
        self._once(self.follows, module, labels)

    def refuse(self, labels: Tensor, reason: str) -> None:
        for label in labels.unique().tolist():
            self.reasons.setdefault(label, reason)

    def _once(self, table: dict[str, Tensor], name: str, labels: Tensor) -> None:
        if name in table:  # a module used twice reads the same slices both times
            self.tie(table[name], labels)
        table.setdefault(name, labels)

    def _new(self, n: int) -> Tensor:
        labels = torch.arange(len(self.root), len(self.root) + n)
        self.root = torch.cat([self.root, labels])
        return labels


@dataclass(frozen=True)
class Maps:
    """A tensor of the trace: its shape and the labels of its channels."""

    shape: torch.Size
    labels: Tensor

    def along(self, dim: int) -> Tensor | None:
        """The labels (n,) of a dimension, or None if they also change along another one."""
        dim %= len(self.shape)
        if any(size != 1 for d, size in enumerate(self.labels.shape) if d != dim):
            return None
        return self.labels.reshape(-1).expand(self.shape[dim])


@dataclass(frozen=True)
class Call:
    """One use of an operator: what a rule may look at."""

    operator: str  # 'Conv2d', 'add', …
    name: str  # the module's qualified name, or the node's
    module: nn.Module | None
    args: tuple[Any, ...]  # Maps in place of tensors
    kwargs: dict[str, Any]
    shapes: tuple[torch.Size, ...]  # of the tensors that come out
    channels: Channels = field(repr=False)

    @property
    def maps(self) -> list[Maps]:
        """The tensors that go in, those inside lists too."""
        found: list[Maps] = []
        pending = [*self.args, *self.kwargs.values()]
        while pending:
            item = pending.pop(0)
            if isinstance(item, Maps):
                found.append(item)
            elif isinstance(item, list | tuple):
                pending[:0] = item
        return found

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    @property
    def where(self) -> str:
        return f"{self.operator} ({self.name})"

    def refuse(self, why: str) -> Tensor:
        """Refuse every filter that reaches this operator; its output counts as made by no filter."""
        reason = f"its maps reach {self.where}, {why}"
        for maps in self.maps:
            self.channels.refuse(maps.labels, reason)
        return self.channels.fix(reason).reshape([1] * len(self.shapes[0]))
