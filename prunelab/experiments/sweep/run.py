"""Running a sweep: what is not done is given to workers, and what they say is noted."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from prunelab.experiments.sweep.board import Board, find_ready, open_board
from prunelab.experiments.sweep.definition import Sweep, load_sweep
from prunelab.experiments.sweep.in_order import InOrder
from prunelab.experiments.sweep.on_dask import OnDask, count_workers
from prunelab.experiments.sweep.points import Point
from prunelab.experiments.sweep.status import read_sweep, write_about
from prunelab.experiments.sweep.task import Outcome, note_failure
from prunelab.utils.ownership import NAME as OWNER
from prunelab.utils.ownership import owning
from prunelab.utils.seals import write_table
from prunelab.utils.stopping import Stops, Terminated, noting_stops

POINTS = "points.csv"  # the table, when it is done
Watch = Callable[[Board], None]


def run_sweep(
    sweep: Sweep | str | Path,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    retries: int = 2,
    watch: Watch | None = None,
) -> pd.DataFrame:
    """Run what is not done yet of a sweep, each point as one papermill replay.

    Called again, it goes on, and finished points are not run again. A point that fails is noted
    with its error and its notebook, and the others go on.

    Args:
        sweep: of `load_sweep`, or its name or file.
        out: the folder or fsspec address where sweeps go, each in a folder of its name; None:
            `data/runs`.
        workers: how many points run side by side on this machine, by Dask; None: one for each GPU,
            or for every two cores, if Dask is installed. One runs them in order, without it.
        scheduler: the address of a Dask scheduler whose workers run the points.
        retries: how often a point whose kernel or worker was lost is begun again.
        watch: called with the board whenever a point was begun or ended, and every second where
            points run side by side.

    Returns:
        As `read_sweep`.

    Raises:
        ValueError: what is wrong with a sweep or its points, before any runs; a resource that no
            worker has.
        OSError: another sweep works in the folder; no scheduler answers.
        KeyboardInterrupt: it was stopped, by Ctrl-C or SIGTERM, after running points saved.

    Example:
        >>> points = run_sweep("digits-small")
    """
    board = open_board(sweep if isinstance(sweep, Sweep) else load_sweep(sweep), out)
    place, address = board.place, board.place.address
    if scheduler is None and workers is None:
        workers = count_workers() if find_spec("distributed") else 1
    many = scheduler is not None or (workers or 1) > 1
    if many and place.is_here_alone:
        raise ValueError(
            f"{address} is seen by one process alone; run in order (--workers 1), or name a folder "
            "or an address that workers see"
        )
    place.pull_small([OWNER])  # of a sweep elsewhere
    with place.pushing(OWNER), owning(place.folder), noting_stops() as stops:
        place.push(OWNER)
        write_about(board.sweep, board.points, board.work, place)
        name = uuid.uuid4().hex
        waiting = [point for point in board.points if board.status[point.key].state != "done"]
        runner: InOrder | OnDask = InOrder(address, name)
        if many and waiting:
            how = {"workers": workers or 1, "retries": retries}
            runner = OnDask(address, name, scheduler, stops, **how)
        try:
            runner.check(waiting)
            _work(board, waiting, runner, retries, watch or (lambda _: None), stops)
        finally:
            runner.close()
        points = read_sweep(address)
        write_table(place.folder / POINTS, points)
        place.push(POINTS)
    return points


def _work(
    board: Board,
    waiting: list[Point],
    runner: InOrder | OnDask,
    retries: int,
    watch: Watch,
    stops: Stops,
) -> None:
    """Give points to workers until none is left."""
    for point in waiting:
        board.mark(point, state="waiting", error="", notebook="")
    while waiting:
        board.workers = runner.workers
        ready = [point for point in find_ready(board, waiting) if point.key not in board.given]
        for point in ready[: max(0, runner.room)]:
            board.given.add(point.key)
            runner.submit(point)
        if board.given:
            with suppress(OSError):  # an address that is away for a while
                board.look()
            watch(board)
            for point, outcome in runner.wait() if stops.asked is None else ():
                _note(board, point, outcome, retries)
                # in this process; a worker that is stopped gives its point to another
                if outcome.state == "stopped" and isinstance(runner, InOrder):
                    raise Terminated if outcome.error == "Terminated" else KeyboardInterrupt
        if stops.asked is not None:
            runner.stop()
            with suppress(OSError):
                board.look()
            stops.obey()
        waiting = [p for p in waiting if board.status[p.key].state in ("waiting", "running")]
    watch(board)


def _note(board: Board, point: Point, outcome: Outcome, retries: int) -> None:
    """Note how a point ended; one that was lost waits again."""
    board.given.discard(point.key)
    if outcome.state == "done":
        board.read_row(point)
        board.mark(point, state="done", epoch=board.work[point.key].epochs)
        return
    tries = board.status[point.key].tries + (outcome.state == "died")
    given_up = outcome.state == "failed" or tries > retries
    state = "failed" if given_up else "waiting"
    error = outcome.error if outcome.state in ("failed", "died") else ""
    board.mark(point, state=state, tries=tries, error=error, notebook=outcome.notebook)
    if given_up and not outcome.notebook:  # its worker had no time to
        note_failure(board.place.folder / point.key, error, outcome.notebook)
        board.place.push(point.key)
