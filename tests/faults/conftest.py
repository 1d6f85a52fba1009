"""Faults are counted; `make faults` does each 20 times and writes data/faults.md."""

import os
import platform
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import prunelab

TIMES = int(os.environ.get("PRUNELAB_FAULTS", "0"))
TABLE = Path(__file__).parents[2] / "data" / "faults.md"
HEAD = """# Faults

What `make faults` did to prunelab {version}, and what it held to after each: a clear sentence or \
none needed, nothing lost that was finished, and the same result in the end. Linux, Python \
{python}, torch {torch}.

| Fault | Times | Held |
|---|---|---|
"""


@pytest.fixture
def times() -> int:
    """How often a fault is tried; a few times in `make test`."""
    return TIMES or 1


@pytest.fixture(scope="session")
def _counts() -> Iterator[Counter[tuple[str, bool]]]:
    counts: Counter[tuple[str, bool]] = Counter()
    yield counts
    if TIMES:
        about = {"version": prunelab.__version__, "python": platform.python_version()}
        lines = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.exists() else []
        rows = {line.split(" | ")[0][2:]: line for line in lines if line.startswith("| ")}
        rows.pop("Fault", None)
        for fault in dict.fromkeys(fault for fault, _ in counts):  # in place of those before
            tried, held = counts[fault, False], counts[fault, True]
            rows[fault] = f"| {fault} | {tried:,} | {'all' if held == tried else held} |"
        text = HEAD.format(**about, torch=torch.__version__)
        TABLE.write_text(text + "\n".join([*rows.values(), ""]), encoding="utf-8")


@pytest.fixture
def tally(_counts: Counter[tuple[str, bool]]) -> Callable[[str, bool], None]:
    """`tally(fault, False)` before it is tried, `tally(fault, True)` after it held."""

    def count(fault: str, held: bool) -> None:
        _counts[fault, held] += 1

    return count


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Random moments and places, the same ones each time for as many tries."""
    return random.Random(f"{request.node.name} {TIMES}")
