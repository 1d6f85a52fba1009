"""Checks of what a user gives: a choice among names, a whole number. An error says what to type."""

import difflib
from collections.abc import Iterable
from numbers import Integral


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
