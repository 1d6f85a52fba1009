"""Which filters stay: plain data, which decides. `prune` obeys."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import ConfigDict, FailFast, Field
from torch import Tensor

from prunelab.utils.checks import Claims, check_claims
from prunelab.utils.tensors import parse_json

WIDEST = 2**16  # filters of a layer
LARGEST = 2**26  # numbers in all inputs together: 445 images of 224 pixels a side

Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f]*$", max_length=500)]
Filter = Annotated[int, Field(ge=0)]
Extent = Annotated[int, Field(ge=1, le=LARGEST)]
Dtype = Literal[
    "float16", "bfloat16", "float32", "float64", "complex64", "complex128",
    "bool", "uint8", "int8", "int16", "int32", "int64",
]  # fmt: skip


class PlanClaims(Claims):
    """What the fields of a plan may be, one by one."""

    model_config = ConfigDict(extra="forbid")
    keep: dict[Name, Annotated[list[Filter], Field(min_length=1), FailFast()]]
    widths: dict[Name, Annotated[int, Field(ge=1, le=WIDEST)]]
    input_shapes: list[Annotated[list[Extent], Field(max_length=8)]]
    settings: dict[str, Any] = Field(default={})
    groups: dict[Name, Literal["go", "stay"]] = Field(default={})
    input_dtypes: list[Dtype] = Field(default=[])


@dataclass(frozen=True)
class PruningPlan:
    """Which filters of each layer stay, in the numbers of the original, unpruned model.

    Attributes:
        keep: {layer: sorted indices of survivors}, for every conv.
        widths: {layer: filters of the original}.
        input_shapes: what the model was traced with.
        settings: how the plan was made (ratios, criterion, …).
        groups: {grouped conv or norm: "go" where it loses whole groups, as a depthwise conv does,
            or "stay" where each of them gets thinner}.
        input_dtypes: of what the model was traced with.

    Raises:
        ValueError: a field that is no such thing: a filter that is no whole number or not in the
            layer, say, or inputs of more than `LARGEST` numbers.
    """

    keep: dict[str, list[int]]
    widths: dict[str, int]
    input_shapes: list[list[int]]
    settings: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    input_dtypes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("keep", "widths", "input_shapes"):
            object.__setattr__(self, name, _make_plain(getattr(self, name)))
        check_claims(PlanClaims, self.__getstate__(), "this is not a pruning plan")
        if self.keep.keys() != self.widths.keys():
            raise ValueError("this is not a pruning plan: keep and widths name different layers")
        for name, kept in self.keep.items():
            last = self.widths[name] - 1
            if kept != sorted(set(kept)) or kept[-1] > last:
                raise ValueError(
                    f"the plan's filters of {name} must be sorted, distinct, and in 0 … {last}"
                )
        if self.input_dtypes and len(self.input_dtypes) != len(self.input_shapes):
            raise ValueError("the plan must have as many input_dtypes as input_shapes")
        if (size := sum(map(math.prod, self.input_shapes))) > LARGEST:
            raise ValueError(
                f"the plan's inputs hold {size} numbers, more than {LARGEST}: trace the model with "
                "fewer or smaller images"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Its fields alone: what `prune` remembers with a plan is left behind by a copy."""
        return {own.name: getattr(self, own.name) for own in fields(self)}

    @property
    def removed(self) -> dict[str, list[int]]:
        """``{layer: sorted indices of filters that go}``, without the layers that lose none."""
        gone = {}
        for name, kept in self.keep.items():
            if lost := sorted(set(range(self.widths[name])) - set(kept)):
                gone[name] = lost
        return gone

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Zeros of the shapes and kinds of numbers that the model was traced with."""
        names = self.input_dtypes or ["float32"] * len(self.input_shapes)
        return tuple(
            torch.zeros(shape, dtype=getattr(torch, name))
            for shape, name in zip(self.input_shapes, names, strict=True)
        )

    def to_json(self) -> str:
        """The plan as JSON text; `from_json` gives it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "PruningPlan":
        """The plan of a JSON text.

        Raises:
            ValueError: it says what is wrong with the text.
        """
        try:
            found = parse_json(text, "it")
        except ValueError as error:
            raise ValueError(f"this is not a pruning plan: {error}") from error
        check_claims(PlanClaims, found, "this is not a pruning plan")
        return cls(**found)


def _make_plain(value: Any) -> Any:
    """Tuples as lists, and numpy's whole numbers as Python's: of a plan made by hand."""
    if isinstance(value, Mapping):
        return {name: _make_plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | range | np.ndarray):
        return [_make_plain(each) for each in value]
    return int(value) if isinstance(value, np.integer) else value


def check_widths(expected: Mapping[str, int], found: Mapping[str, int], model: str) -> None:
    """ValueError unless a model has the layers and filters that a plan expects."""
    for name in [*expected, *(name for name in found if name not in expected)]:
        planned, there = expected.get(name), found.get(name)
        if planned != there:
            planned_words, words = (
                f"{n} filters" if n else "no such layer" for n in (planned, there)
            )
            raise ValueError(
                f"this plan was made for another network: {name} has {planned_words} in the plan "
                f"and {words} in {model}"
            )
