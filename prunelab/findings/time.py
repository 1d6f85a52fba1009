"""What measured times say, beside multiply-adds and beside the paper's Table 3."""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from prunelab.findings.words import join, percent
from prunelab.utils.paths import find_shipped
from prunelab.utils.seals import read_table

STORED = "data/results/latency.csv"
WHOLE, PRUNED = "whole", "pruned"
Row = dict[Hashable, Any]  # one measured network: a value for each column
WAY = ["batch", "runtime", "format"]  # one measurement: its networks took turns


def read_times(path: str | Path = "") -> pd.DataFrame:
    """Stored times.

    Args:
        path: a CSV of `time_recipes`; empty: `data/results/latency.csv`, which comes with the
            project.

    Returns:
        Its rows.

    Example:
        >>> findings.read_times()["device"].unique()
    """
    return _complete(read_table(path or find_shipped(STORED)))


def compare_times(measured: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Measured savings beside the paper's Table 3, in per cent of the whole network's.

    Args:
        measured: of `time_recipes`.
        paper: of `read_paper(table=3)`.

    Returns:
        A column for each recipe; rows: multiply-adds saved, the paper's and ours; time saved, the
        paper's, and ours in each batch size, runtime and memory format. The paper's are empty where
        it has no such row.

    Example:
        >>> findings.compare_times(findings.read_times(), read_paper(table=3))
    """
    lines = []
    for recipe, rows in _complete(measured).groupby("recipe", sort=False):
        printed = (paper[paper.index == recipe].to_dict("records") or [{}])[0]
        small = [row for _, row in _pairs(rows)]
        line: dict[str, Any] = {
            "recipe": recipe,
            "multiply-adds, paper": printed.get("flops_pruned_percent"),
            "multiply-adds, ours": 100 * (1 - small[0]["flops_left"]),
            "time, paper: 128 images, GPU": printed.get("seconds_saved_percent"),
        }
        lines.append(
            line | {f"time, ours: {_name(row)}": 100 * (1 - row["time_left"]) for row in small}
        )
    return pd.DataFrame(lines).set_index("recipe").astype(float).round(1).T


def describe_clock(measured: pd.DataFrame) -> str:
    """What measured times stand on.

    Args:
        measured: of `time_recipes`, or `measure_latency`.

    Returns:
        A sentence: networks, turns, device, threads, torch.

    Example:
        >>> findings.say(findings.describe_clock(findings.read_times()))
    """
    first, names = measured.iloc[0], _complete(measured)["recipe"].unique()
    places: set[str] = set()
    if "device" in measured:
        how = measured[["device", "threads", "torch"]].drop_duplicates()
        places = {
            f"{row['device']}, {row['threads']} thread{'s' * (row['threads'] != 1)}, "
            f"torch {row['torch']}"
            for row in how.to_dict("records")
        }
    turns = f"{join(names)}: the median of {first['repeats']} turns"
    return f"{turns}{''.join(f'; {place}' for place in sorted(places))}."


def describe_savings(measured: pd.DataFrame) -> str:
    """Which networks save as much time as multiply-adds.

    Args:
        measured: of `time_recipes`, or `measure_latency` of a whole and a pruned network.

    Returns:
        A line for each batch size, runtime and memory format; in brackets the time saved, for the
        multiply-adds saved.

    Example:
        >>> findings.say(findings.describe_savings(measured))
    """
    lines = []
    for _, rows in _complete(measured).groupby(WAY, sort=False):
        told: dict[str, list[str]] = {}
        for whole, small in _pairs(rows):
            told.setdefault(_judge(whole, small), []).append(_tell_saving(small))
        if told:
            said = "; ".join(f"{what} {join(names)}" for what, names in told.items())
            lines.append(f"**{_name(dict(rows.iloc[0]))}**: {said}.")
    return "\n".join(lines)


def _judge(whole: Row, small: Row) -> str:
    """Time beside multiply-adds, as far as the quartiles tell."""
    low, high = small["low_ms"] / whole["high_ms"], small["high_ms"] / whole["low_ms"]
    if high < small["flops_left"]:
        return "more time than multiply-adds is saved by"
    if high >= 1:
        alike = low <= small["flops_left"]
        return "the turns differ too much to tell of" if alike else "no time is saved by"
    if low <= small["flops_left"]:
        return "about as much time as multiply-adds is saved by"
    return "less time than multiply-adds is saved by"


def describe_alignment(measured: pd.DataFrame) -> str:
    """Where widths rounded up save time, and what they give back.

    Faster or slower is only what the quartiles of the turns keep apart.

    Args:
        measured: of `time_recipes`, with several alignments.

    Returns:
        A line for each alignment and network; nothing where no width was rounded up.

    Example:
        >>> findings.say(findings.describe_alignment(measured))
    """
    lines = []
    frame = _complete(measured)
    aligned = [name for name in frame["model"].unique() if name.startswith(f"{PRUNED}, aligned")]
    for label in aligned:
        for recipe, rows in frame.groupby("recipe", sort=False):
            pairs = list(_pairs(rows, PRUNED, label))
            if not pairs:
                continue
            one, other = pairs[0]
            if one["flops"] == other["flops"]:
                noise = max(abs(b["median_ms"] / a["median_ms"] - 1) for a, b in pairs)
                lines.append(
                    f"**{recipe}, {label}**: its widths are such multiples already. It is the same "
                    f"network, timed twice, and differs by up to {percent(noise)}: that is noise."
                )
                continue
            faster, slower = [], []
            for one, other in pairs:
                times = f"{_name(one)}: {one['median_ms']:.3g} → {other['median_ms']:.3g} ms"
                if other["high_ms"] < one["low_ms"]:
                    faster.append(times)
                if one["high_ms"] < other["low_ms"]:
                    slower.append(times)
            back = percent(other["flops_left"] - one["flops_left"])
            told = [f"{len(pairs) - len(faster) - len(slower)} without a difference"]
            told += [f"{len(faster)} faster ({'; '.join(faster)})"] if faster else []
            told += [f"{len(slower)} slower ({'; '.join(slower)})"] if slower else []
            lines.append(
                f"**{recipe}, {label}** gives back {back} of the multiply-adds; of {len(pairs)} "
                f"measurements, {join(told)}."
            )
    return "\n".join(lines)


def describe_runtimes(measured: pd.DataFrame) -> str:
    """How onnxruntime compares with torch, on the same networks and batches.

    The two are not timed in turns with each other, so small ratios say nothing.

    Args:
        measured: of `time_recipes`, or several `measure_latency`, with both runtimes.

    Returns:
        A line for each recipe; nothing where one runtime alone was measured.

    Example:
        >>> findings.say(findings.describe_runtimes(measured))
    """
    lines = []
    for recipe, rows in _complete(measured).groupby("recipe", sort=False):
        alike = rows[rows["format"] == "contiguous"]
        by = alike.pivot_table(index=["batch", "model"], columns="runtime", values="median_ms")
        if {"torch", "onnxruntime"} <= {*by.columns}:
            ratios = (by["torch"] / by["onnxruntime"]).dropna()
            low, high = f"{ratios.min():.1f}", f"{ratios.max():.1f}"
            span = low if low == high else f"{low} to {high}"
            lines.append(f"**{recipe}**: torch takes {span} times as long as onnxruntime.")
    return "\n".join(lines)


def _complete(measured: pd.DataFrame) -> pd.DataFrame:
    """With the columns recipe and runtime, which older frames and single networks lack."""
    frame = measured if "runtime" in measured else measured.assign(runtime="torch")
    return frame if "recipe" in frame else frame.assign(recipe="the pruned network")


def _pairs(rows: pd.DataFrame, one: str = WHOLE, other: str = "") -> Iterator[tuple[Row, Row]]:
    """Two networks of each recipe and measurement; other, empty: the first pruned one."""
    for _, group in rows.groupby(["recipe", *WAY], sort=False):
        named = {row["model"]: row for row in group.to_dict("records")}
        second = other or next((name for name in named if name != one), "")
        if one in named and second in named:
            yield named[one], named[second]


def _name(row: Row) -> str:
    images = "one image" if row["batch"] == 1 else f"{row['batch']} images"
    way = row["format"] if row["runtime"] == "torch" else row["runtime"]
    return f"{images}, {way}"


def _tell_saving(row: Row) -> str:
    saved = f"{percent(1 - row['time_left'], 0)}".replace("-", "−")
    return f"{row['recipe']} ({saved} for {percent(1 - row['flops_left'], 0)})"
