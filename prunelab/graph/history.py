"""What earlier pruning left of a model, in the numbers of the original one; and what it is now."""

from collections.abc import Container, Mapping, Sequence
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


def outline(model: nn.Module, sliced: Container[str]) -> dict[str, str]:
    """What must be as it was for a trace to hold, in words.

    Args:
        model: a network.
        sliced: of its buffers, those that lose something; others may change, as a cache does.

    Returns:
        {module or tensor: its class or shape}, and the filters that earlier pruning left.
    """
    history = find_history(model)
    kept = (
        {} if history is None else {f"what is left of {n}": str(k) for n, k in history.keep.items()}
    )
    buffers = [(name, tensor) for name, tensor in model.named_buffers() if name in sliced]
    tensors = (*model.named_parameters(), *buffers)
    kinds = {name: type(module).__qualname__ for name, module in model.named_modules()}
    return {name: str(tuple(tensor.shape)) for name, tensor in tensors} | kept | kinds
