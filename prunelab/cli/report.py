"""`prunelab report`: measured rows beside the paper's."""

from pathlib import Path
from typing import Annotated

import typer

from prunelab.cli import options
from prunelab.utils.paths import data_dir, find_shipped, runs_dir


def report(
    out: options.Out = "",
    publish: Annotated[
        bool, typer.Option(help="also keep these runs' rows in data/results/replays.csv")
    ] = False,
) -> None:
    """Print every measured row beside the paper's."""
    import pandas as pd

    from prunelab.experiments import compare_with_paper, gather_rows, read_rows

    runs, kept = Path(out or runs_dir()), data_dir() / "results" / "replays.csv"
    rows = read_rows(kept if kept.exists() else find_shipped("data/results/replays.csv"), runs)
    if rows.empty:
        raise FileNotFoundError(
            f"no results yet in {runs} or {kept}; prunelab replay digits-quick makes the first"
        )
    if publish:
        gather_rows(read_rows(runs), kept)
    with pd.option_context(
        "display.width", None, "display.max_columns", None, "display.max_rows", None
    ):
        print(compare_with_paper(rows).to_string(index=False))
    print(
        "\nmultiply-adds: of conv and linear layers, for one image. "
        "change: points of error against the baseline."
    )
