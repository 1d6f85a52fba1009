"""The frames of the paper's figures: kept with their evidence, read again.

What is stored in `data/results/figures` was measured by the cells of the notebooks, on photographs.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from prunelab.data import DataSplits
from prunelab.utils.checks import check_choice
from prunelab.utils.modules import find_place
from prunelab.utils.ownership import owning
from prunelab.utils.paths import find_shipped, runs_dir
from prunelab.utils.seals import EVIDENCE, read_table, write_table
from prunelab.utils.tensors import hash_tensors

FOLDER = "data/results/figures"
# {name: the figure of Li et al. 2017, and what it shows}
FIGURES = {
    "norms": "Fig. 2(a): sorted filter norms",
    "filters": "Fig. 5: the first layer's filters",
    "sensitivity": "Fig. 2(b), 6 and 7: each layer pruned alone",
    "budgets": "§3.2: ratios that follow the curves, beside equal ones",
    "retrained": "Fig. 2(c): each layer pruned alone and retrained",
    "strategies": "Fig. 3: independent and greedy scoring",
    "orders": "Fig. 8: smallest, random and largest filters",
    "criteria": "Fig. 9 and 10: other criteria",
}
HOW = ("torch", "device")  # of the evidence; the rest of it tells frames apart


def note_evidence(
    network: nn.Module, data: DataSplits, *, model: str, seed: int, split: str = "validation"
) -> dict[str, Any]:
    """What a frame's numbers stand on.

    Args:
        network: the one that was measured.
        data: of which images.
        model: its name, as `load_model` takes it.
        seed: of the validation split, and of what was drawn at random.
        split: whose images were counted, validation or test; empty: none were.

    Returns:
        model, data, split, weights (a hash of the state dict), seed, torch, device.

    Example:
        >>> about = findings.note_evidence(network, data, model="resnet20", seed=0)
    """
    device, _ = find_place(network)
    return {
        "model": model,
        "data": data.name,
        "split": split,
        "weights": hash_tensors(network.state_dict()),
        "seed": seed,
        "torch": torch.__version__,
        "device": device.type,
    }


def keep_frame(
    figure: str, frame: pd.DataFrame, evidence: dict[str, Any], out: str | Path = ""
) -> Path:
    """Keep a figure's frame in a CSV, in place of an earlier one of the same evidence.

    Args:
        figure: one of `FIGURES`.
        frame: what the chart is drawn of.
        evidence: of `note_evidence`, and more that tells frames of one network apart.
        out: the folder; empty: `data/runs/figures`.

    Returns:
        The path of the CSV, which holds the frames of other networks, too.

    Raises:
        ValueError: an unknown figure.

    Example:
        >>> findings.keep_frame("norms", rank_filters(graph), about)
    """
    path = _find(figure, Path(out) if out else runs_dir() / "figures")
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = frame.assign(**evidence)
    with owning(path.parent, wait=True):
        if path.exists():
            stored = read_table(path)
            same = pd.Series(True, stored.index)
            for name, value in evidence.items():
                if name not in HOW:
                    known = stored.get(name, pd.Series(index=stored.index))
                    if isinstance(value, int | float):  # 0 may come back as 0.0
                        same &= pd.to_numeric(known, errors="coerce").eq(value)
                    else:
                        same &= known.astype(str).eq(str(value))
            frame = pd.concat([stored[~same], frame], ignore_index=True)
        write_table(path, frame)
    return path


def read_frame(figure: str, folder: str | Path = "", **where: Any) -> pd.DataFrame:
    """The stored frames of a figure, of photographs where no folder is named.

    Args:
        figure: one of `FIGURES`.
        folder: where `keep_frame` put it; empty: `data/results/figures`, which comes with the
            project.
        where: columns and the value, or list of values, that they must have: `model="resnet20"`.

    Returns:
        The rows, and a column network: model and data, for legends. Empty where nothing is stored.

    Raises:
        ValueError: an unknown figure, or a column that it does not have.

    Example:
        >>> charts.sensitivity(findings.read_frame("sensitivity", model="resnet56"))
    """
    try:
        path = _find(figure, Path(folder) if folder else find_shipped(FOLDER))
    except FileNotFoundError:
        path = Path()
    if not path.is_file():
        return pd.DataFrame(columns=["network", *where])
    frame = read_table(path)
    for name, value in where.items():
        check_choice(f"column of {path.name}", name, frame.columns)
        values = value if isinstance(value, list | tuple) else [value]
        frame = frame[frame[name].isin(values)]
    network = frame["model"].astype(str) + ", " + frame["data"].astype(str)
    return frame.assign(network=network).drop(columns=EVIDENCE).reset_index(drop=True)


def by_network(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Frames of several networks, one by one.

    Args:
        frame: of `read_frame`; or of one network, without a column network.

    Returns:
        {network: its rows}; with a part of the hash behind the name, where one name has several
        weights; the name is empty for a frame of one network. Nothing for an empty frame.

    Example:
        >>> for name, rows in findings.by_network(findings.read_frame("sensitivity")).items():
        ...     display(findings.say(f"**{name}**"), charts.sensitivity(rows))
    """
    if frame.empty or "network" not in frame:
        return {} if frame.empty else {"": frame}
    names = frame["network"]
    if "weights" in frame:
        several = frame.groupby("network")["weights"].transform("nunique") > 1
        names = names.where(~several, names + " (weights " + frame["weights"].str[:8] + ")")
    return {str(name): rows for name, rows in frame.groupby(names, sort=False)}


def describe_evidence(frame: pd.DataFrame) -> str:
    """A sentence that says what stored numbers stand on.

    Args:
        frame: of `read_frame`.

    Returns:
        Networks, images and weights; that nothing is measured yet, where the frame is empty.

    Example:
        >>> findings.say(findings.describe_evidence(findings.read_frame("norms")))
    """
    if frame.empty:
        return "Nothing is stored of this figure yet."
    lines = []
    for (model, data, weights), rows in frame.groupby(["model", "data", "weights"], sort=False):
        images = ""
        if "total" in rows:
            images = f", {int(rows['total'].max()):,} {rows['split'].iloc[0]} images"
        lines.append(f"{model} on {data}{images} (weights {str(weights)[:8]})")
    return "Stored: " + "; ".join(lines) + "."


def explain_digits(data: DataSplits) -> str:
    """Why what is measured on the scanned digits differs from photographs.

    Args:
        data: the images of the page.

    Returns:
        A sentence; "" for other images.

    Example:
        >>> findings.say(findings.explain_digits(splits))
    """
    if data.name != "digits":
        return ""
    return (
        "Digits are no photographs: scans of 8 × 8 grey pixels, enlarged, in three equal channels. "
        "They are told apart more easily, so a network may spare filters, small or large, that "
        f"photographs would need; and with {len(data.val):,} of them to validate on, only large "
        "differences show."
    )


def _find(figure: str, folder: Path) -> Path:
    return folder / f"{check_choice('figure', figure, FIGURES)}.csv"
