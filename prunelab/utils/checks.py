"""Checks of what a user gives: choices, numbers, settings. An error says what to type."""

import difflib
import re
import reprlib
from collections.abc import Callable, Iterable
from dataclasses import fields
from numbers import Integral
from typing import Annotated, Any, TypeVar, dataclass_transform

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
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


def check_seed(given: object) -> None:
    """ValueError unless `given` is a seed, as settings take it."""
    check_whole("seed", given, least=0, most=SEEDS - 1)


def _refuse(kind: type, what: str) -> BeforeValidator:
    """Of values that pydantic would turn into others: '3' into 3, True into 1, 'no' into False."""

    def check(given: Any) -> Any:
        given = bool(given) if isinstance(given, np.bool_) else given
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


class Claims(BaseModel):
    """A part of a file's JSON that pydantic checks: numbers are no strings, and no True is a 1."""

    model_config = ConfigDict(strict=True)


def check_claims(kind: type[Claims], given: object, what: str) -> None:
    """ValueError, a sentence on the first thing that is wrong, unless `given` is of a kind."""
    try:
        kind.model_validate(given)
    except ValidationError as error:
        raise ValueError(f"{what}: {explain(error, most=1)}") from None


def explain(
    error: ValidationError,
    fields_of: Callable[[tuple[Any, ...]], list[str]] | None = None,
    most: int = 5,
) -> str:
    """pydantic's error in sentences, `most` at most; fields_of: the keys of the section at a place.

    What is given may be long, or an attack on who reads: it is shortened and shown as Python's.
    """
    sentences = []
    for problem in error.errors(include_url=False)[:most]:
        where = reprlib.repr(".".join(str(part) for part in problem["loc"]))
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            if fields_of is None:
                sentences.append(f"{where} is unknown")
                continue
            known = fields_of(problem["loc"][:-1])
            hint = did_you_mean(problem["loc"][-1], known)
            sentences.append(f"unknown key {where}{hint}Known: {', '.join(known)}")
        elif problem["type"] == "missing":
            sentences.append(f"{where} is missing")
        else:
            section = isinstance(problem["input"], dict)
            got = "" if section else f", got {reprlib.repr(problem['input'])}"
            said = re.sub(
                "^(Input|List|String) should |^Value error, must ", "must ", problem["msg"]
            )
            said = re.sub("^Value error, | or instance of .*", "", said) + got
            link = " " if said.startswith("must") else ": "
            sentences.append(f"{where}{link}{said}" if problem["loc"] else said)
    return "; ".join(sentences)
