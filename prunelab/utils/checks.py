"""Checks of what a user gives: choices, numbers, settings. An error says what to type."""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from numbers import Integral
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

CONFIG = ConfigDict(extra="forbid", frozen=True)  # of all settings
SEEDS = 2**32  # of numpy and of torch
T = TypeVar("T")


def did_you_mean(given: object, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """`; did you mean 'l1'? ` with the nearest of the known names, or `. ` where none is near."""
    near = difflib.get_close_matches(str(given), list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}? " if near else ". "


def check_choice(what: str, given: str, choices: Iterable[str]) -> str:
    """`given` if it is one of the choices; else ValueError names the nearest and lists them."""
    known = list(choices)
    if given in known:
        return given
    hint = did_you_mean(str(given).lower(), known, cutoff=0.5)
    raise ValueError(f"unknown {what} {given!r}{hint}Known: {', '.join(known)}")


def check_whole(
    what: str, given: object, *, least: int = 1, most: int | None = None, why: str = ""
) -> None:
    """ValueError unless `given` is a whole number of at least `least` (and at most `most`)."""
    whole = isinstance(given, Integral) and not isinstance(given, bool)
    if whole and least <= int(given) <= (most or int(given)):  # type: ignore[call-overload]
        return
    bounds = f", {least} or more" if most is None else f" from {least} to {most}"
    raise ValueError(f"{what} must be a whole number{bounds}{why and f' ({why})'}; got {given!r}")


def _refuse(kind: type, what: str) -> BeforeValidator:
    """Of values that pydantic would turn into others: '3' into 3, True into 1, 'no' into False."""

    def check(given: Any) -> Any:
        if isinstance(given, bool) != (kind is bool) or not isinstance(given, kind):
            raise ValueError(f"must be {what}")
        return given

    return BeforeValidator(check)


def _refuse_bool(given: Any) -> Any:
    if isinstance(given, bool):
        raise ValueError("must be a number")
    return given


# what a setting may be; more is said by Field
Whole = Annotated[int, _refuse(Integral, "a whole number")]
Number = Annotated[float, BeforeValidator(_refuse_bool), Field(allow_inf_nan=False)]
Switch = Annotated[bool, _refuse(bool, "true or false")]
Seed = Annotated[Whole, Field(ge=0, lt=SEEDS)]
Fraction = Annotated[Number, Field(gt=0, lt=1)]


@dataclass_transform(frozen_default=True)
def settings(cls: type[T]) -> type[T]:
    """A frozen dataclass whose fields pydantic checks, and whose errors are sentences."""
    made: Any = dataclass(frozen=True, config=ConfigDict(extra="forbid"))(cls)
    begin = made.__init__

    def __init__(self: T, *args: Any, **given: Any) -> None:
        try:
            begin(self, *args, **given)
        except ValidationError as error:
            known = [field.name for field in fields(made)]
            raise ValueError(f"{cls.__name__}: {explain(error, lambda _: known)}") from None

    made.__init__ = __init__
    return made


def explain(error: ValidationError, fields_of: Callable[[tuple[Any, ...]], list[str]]) -> str:
    """pydantic's error in sentences; fields_of: the keys of the section at a place."""
    sentences = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            known = fields_of(problem["loc"][:-1])
            hint = did_you_mean(problem["loc"][-1], known)
            sentences.append(f"unknown key {where!r}{hint}Known: {', '.join(known)}")
        elif problem["type"] == "missing":
            sentences.append(f"{where!r} is missing")
        else:
            got = "" if isinstance(problem["input"], dict) else f", got {problem['input']!r}"
            said = re.sub("^Input should|^Value error, must", "must", problem["msg"]) + got
            said = said.removeprefix("Value error, ")
            link = " " if said.startswith("must") else ": "
            sentences.append(f"{where!r}{link}{said}" if where else said)
    return "; ".join(sentences)
