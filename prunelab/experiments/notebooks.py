"""Notebooks run in batch by papermill, and a check of the parameters that they are given."""

import ast
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from prunelab.utils.checks import check_choice
from prunelab.utils.paths import find_notebook
from prunelab.utils.stopping import noting_stops

# a kernel warns at every start that it talks over local TCP
QUIET = ["--IPKernelApp.log_level=ERROR"]


def check_parameters() -> None:
    """Check that papermill passed no parameter that this notebook does not have.

    papermill itself only warns. Called in the cell after `parameters`; elsewhere than in a notebook
    it does nothing.

    Raises:
        ValueError: it names the nearest parameter.
    """
    from IPython import get_ipython

    shell: Any = get_ipython()
    cells = [cell for cell in shell.user_ns["In"][:-1] if cell.strip()] if shell else []
    if len(cells) < 2 or not cells[-1].lstrip().startswith("# Parameters"):
        return
    known, given = _assigned(cells[-2]), _assigned(cells[-1])
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

    Until it is done it is called `…-unfinished.ipynb`, so that one of an earlier run stays. A
    ValueError carries the error of the cell that failed. SIGINT and SIGTERM interrupt the cell that
    runs, which may save where it is; what comes back is a KeyboardInterrupt, or Terminated.
    """
    from papermill.exceptions import PapermillExecutionError

    output = Path(output)
    unfinished = output.with_name(f"{output.stem}-unfinished.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # a debugger's warning in every kernel's log
    # in a thread, where no one but us handles signals
    with noting_stops(_interrupt_kernels) as stops, ThreadPoolExecutor(1) as thread:
        running = thread.submit(_run, find_notebook(name), unfinished, parameters)
        try:
            running.result()
        except PapermillExecutionError as error:
            stops.obey()
            raise ValueError(
                f"{error.ename}: {error.evalue} (the notebook up to there is {unfinished})"
            ) from None
    os.replace(unfinished, output)


def _run(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    import papermill

    papermill.execute_notebook(
        str(notebook),
        str(output),
        parameters,
        kernel_name="python3",
        extra_arguments=QUIET,
        progress_bar=False,
        stdout_file=sys.stdout,
        stderr_file=sys.stderr,
        store_widget_state=False,
    )


def _interrupt_kernels() -> None:
    """The kernels that this process started: a terminal's Ctrl-C does not reach them."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            child.send_signal(signal.SIGINT)
