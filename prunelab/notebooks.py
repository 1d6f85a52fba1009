"""Notebooks run in batch: found, parameterised, executed, and cleaned for the repository."""

import ast
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prunelab.checkpoint import write_whole

QUIET = ["--IPKernelApp.log_level=ERROR"]  # a kernel warns at every start that it talks over local TCP


def find_notebook(name: str) -> Path:
    """The path of a notebook that comes with prunelab, in a checkout or an installed package."""
    return _find(Path("notebooks") / f"{name}.ipynb")


def find_weights(name: str) -> Path:
    """The path of weights that we trained and ship in data/checkpoints."""
    return _find(Path("data") / "checkpoints" / f"{name}.safetensors")


def _find(path: Path) -> Path:
    package = Path(__file__).parent
    for folder in (package.parent, package):
        if (folder / path).exists():
            return folder / path
    raise FileNotFoundError(f"there is no {path} in {package.parent}")


def check_parameters() -> None:
    """ValueError for a parameter that papermill passed and this notebook does not have.

    papermill itself only warns. Called in the cell after `parameters`; elsewhere than in a notebook it does nothing.
    """
    from IPython import get_ipython

    shell: Any = get_ipython()
    cells = [cell for cell in shell.user_ns["In"][:-1] if cell.strip()] if shell else []
    if len(cells) < 2 or not cells[-1].lstrip().startswith("# Parameters"):
        return
    known, given = _assigned(cells[-2]), _assigned(cells[-1])
    from prunelab.criteria import check_choice

    for name in given:
        check_choice("parameter", name, known)


def _assigned(cell: str) -> list[str]:
    targets: list[ast.expr] = []
    for statement in ast.parse(cell).body:
        if isinstance(statement, ast.Assign):
            targets += statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets.append(statement.target)
    return [target.id for target in targets if isinstance(target, ast.Name)]


def run_notebook(name: str, output: str | Path, parameters: dict[str, Any]) -> None:
    """Run a notebook of prunelab by papermill, with its prints on standard output.

    Raises ValueError with the error of the cell that failed; `output` then holds the notebook up to there.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    Path(output).parent.mkdir(parents=True, exist_ok=True)
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # a debugger's warning in every kernel's log
    try:
        papermill.execute_notebook(
            str(find_notebook(name)),
            str(output),
            parameters,
            kernel_name="python3",
            extra_arguments=QUIET,
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            store_widget_state=False,
        )
    except PapermillExecutionError as error:
        raise ValueError(f"{error.ename}: {error.evalue} (the notebook up to there is {output})") from None


def refresh(paths: Sequence[str | Path]) -> None:
    """Run notebooks anew with their own parameters and store them cleaned: outputs and counts, nothing else."""
    import nbformat
    from nbclient import NotebookClient

    for path in map(Path, paths):
        print(path, flush=True)
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as runs:
            os.environ["PRUNELAB_RUNS"] = runs
            NotebookClient(
                notebook, timeout=None, kernel_name="python3", store_widget_state=False, extra_arguments=QUIET,
                resources={"metadata": {"path": str(path.parent)}},
            ).execute()  # fmt: skip
        clean(notebook)
        write_whole(path, nbformat.writes(notebook).replace(runs, "data/runs") + "\n")


def clean(notebook: Any) -> None:
    """Drop what differs from run to run: widget state, times, versions of the machine that ran it."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for i, cell in enumerate(notebook.cells):
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in ("tags", "jupyter")}
        cell.id = f"cell-{i}"
        if cell.cell_type == "code":
            cell.outputs = [
                o for o in cell.outputs if "application/vnd.jupyter.widget-view+json" not in o.get("data", {})
            ]


if __name__ == "__main__":
    refresh(sys.argv[1:])
