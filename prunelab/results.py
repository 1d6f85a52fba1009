"""Measured rows, gathered in one CSV and set beside the paper's tables."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prunelab import processes
from prunelab.checkpoint import write_whole

KEY = ["recipe", "kind", "dataset", "seed", "device"]


def gather_rows(rows: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """Add rows to a CSV, in place of those of the same recipe, kind, data set, seed and device."""
    path = Path(path)
    frames = [pd.read_csv(path), rows] if path.exists() else [rows]
    together = pd.concat(frames, ignore_index=True).drop_duplicates(KEY, keep="last").sort_values(KEY)
    write_whole(path, together.to_csv(index=False))
    return together.reset_index(drop=True)


def read_rows(*paths: str | Path) -> pd.DataFrame:
    """The rows of several CSVs of results, the last of equal runs; an empty frame when none of them exists."""
    frames = [pd.read_csv(path) for path in paths if Path(path).exists()]
    if not frames:
        return pd.DataFrame(columns=[*KEY, "weights", "test_accuracy", "flops", "params"])
    return pd.concat(frames, ignore_index=True).drop_duplicates(KEY, keep="last").reset_index(drop=True)


def append_line(path: Path, about: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """Add a JSON line to a log, at once, so that others can follow it."""
    if not processes.rank():
        torn = path.exists() and not path.read_bytes().endswith(b"\n")  # by a kill: the line is left as it is
        with open(path, "a", encoding="utf-8") as file:
            file.write("\n" * torn + json.dumps({**about, **row}) + "\n")


def read_log(folder: str | Path) -> pd.DataFrame:
    """The epochs of a run's `log.jsonl`, each once, for `charts.learning_curves`; a line that is not whole is left out.

    The run may still be going on, in another process: a notebook that was closed looks at it again by this.

    >>> charts.learning_curves(read_log("data/runs/resnet56-pruned-b-0"))
    """
    path = Path(folder) / "log.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}; name the folder of a run, such as data/runs/digits-quick-0")
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    rows = [{"step": 0, **row} for row in rows]  # a log from before steps were counted has none
    frame = pd.DataFrame(rows, columns=None if rows else ["kind", "step", "epoch"])
    frame = frame.drop_duplicates(["kind", "step", "epoch"], keep="last")
    training = frame.groupby(["kind", "step"], sort=False).ngroup()  # in the order in which they began
    return frame.iloc[np.lexsort((frame["epoch"], training))].reset_index(drop=True)


def find_unlogged(folder: str | Path, kind: str, step: int, history: pd.DataFrame) -> list[dict[str, Any]]:
    """The epochs of a training that its log lacks."""
    path = Path(folder) / "log.jsonl"
    log = read_log(folder) if path.exists() else pd.DataFrame(columns=["kind", "step", "epoch"])
    known = log[(log["kind"] == kind) & (log["step"] == step)]["epoch"]
    rows: list[dict[Any, Any]] = history.to_dict("records")
    return [row for row in rows if row["epoch"] not in set(known)]


def paper_dir() -> Path:
    """Where the paper's tables are, in a checkout or an installed package."""
    package = Path(__file__).parent
    return next(f for f in (package.parent / "data" / "paper", package / "data" / "paper") if f.is_dir())


def read_paper(folder: str | Path) -> pd.DataFrame:
    """Table 1 of Li et al. 2017, by its row's name: error and pruned shares in percent, as printed."""
    return pd.read_csv(Path(folder) / "table1.csv").set_index("model")


def compare_with_paper(rows: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """A line for each recipe, kind and data set, over its seeds, beside the paper's row. Percent throughout.

    error: 100 − last-epoch test accuracy, mean ± standard deviation for n > 1. change: points against the
    same seeds' baseline. The paper's error is its best on test, so `best` (ours, chosen likewise) is beside it.
    """
    lines = []
    for (recipe, kind, dataset), found in rows.groupby(["recipe", "kind", "dataset"], sort=False):
        base = rows[(rows["recipe"] == recipe) & (rows["kind"] == "baseline") & (rows["dataset"] == dataset)]
        key = _paper_row(str(found["paper"].iloc[0]), str(kind))
        printed = paper.loc[key] if key in paper.index else None
        first = found.iloc[0]
        lines.append(
            {
                "recipe": recipe,
                "network": kind,
                "data": dataset,
                "n": len(found),
                "error %": _spread(100 * (1 - found["test_accuracy"])),
                "paper's error %": "" if printed is None else f"{printed['error_percent']:.2f}",
                "best %": _spread(100 * (1 - found["test_accuracy_best"])),
                "change": _spread(100 * (base["test_accuracy"].mean() - found["test_accuracy"])) if len(base) else "",
                "multiply-adds": f"{first['flops']:.3g}",
                "removed %": f"{100 * first['flops_removed']:.1f}",
                "paper removed %": ""
                if printed is None or pd.isna(printed["flops_pruned_percent"])
                else f"{printed['flops_pruned_percent']:.1f}",
                "parameters": f"{first['params']:.3g}",
                "epochs": int(first["epochs"]),
            }
        )
    return pd.DataFrame(lines)


def _paper_row(name: str, kind: str) -> str:
    """The paper's row for a network of a recipe: its baseline's, its own, or the scratch one."""
    plain = name.removesuffix("-scratch")
    if kind == "baseline":
        return plain.split("-pruned")[0]
    return {"retrained": plain}.get(kind, f"{plain}-scratch" if kind.startswith("scratch") else "")


def _spread(values: pd.Series) -> str:
    values = values.dropna()
    if values.empty:
        return ""
    return f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")
