"""Which filters stay: plain data, which decides. `prune` obeys."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor


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
    """

    keep: dict[str, list[int]]
    widths: dict[str, int]
    input_shapes: list[list[int]]
    settings: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    input_dtypes: list[str] = field(default_factory=list)

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
            plan = cls(**json.loads(text))
            plan._check()
        except (json.JSONDecodeError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"this is not a pruning plan ({error})") from error
        return plan

    def _check(self) -> None:
        if self.keep.keys() != self.widths.keys():
            raise ValueError("this is not a pruning plan: keep and widths name different layers")
        for name, kept in self.keep.items():
            last = self.widths[name] - 1
            if kept != sorted(set(kept)) or kept[0] < 0 or kept[-1] > last:
                raise ValueError(
                    f"the plan's filters of {name} must be sorted, distinct, and in 0 … {last}"
                )


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
