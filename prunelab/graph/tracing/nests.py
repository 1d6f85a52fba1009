"""Nested tuples, lists, dicts and slices, with tensors and numbers at their leaves."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.graph.tracing.numbers import Number


def leaves_of(value: Any) -> Iterator[Any]:
    """What nested tuples, lists, dicts and slices hold, in order."""
    if isinstance(value, Number):
        yield value
    elif isinstance(value, slice):
        yield from (value.start, value.stop, value.step)
    elif isinstance(value, dict):
        for item in value.values():
            yield from leaves_of(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from leaves_of(item)
    else:
        yield value


def replace_leaves(
    value: Any, change: Callable[[Any], Any], *, inside_objects: bool = False
) -> Any:
    """The same nest of tuples, lists, dicts and slices, with other leaves."""

    def again(item: Any) -> Any:
        return replace_leaves(item, change, inside_objects=inside_objects)

    if isinstance(value, Number | Tensor):
        return change(value)
    if isinstance(value, slice):
        return slice(again(value.start), again(value.stop), again(value.step))
    if isinstance(value, dict):
        return {key: again(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(again, value))
    if isinstance(value, tuple):
        return tuple(map(again, value))
    if isinstance(value, list):
        return list(map(again, value))
    if inside_objects and not isinstance(value, type | nn.Module) and hasattr(value, "__dict__"):
        return again(vars(value))
    return change(value)


def plain(value: Any) -> Any:
    return replace_leaves(value, lambda leaf: leaf.value if isinstance(leaf, Number) else leaf)


def outline(value: Any) -> Any:
    """What is remembered of a value: of a tensor, the shape."""
    if isinstance(value, Tensor):
        return torch.empty(value.shape, device="meta", dtype=value.dtype)
    return value.value if isinstance(value, Number) else value
