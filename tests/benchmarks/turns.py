"""Two ways of doing the same, timed in turns in one process: a busy machine slows both alike."""

import time
from collections.abc import Callable
from typing import Any

import torch


def compare(
    what: str,
    ours: Callable[[Any], object],
    theirs: Callable[[Any], object],
    make: Callable[[], Any],
    pairs: int,
) -> dict[str, object]:
    """A row of how long both take, by turns.

    Args:
        what: the row's name.
        ours: what is compared.
        theirs: with what.
        make: what both are given, made anew each time and not timed.
        pairs: how often they take turns. One pair goes before, unmeasured.

    Returns:
        what, ours_s and theirs_s (median seconds), ratio (the median of theirs / ours over pairs),
        its least and most, and pairs.
    """
    seconds: list[tuple[float, float]] = []
    for turn in range(pairs + 1):
        pair = []
        for do in (ours, theirs) if turn % 2 else (theirs, ours):
            given = make()
            start = time.perf_counter()
            do(given)
            pair.append(time.perf_counter() - start)
        if turn:
            seconds.append((pair[0], pair[1]) if turn % 2 else (pair[1], pair[0]))
    mine, other = torch.tensor(seconds).T
    ratios = other / mine
    return {
        "what": what,
        "ours_s": float(mine.median()),
        "theirs_s": float(other.median()),
        "ratio": float(ratios.median()),
        "least": float(ratios.min()),
        "most": float(ratios.max()),
        "pairs": pairs,
    }
