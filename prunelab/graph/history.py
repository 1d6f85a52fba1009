"""What earlier pruning left of a model, in the numbers of the original one."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import nn


class History(Protocol):
    """What a pruned model carries as its `pruning_plan`; of that, what a trace wants to know."""

    @property
    def keep(self) -> Mapping[str, Sequence[int]]:
        """{layer: the original numbers of the filters that are left}."""

    @property
    def widths(self) -> Mapping[str, int]:
        """{layer: filters of the original}."""

    @property
    def groups(self) -> Mapping[str, str]:
        """{grouped conv or norm: "go" or "stay"}, what happens to its groups."""


def find_history(model: nn.Module) -> History | None:
    """The history of a model; None for one that was never pruned."""
    return getattr(model, "pruning_plan", None)
