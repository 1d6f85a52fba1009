"""How far long work is: a bar on a terminal; elsewhere (a notebook, a log) a line now and then."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Report = Callable[[int, int], None]  # called with how much is done, of how much
SECONDS = 30  # between two lines


def track(items: Iterable[Item], name: str, count: int, unit: str, *, show: bool) -> Iterator[Item]:
    """The items, one by one; with `show`, how many of `count` are done."""
    printed = time.monotonic()
    bar = tqdm(items, name, count, leave=False, unit=unit, disable=None if show else True)
    for i, item in enumerate(bar):
        if show and time.monotonic() - printed > SECONDS:
            print(f"  {name}: {i} of {count} {unit}", flush=True)
            printed = time.monotonic()
        yield item
