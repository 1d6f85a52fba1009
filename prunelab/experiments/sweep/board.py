"""A sweep at work, or about to be: its points, how far each is, and the work that is ahead."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from prunelab.experiments.results import read_rows
from prunelab.experiments.sweep.definition import Sweep
from prunelab.experiments.sweep.points import Point, make_points
from prunelab.experiments.sweep.status import Status, count_logged, look, pick_row
from prunelab.experiments.sweep.storage import Place
from prunelab.experiments.sweep.task import note_failure
from prunelab.experiments.sweep.work import Work, count_work, measure_speed
from prunelab.models import check_start
from prunelab.utils.ownership import find_owner
from prunelab.utils.paths import runs_dir

UNDER_WAY = ("waiting", "running")
PULL = 10.0  # seconds between two looks at an address


@dataclass
class Board:
    """A sweep as it stands, for those that run it or show it.

    Attributes:
        sweep: what it is.
        place: where its runs are kept.
        points: all of them, those first that others wait for.
        status: {key of a point: how far it is}.
        work: {key of a point: what it has to train}.
        rows: {key of a point that is done: the row of its retrained network}.
        given: keys of the points that workers have.
        workers: how many points run side by side.
    """

    sweep: Sweep
    place: Place
    points: list[Point]
    status: dict[str, Status]
    work: dict[str, Work]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    workers: int = 1
    _pulled: float = 0.0
    _lock: Any = field(default_factory=threading.RLock)  # a table is drawn beside the work

    def count(self, state: str) -> int:
        """How many points are so far."""
        return sum(status.state == state for status in list(self.status.values()))

    def mark(self, point: Point, **values: Any) -> None:
        """Note how far a point is."""
        with self._lock:
            self.status[point.key] = replace(self.status[point.key], **values)

    def read_row(self, point: Point) -> None:
        """Read what came of a point that is done."""
        self.place.pull_small([point.key])
        self.rows[point.key] = pick_row(self.place.folder / point.key)

    def look(self) -> None:
        """See which of the points that workers have are running, and their epochs."""
        if time.monotonic() - self._pulled > PULL:
            self.place.pull_small(list(self.given))
            self._pulled = time.monotonic()
        for point in self.points:
            if point.key not in self.given:
                continue
            state = UNDER_WAY[find_owner(self.place.folder / point.key) is not None]
            epoch = count_logged(point, self.place.folder)
            with self._lock:  # it may have ended meanwhile
                if point.key in self.given and self.status[point.key].state in UNDER_WAY:
                    self.mark(point, state=state, epoch=epoch)

    def flops_left(self) -> float:
        """Multiply-adds of training that are ahead."""
        left = 0.0
        for key, status in list(self.status.items()):
            if status.state != "done":
                work = self.work[key]
                left += work.flops * (1 - min(1.0, status.epoch / max(1, work.epochs)))
        return left

    def hours_left(self) -> float | None:
        """The hours they take on as many workers, by replays here; None where none tells."""
        rows = pd.DataFrame(list(self.rows.values()))
        speed = measure_speed(rows) or measure_speed(read_rows(runs_dir()), _name_device())
        return None if speed is None else self.flops_left() / speed / 3600 / self.workers


def _name_device() -> str:
    """What this machine trains on, as rows name it."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def open_board(sweep: Sweep, out: str | Path | None = None) -> Board:
    """A sweep as it stands; nothing is run.

    Args:
        sweep: of `load_sweep`.
        out: the folder or fsspec address where sweeps go; None: `data/runs`.

    Raises:
        ValueError: a setting that a recipe does not have.
        FileNotFoundError: there is no such data.
    """
    root = str(out).rstrip("/") if out else str(runs_dir())
    place = Place(f"{root}/{sweep.name}", role="run")
    place.pull_small()
    points = make_points(sweep, place.folder)
    board = Board(sweep, place, points, {}, {})
    starts = set()
    for point in points:
        recipe = point.load(place.folder)
        starts.add((recipe.model.name, recipe.model.weights))
        board.work[point.key] = count_work(point, recipe)
        board.status[point.key] = look(point, place.folder, board.work[point.key].epochs)
    for name, weights in starts:
        check_start(name, weights)
    for point in points:
        status = board.status[point.key]
        # one of other settings, or of other data, is none of ours
        if status.state == "done" and point.is_done(place.folder):
            board.read_row(point)
        elif status.state == "done":
            board.mark(point, state="waiting")
    return board


def find_ready(board: Board, waiting: Iterable[Point]) -> list[Point]:
    """The points whose baseline is there: first those that others need, and those with most work.

    Those whose baseline failed are noted as failed.
    """
    waiting, ready = list(waiting), []
    needed_by = {point.baseline for point in waiting}
    for point in waiting:
        needed = "done" if point.baseline is None else board.status[point.baseline].state
        if needed == "done":
            ready.append(point)
        elif needed == "failed":
            why = f"its baseline, {point.baseline}, failed"
            board.mark(point, state="failed", error=why)
            note_failure(board.place.folder / point.key, why, "")
            board.place.push(point.key)
    # with the longest last, a sweep would end in one worker that is left alone
    return sorted(ready, key=lambda p: (p.key not in needed_by, -board.work[p.key].flops))
