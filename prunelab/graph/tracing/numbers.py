"""Numbers that a model's code takes from tensors, followed while it runs."""

import math
import operator
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import fx


class Follower(Protocol):
    """Who notes what becomes of a number."""

    def compute(self, operation: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """The result of an operation on numbers, followed too where it is a number."""

    def ask(self, kind: Callable[[Any], Any], number: "Number") -> Any:
        """What plain Python makes of a number's value."""


class Number:
    """A number that came from a tensor: its value, and the node that gives it.

    To the model's code it is an int or a float. Where plain Python needs the value itself (a loop,
    a branch, an index), the follower is asked for it.
    """

    def __init__(
        self, value: float, follower: Follower, make: Callable[[], fx.Node], *, inside: bool
    ) -> None:
        self.value, self.follower, self.make = value, follower, make
        self.inside = inside  # whether it depends on what is in the inputs, not on their shapes

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # what isinstance is told
        return type(self.value)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    def __deepcopy__(self, memo: dict[int, Any]) -> float:
        return self.value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self.value), (self.value,)


class Int(Number, torch.SymInt):
    """One that torch takes for a size."""


class Float(Number, torch.SymFloat):
    """One that torch takes for a scalar."""


def _computed(operation: Callable[..., Any], *, swapped: bool = False) -> Callable[..., Any]:
    def compute(self: Number, *others: Any) -> Any:
        return self.follower.compute(operation, (*others, self) if swapped else (self, *others))

    return compute


def _asked(kind: Callable[[Any], Any]) -> Callable[[Number], Any]:
    return lambda self: self.follower.ask(kind, self)


ARITHMETIC = ("add", "sub", "mul", "floordiv", "truediv", "mod", "pow")
COMPUTED: dict[str, Callable[..., Any]] = {name: getattr(operator, name) for name in ARITHMETIC}
COMPUTED |= {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}
COMPUTED |= {"neg": operator.neg, "pos": operator.pos, "abs": abs}
COMPUTED |= {"ceil": math.ceil, "floor": math.floor, "round": round}
ASKED: dict[str, Callable[[Any], Any]] = {"bool": bool, "int": int, "float": float, "trunc": int}
ASKED |= {"index": operator.index, "hash": hash, "repr": repr, "str": str}
for _kind in (Int, Float):
    for _name, _operation in COMPUTED.items():
        setattr(_kind, f"__{_name}__", _computed(_operation))
    for _name in ARITHMETIC:
        setattr(_kind, f"__r{_name}__", _computed(COMPUTED[_name], swapped=True))
    for _name, _ask in ASKED.items():
        setattr(_kind, f"__{_name}__", _asked(_ask))


def plain(value: Any) -> Any:
    """Arguments with numbers that are followed by nobody."""
    return fx.node.map_aggregate(value, lambda v: v.value if isinstance(v, Number) else v)


class Sizes(tuple[Any, ...]):
    """A shape as the model's code sees it: of numbers that are followed."""

    def numel(self) -> Any:
        return math.prod(self)

    def __getitem__(self, index: Any) -> Any:
        some = super().__getitem__(index)
        return Sizes(some) if isinstance(index, slice) else some

    def __add__(self, other: Any) -> "Sizes":
        return Sizes(super().__add__(tuple(other)))
