"""What a check says of an answer, and how it takes what a student may have written."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Concatenate, ParamSpec

import torch
from torch import Tensor

Rest = ParamSpec("Rest")


@dataclass(frozen=True)
class Verdict:
    """What a check says of an answer.

    Attributes:
        right: True or False; None where nothing was filled in.
        text: why; what is wrong, and what to look at.
    """

    right: bool | None
    text: str

    def __bool__(self) -> bool:
        return self.right is True

    def __repr__(self) -> str:
        words = {True: "Right.", False: "Not yet.", None: "Nothing is filled in yet."}
        return f"{words[self.right]} {self.text}"


class Wrong(Exception):
    """An answer is wrong; its text says in what."""


def exercise(
    check: Callable[Concatenate[Any, Rest], str],
) -> Callable[Concatenate[Any, Rest], Verdict]:
    """A check as the notebooks call it: it says what it finds, and never raises for an answer.

    check: takes an answer, which is not `...`, and returns what to say of a right one; it raises
    `Wrong` for others. The first line of its docstring says what is asked.
    """
    asked = (check.__doc__ or "").partition("\n")[0]

    @functools.wraps(check)
    def judge(answer: Any, *args: Rest.args, **named: Rest.kwargs) -> Verdict:
        if answer is ... or answer is None:
            return Verdict(None, asked)
        try:
            return Verdict(True, check(answer, *args, **named))
        except Wrong as wrong:
            return Verdict(False, str(wrong))

    return judge


def call(answer: Any, *args: Any) -> Any:
    """What a student's function returns; Wrong where it is none, raises, or returns nothing."""
    if not callable(answer):
        raise Wrong(f"Your answer is {_name(answer)}; a function is asked for.")
    try:
        found = answer(*args)
    except Exception as error:  # whatever a student may have written
        raise Wrong(f"Your function raised {type(error).__name__}: {error}") from error
    if found is None or found is ...:
        raise Wrong("Your function returns nothing: does it end in `return`?")
    return found


def take_number(answer: Any) -> float:
    """A number of a student; Wrong for anything else."""
    if isinstance(answer, Tensor) and answer.numel() == 1:
        answer = answer.item()
    if not isinstance(answer, Real) or isinstance(answer, bool):
        raise Wrong(f"Your answer is {_name(answer)}; a number is asked for.")
    return float(answer)


def take_tensor(answer: Any, shape: tuple[int, ...]) -> Tensor:
    """A tensor of that shape; lists of numbers are taken, too. Wrong for anything else."""
    try:
        tensor = answer if isinstance(answer, Tensor) else torch.as_tensor(answer)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"Your answer is {_name(answer)}; a tensor is asked for.") from None
    if tuple(tensor.shape) != shape:
        raise Wrong(f"Your tensor has the shape {tuple(tensor.shape)}; it should be {shape}.")
    return tensor.detach().float().cpu()


def take_names(answer: Any) -> set[str]:
    """Names as a set; Wrong for anything else."""
    if isinstance(answer, str):
        answer = answer.replace(",", " ").split()
    if not isinstance(answer, list | tuple | set | frozenset) or not all(
        isinstance(name, str) for name in answer
    ):
        raise Wrong(f"Your answer is {_name(answer)}; a list of names is asked for.")
    return set(answer)


def take_ratios(answer: Any) -> dict[str, float]:
    """{layer or stage: ratio}; Wrong for anything else."""
    if not isinstance(answer, Mapping):
        raise Wrong(
            f"Your answer is {_name(answer)}; a dict {{layer or stage: ratio}} is asked for."
        )
    return {str(name): take_number(ratio) for name, ratio in answer.items()}


def _name(answer: Any) -> str:
    text = repr(answer)
    return f"{text if len(text) < 40 else text[:37] + '...'} ({type(answer).__name__})"
