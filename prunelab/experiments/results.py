"""Measured rows, gathered in one CSV and set beside the paper's tables."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd

from prunelab.utils import processes
from prunelab.utils.ownership import owning
from prunelab.utils.paths import find_shipped
from prunelab.utils.seals import CHANGED, EVIDENCE, MEASURED, read_table, write_table

PUBLISHED = "data/results/replays.csv"
# networks in the order of a report
KINDS = ("baseline", "pruned", "retrained", "continued", "scratch-E", "scratch-B")
KEY = ["recipe", "kind", "dataset", "seed", "device"]


def gather_rows(rows: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """Add rows to a CSV, in place of those of the same recipe, kind, data set, seed and device."""
    path = Path(path)
    # others may gather there, too; under torchrun, the first process writes
    with nullcontext() if processes.rank() else owning(path.parent, wait=True):
        new = rows if EVIDENCE in rows else rows.assign(**{EVIDENCE: MEASURED})
        frames = [read_rows(path), new] if path.exists() else [new]
        together = pd.concat(frames, ignore_index=True)
        together = together.drop_duplicates(KEY, keep="last").sort_values(KEY, ignore_index=True)
        write_table(path, together)
    return together


def read_rows(*paths: str | Path) -> pd.DataFrame:
    """The rows of runs.

    Args:
        paths: CSVs of results, or folders of runs (`data/runs`), each of which holds its own rows;
            none: what is published in `data/results/replays.csv`.

    Returns:
        A row for each network, the last of equal runs; empty where no file exists. Column evidence
        says whether it is as it was measured: `measured`; `changed` by hand, after that, which a
        warning says, too; or `unsealed`, of a version without checksums.

    Raises:
        ValueError: a file is torn.

    Example:
        >>> read_rows("data/runs")
    """
    files: list[Path] = []
    for path in map(Path, paths or (find_shipped(PUBLISHED),)):
        files += sorted(path.glob("*/rows.csv")) if path.is_dir() else [path] * path.exists()
    frames = [_read_results(file) for file in files]
    if not frames:
        return pd.DataFrame(columns=[*KEY, "weights", "test_accuracy", "flops", "params", EVIDENCE])
    together = pd.concat(frames, ignore_index=True).drop_duplicates(KEY, keep="last")
    return together.reset_index(drop=True)


def _read_results(file: Path) -> pd.DataFrame:
    frame = read_table(file)
    if lacking := [name for name in KEY if name not in frame]:
        raise ValueError(
            f"{file} is no table of results, or was changed: it has no column "
            f"{', '.join(lacking)}; move it away, or name another"
        )
    return frame


def sort_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """A run's rows in the order of a report."""
    return rows.sort_values("kind", key=lambda kinds: kinds.map(KINDS.index), ignore_index=True)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows for reading: percent, millions and milliseconds."""
    rows = rows.set_index("kind")
    table = {
        "test accuracy %": 100 * rows["test_accuracy"],
        "best %": 100 * _best(rows),
        "validation %": 100 * rows["val_accuracy"],
        "multiply-adds (M)": rows["flops"] / 1e6,
        "removed %": 100 * rows["flops_removed"],
        "parameters (M)": rows["params"] / 1e6,
        f"ms for {rows['latency_batch'].iloc[0]} images": rows["latency_ms"],
        "epochs": rows["epochs"],
    }
    return pd.DataFrame(table).round(2)


def read_paper(table: int = 1) -> pd.DataFrame:
    """A table of Li et al. 2017, as printed.

    Args:
        table: 1, errors and what is pruned; 2, VGG-16-pruned-A layer by layer; 3, times (without
            ResNet-34, whose numbers we could not check).

    Returns:
        A row for each network, or layer, by its name; errors and shares in percent.

    Raises:
        ValueError: there is no such table.

    Example:
        >>> read_paper().loc["vgg16-pruned-a", "flops_pruned_percent"]
        34.2
    """
    if table not in (1, 2, 3):
        raise ValueError(f"of the paper's tables, 1, 2 and 3 are here; got table={table!r}")
    frame = pd.read_csv(find_shipped(f"data/paper/table{table}.csv"))
    return frame.set_index(str(frame.columns[0]))


def compare_with_paper(rows: pd.DataFrame, paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """Measured rows beside the paper's, percent throughout.

    Args:
        rows: of `read_rows` or `replay`.
        paper: of `read_paper`, when at hand.

    Returns:
        A line for each recipe, kind and data set, over its seeds; columns recipe, network, data,
        n, error % (100 − last-epoch test accuracy, mean ± standard deviation for n > 1), paper's
        error %, best % (the paper's error is its best on test; ours, chosen likewise), change
        (points of error against the baseline of the same recipe and seed), multiply-adds,
        removed %, paper removed %, parameters, epochs.

    Example:
        >>> compare_with_paper(read_rows())
    """
    paper = read_paper() if paper is None else paper
    lines = []
    for (recipe, kind, dataset), found in rows.groupby(["recipe", "kind", "dataset"], sort=False):
        same = (rows["recipe"] == recipe) & (rows["dataset"] == dataset)
        pairs = pair_rows(found, rows[same & (rows["kind"] == "baseline")])
        key = find_printed(str(found["paper"].iloc[0]), str(kind))
        printed = paper.loc[key] if key in paper.index else pd.Series(dtype=float)
        first = found.iloc[0]
        line = {
            "recipe": recipe,
            "network": f"{kind} (changed by hand)" if _is_changed(found) else kind,
            "data": dataset,
            "n": len(found),
            "error %": _spread(100 * (1 - found["test_accuracy"])),
            "paper's error %": _format(printed.get("error_percent"), ".2f"),
            "best %": _spread(100 * (1 - _best(found))),
            "change": _spread(100 * (pairs["beside"] - pairs["test_accuracy"])),
            "multiply-adds": f"{first['flops']:.3g}",
            "removed %": f"{100 * first['flops_removed']:.1f}",
            "paper removed %": _format(printed.get("flops_pruned_percent"), ".1f"),
            "parameters": f"{first['params']:.3g}",
            "epochs": int(first["epochs"]),
        }
        lines.append(line)
    return pd.DataFrame(lines)


def pair_rows(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """The rows, each with the test accuracy of the other of its seed and device, in `beside`."""
    beside = others[["seed", "device", "test_accuracy"]].rename(columns={"test_accuracy": "beside"})
    return rows.merge(beside, on=["seed", "device"])


def _best(rows: pd.DataFrame) -> pd.Series:
    """The best test accuracy of any epoch: training may count in bfloat16, a report does not."""
    return rows["test_accuracy_best"].clip(lower=rows["test_accuracy"])


def _is_changed(rows: pd.DataFrame) -> bool:
    return EVIDENCE in rows and bool((rows[EVIDENCE] == CHANGED).any())


def find_printed(name: str, kind: str) -> str:
    """The row of Table 1 for a network of a recipe: its baseline's, its own, or the scratch one."""
    plain = name.removesuffix("-scratch")
    if kind == "baseline":
        return plain.split("-pruned")[0]
    return {"retrained": plain}.get(kind, f"{plain}-scratch" if kind.startswith("scratch") else "")


def _format(value: Any, spec: str) -> str:
    return "" if value is None or pd.isna(value) else format(value, spec)


def _spread(values: pd.Series) -> str:
    values = values.dropna()
    if values.empty:
        return ""
    return f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")
