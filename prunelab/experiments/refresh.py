"""`python -m prunelab.experiments.refresh NOTEBOOKS`: run anew and stored, cleaned."""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prunelab.experiments.notebooks import QUIET
from prunelab.utils.tensors import write_whole

WIDGET = "application/vnd.jupyter.widget-view+json"
VARYING = ["metadata.widgets", "metadata.language_info.version", "cell.metadata.execution"]


def refresh(paths: Sequence[str | Path]) -> None:
    """Run notebooks anew with their own parameters, and store them cleaned."""
    import nbformat
    from nbclient import NotebookClient

    for path in map(Path, paths):
        print(path, flush=True)
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as runs:
            os.environ["PRUNELAB_RUNS"] = runs
            client = NotebookClient(
                notebook,
                timeout=None,
                kernel_name="python3",
                store_widget_state=False,
                coalesce_streams=True,
                extra_arguments=QUIET,
                resources={"metadata": {"path": str(path.parent)}},
            )
            client.execute()
        clean(notebook)
        write_whole(path, nbformat.writes(notebook).replace(runs, "data/runs") + "\n")


def clean(notebook: Any) -> None:
    """Drop what differs from run to run: widgets, times, versions of the machine that ran it."""
    from nbstripout import strip_output

    strip_output(notebook, keep_output=True, keep_count=True, keep_id=False, extra_keys=VARYING)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                output for output in cell.outputs if WIDGET not in output.get("data", {})
            ]


if __name__ == "__main__":
    refresh(sys.argv[1:])
