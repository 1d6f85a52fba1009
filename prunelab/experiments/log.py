"""The log of a run: a JSON line for each epoch as it ends, which other processes can follow."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prunelab.utils.seals import read_lines


def read_log(folder: str | Path) -> pd.DataFrame:
    """The epochs of a run's `log.jsonl`, for `charts.learning_curves`.

    The run may still be going on, in another process: a notebook that was closed looks at it again
    by this.

    Args:
        folder: of the run, `data/runs/<recipe>-<seed>`.

    Returns:
        A row for each epoch, each once, by training in the order in which they began. A line that
        is not whole is left out, and one that was changed, with a warning. Columns: kind, step (of
        a schedule, from 1; 0 without), epoch, and those of `train`.

    Raises:
        FileNotFoundError: the folder holds no log.

    Example:
        >>> charts.learning_curves(read_log("data/runs/resnet56-pruned-b-0"))
    """
    path = Path(folder) / "log.jsonl"
    if not path.exists():
        raise FileNotFoundError(
            f"there is no {path}; name the folder of a run, such as data/runs/digits-quick-0"
        )
    # one from before steps were counted has none
    rows = [{"step": 0, **row} for row in read_lines(path) if {"kind", "epoch"} <= row.keys()]
    frame = pd.DataFrame(rows, columns=None if rows else ["kind", "step", "epoch"])
    frame = frame.drop_duplicates(["kind", "step", "epoch"], keep="last")
    # trainings in the order in which they began
    training = frame.groupby(["kind", "step"], sort=False).ngroup()
    return frame.iloc[np.lexsort((frame["epoch"], training))].reset_index(drop=True)


def find_unlogged(
    folder: str | Path, kind: str, step: int, history: pd.DataFrame
) -> list[dict[str, Any]]:
    """The epochs of a training that its log lacks."""
    path = Path(folder) / "log.jsonl"
    log = read_log(folder) if path.exists() else pd.DataFrame(columns=["kind", "step", "epoch"])
    known = log[(log["kind"] == kind) & (log["step"] == step)]["epoch"]
    rows: list[dict[Any, Any]] = history.to_dict("records")
    return [row for row in rows if row["epoch"] not in set(known)]
