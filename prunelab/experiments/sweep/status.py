"""How far the points of a sweep are, by the files in its folder, whoever runs it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from prunelab.experiments.results import read_rows
from prunelab.experiments.sweep.definition import Sweep
from prunelab.experiments.sweep.points import RECIPES, Point
from prunelab.experiments.sweep.storage import Place
from prunelab.experiments.sweep.task import FAILED
from prunelab.experiments.sweep.work import Work
from prunelab.utils.ownership import find_owner
from prunelab.utils.paths import find_shipped
from prunelab.utils.seals import read_note, read_table, write_note

ABOUT = "sweep.json"
PUBLISHED = "data/results/sweep-digits-small.csv"
# of the networks of a point, the one that a table of points shows
SHOWN = ("retrained", "scratch-E", "scratch-B", "pruned", "baseline")


@dataclass(frozen=True)
class Status:
    """How far a point is.

    state: done, running, waiting or failed. epoch: how many of its epochs are trained. tries: how
    often it was begun by this sweep.
    """

    state: str = "waiting"
    epoch: int = 0
    epochs: int = 0
    error: str = ""
    notebook: str = ""
    tries: int = 0


def write_about(sweep: Sweep, points: list[Point], work: Mapping[str, Work], place: Place) -> None:
    """Keep what a sweep consists of in its folder, for those that look at it."""
    listed = [{**point.as_json(), "epochs": work[point.key].epochs} for point in points]
    about = {"name": sweep.name, "title": sweep.title, "points": listed}
    write_note(place.folder / ABOUT, about)
    place.push(ABOUT)
    place.push(RECIPES)


def read_about(folder: Path) -> list[tuple[Point, int]]:
    """The points of a sweep's folder, each with its epochs."""
    path = folder / ABOUT
    if not path.exists():
        raise FileNotFoundError(
            f"there is no sweep in {folder}: name the folder that `prunelab sweep` made, such as "
            "data/runs/digits-small, or a CSV of its points"
        )
    points = []
    try:
        for values in read_note(path)["points"]:
            epochs = values.pop("epochs")
            points.append((Point(**{**values, "changes": tuple(values["changes"])}), epochs))
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path} is none of ours, or was torn: the same `prunelab sweep` writes it again"
        ) from None
    return points


def look(point: Point, runs: Path, epochs: int) -> Status:
    """How far a point is; runs: the sweep's folder."""
    folder = runs / point.key
    status = Status(epoch=count_logged(point, runs), epochs=epochs)
    if find_owner(folder) is not None:
        return replace(status, state="running")
    if (folder / FAILED).exists():
        about = read_note(folder / FAILED)
        return replace(status, state="failed", error=about["error"], notebook=about["notebook"])
    if (folder / "finished.json").exists():
        return replace(status, state="done")
    return status


def count_logged(point: Point, runs: Path) -> int:
    """How many epochs of its own a point has logged; its folder may not be there yet."""
    path = runs / point.key / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    # those of a baseline from elsewhere are logged, too
    return sum(point.baseline is None or '"kind": "baseline"' not in line for line in lines)


def read_sweep(where: str | Path | None = None) -> pd.DataFrame:
    """The points of a sweep, running or finished, and what came of them so far.

    Args:
        where: the sweep's folder or address, or a CSV of such points; None: `digits-small`, as we
            publish it in `data/results/sweep-digits-small.csv`.

    Returns:
        A row for each point; columns point, seed, recipe, for_others (it only trains a baseline
        that others share), those of the settings that vary, state (done, running, waiting, failed),
        epoch, epochs, error, notebook, and, for those that are done, the columns of `replay` for
        their retrained network (where there is none, for the scratch one, else the baseline). All
        networks of all points: `read_rows(folder)`.

    Raises:
        FileNotFoundError: there is no sweep.

    Example:
        >>> points = read_sweep("data/runs/digits-small")
        >>> points["state"].value_counts()
    """
    where = where or find_shipped(PUBLISHED)
    if str(where).endswith(".csv"):
        if not Path(where).exists():
            raise FileNotFoundError(f"there is no {where}")
        return read_table(where)
    place = Place(where)
    place.pull_small()
    points = read_about(place.folder)
    settings = list(dict.fromkeys(key for point, _ in points for key in point.settings))
    lines = []
    for point, epochs in points:
        folder = place.folder / point.key
        status = look(point, place.folder, epochs)
        lines.append(_describe(point, settings, status, folder))
    return pd.DataFrame(lines)


def _describe(point: Point, settings: list[str], status: Status, folder: Path) -> dict[str, Any]:
    line: dict[str, Any] = {"point": point.name, "seed": point.seed}
    line |= {"recipe": Path(point.recipe).stem.partition("~")[0], "for_others": point.for_others}
    line |= {key: _as_cell(point.settings.get(key)) for key in settings}
    line |= {"state": status.state, "epoch": status.epoch, "epochs": status.epochs}
    line |= {"error": status.error, "notebook": status.notebook}
    if status.state == "done":
        line |= {**pick_row(folder), "epochs": status.epochs}
    return line


def pick_row(folder: Path) -> dict[str, Any]:
    """The network of a run that a table of points shows."""
    rows = read_rows(folder / "rows.csv")
    for kind in SHOWN:
        own = rows[rows["kind"] == kind]
        if len(own):
            row = own.iloc[-1].drop(["recipe", "seed"])
            return {str(name): value for name, value in row.items()}
    return {}


def _as_cell(value: Any) -> Any:
    plain = value is None or isinstance(value, int | float | str)
    return value if plain else json.dumps(value, default=str)
