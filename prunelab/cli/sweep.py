"""`prunelab sweep`: many replays, with a live table of how far they are."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunelab.cli import options
from prunelab.utils.stopping import Terminated

if TYPE_CHECKING:
    from rich.table import Table

    from prunelab.experiments import Board, Sweep

LINES = 20  # points in the live table
ORDER = ("running", "failed", "done", "waiting")  # in it


def sweep(
    sweep: Annotated[
        str, typer.Argument(help="a sweep's name, such as digits-small, or a .yaml file")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show the points and the work ahead, and run nothing")
    ] = False,
    workers: Annotated[
        int,
        typer.Option(help="points side by side here; one a GPU, or one for two cores, if 0"),
    ] = 0,
    scheduler: Annotated[
        str, typer.Option(help="a Dask scheduler, tcp://HOST:8786, whose workers run the points")
    ] = "",
    retries: Annotated[
        int, typer.Option(help="how often a point whose kernel or worker was lost begins again")
    ] = 2,
    data: options.Data = "",
    changes: options.Changes = None,
    out: Annotated[
        str,
        typer.Option(help="where sweeps go: a folder, or an address such as s3://BUCKET/sweeps"),
    ] = "",
) -> None:
    """Run recipes × settings × seeds; run again, it goes on, and does nothing twice."""
    from prunelab.experiments import load_sweep, open_board, run_sweep

    loaded = load_sweep(sweep, changes or ())
    if data:
        loaded = loaded.model_copy(update={"data": data})
    if dry_run:
        _show_plan(open_board(loaded, out or None), workers)
        return
    if workers < 0 or retries < 0:
        raise ValueError(f"--workers and --retries are 0 or more; got {workers} and {retries}")
    how: dict[str, Any] = {"workers": workers or None, "scheduler": scheduler or None}
    boards: list[Board] = []
    try:
        with _showing(boards):
            points = run_sweep(
                loaded, out=out or None, retries=retries, watch=_make_watch(boards), **how
            )
    except KeyboardInterrupt as error:
        _say_end(loaded, boards)
        raise typer.Exit(143 if isinstance(error, Terminated) else 130) from None
    if not boards:  # all was done before
        boards.append(open_board(loaded, out or None))
    _say_points(boards[0])
    _say_best(points)
    if any(points["state"] == "failed"):
        raise typer.Exit(1)


def _make_watch(boards: "list[Board]") -> Any:
    """What `run_sweep` calls: it prints a line for each point that ended, where no table is."""
    told: set[str] = set()

    def watch(board: "Board") -> None:
        if not boards:
            boards.append(board)
            told.update(key for key, status in board.status.items() if status.state == "done")
            print(f"{board.sweep.title}: {_count(board)}, in {board.place.address}", flush=True)
        if _is_terminal():
            return
        for point in board.points:
            status = board.status[point.key]
            if status.state in ("done", "failed") and point.key not in told:
                told.add(point.key)
                said = _say_result(board, point.key) or status.error
                print(f"{point.key}: {status.state}, {said} ({_count(board)})", flush=True)

    return watch


def _is_terminal() -> bool:
    return sys.stdout.isatty()


@contextmanager
def _showing(boards: "list[Board]") -> Iterator[None]:
    """Within it, a terminal shows the live table."""
    if not _is_terminal():
        yield
        return
    from rich.live import Live
    from rich.text import Text

    def render() -> Any:
        if not boards:
            return Text("looking at what is there …")
        with suppress(OSError):  # a disk or an address that is away for a while
            boards[0].look()
        return draw(boards[0])

    with Live(get_renderable=render, refresh_per_second=1, transient=True):
        yield


def draw(board: "Board") -> "Table":
    """The live table of a sweep."""
    from rich.table import Table

    ahead = board.hours_left()
    title = f"{board.sweep.title}\n{_count(board)}" + (
        f", about {_say_hours(ahead)} ahead" if ahead is not None and ahead > 0 else ""
    )
    table = Table(title=title, title_justify="left", caption=f"in {board.place.address}")
    for name in ("point", "seed", "state", "epochs", "result"):
        table.add_column(name, justify="right" if name in ("seed", "epochs") else "left")
    rank = {state: i for i, state in enumerate(ORDER)}
    points = sorted(board.points, key=lambda point: rank[board.status[point.key].state])
    for point in points[:LINES]:
        status = board.status[point.key]
        said = _say_result(board, point.key) or status.error.partition("\n")[0]
        if status.tries and not said:
            said = f"begun again, {status.tries} of its workers were lost"
        table.add_row(
            point.name, str(point.seed), status.state, f"{status.epoch}/{status.epochs}", said
        )
    if len(points) > LINES:
        table.add_row(f"… and {len(points) - LINES} more", "", "", "", "")
    return table


def _count(board: "Board") -> str:
    states = ((board.count(state), state) for state in ("done", "running", "failed", "waiting"))
    return f"{len(board.points)} points: " + ", ".join(f"{n} {state}" for n, state in states if n)


def _say_result(board: "Board", key: str) -> str:
    """What came of a point that is done."""
    row = board.rows.get(key)
    if not row:
        return ""
    error = 100 * (1 - row["test_accuracy"])
    return f"{row['kind']}: error {error:.2f} %, {100 * row['flops_removed']:.1f} % removed"


def _say_hours(hours: float) -> str:
    return f"{60 * hours:.0f} min" if hours < 2 else f"{hours:.1f} h"


def _show_plan(board: "Board", workers: int) -> None:
    """The points, what is done, and the work ahead."""
    import pandas as pd

    from prunelab.experiments import count_workers

    board.workers = workers or count_workers()
    lines = []
    for point in board.points:
        status, work = board.status[point.key], board.work[point.key]
        line = {"point": point.name, "seed": point.seed, "state": status.state}
        line |= {"epochs": work.epochs, "multiply-adds": f"{work.flops:.2e}"}
        lines.append({**line, "takes the baseline of": point.baseline or ""})
    print(f"{board.sweep.title}\n")
    print(pd.DataFrame(lines).to_string(index=False))
    hours = board.hours_left()
    told = "; how long that takes was not measured here yet"
    if hours is not None:
        side = f"{board.workers} workers" if board.workers > 1 else "one worker"
        told = f": about {_say_hours(hours)} of training on {side}, by what replays took here"
    print(
        f"\n{_count(board)}, in {board.place.address}\n"
        f"ahead: {board.flops_left():.2e} multiply-adds of training (forward and backward){told}"
    )


def _say_points(board: "Board") -> None:
    """What failed, with its notebook."""
    print(f"{board.sweep.title}: {_count(board)}, in {board.place.address}")
    for point in board.points:
        status = board.status[point.key]
        if status.state == "failed":
            where = f"\n  its notebook is {status.notebook}" if status.notebook else ""
            print(f"{point.key} failed: {status.error.strip()}{where}")
    if board.count("failed"):
        print("the same command tries them again")


def _say_best(points: Any) -> None:
    """The points with the lowest errors."""
    from prunelab.experiments import compare_points, name_best

    best = compare_points(points[~points["for_others"]])
    if len(best):
        print(f"\n{name_best(best.head(LINES)).to_string(index=False)}")


def _say_end(loaded: "Sweep", boards: "list[Board]") -> None:
    kept = f"{_count(boards[0])}; " if boards else ""
    print(f"\nStopped. {loaded.name}: {kept}the same command goes on from there.", file=sys.stderr)
