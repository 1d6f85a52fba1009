"""Notebooks run in batch by papermill: replays, and a check of parameters that are given."""

import ast
import os
import signal
import sys
import time
from collections.abc import Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from prunelab.data import check_source
from prunelab.experiments.recipe import change_recipe, load_recipe
from prunelab.experiments.run_folder import Finished, sign_data
from prunelab.export import check_format
from prunelab.models import check_start
from prunelab.utils.checks import check_choice, check_seed
from prunelab.utils.devices import pick_device
from prunelab.utils.ownership import owning
from prunelab.utils.paths import find_notebook, runs_dir
from prunelab.utils.stopping import Stops, noting_stops

# a kernel warns at every start that it talks over local TCP
QUIET = ["--IPKernelApp.log_level=ERROR"]
AGAIN = 15.0  # seconds after which a kernel that was interrupted is so once more
STOPPED = ("KeyboardInterrupt", "Terminated")  # of a kernel that was interrupted


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


class NotebookReplay:
    """A replay of a recipe by papermill; what is wrong with it is said before anything starts.

    signed: what `sign_data` says of the data, where it was asked before. given: settings of the
    model and data, as parameters of the notebook.
    """

    def __init__(
        self,
        recipe: str,
        *,
        data: str = "",
        changes: Iterable[str] = (),
        device: str = "auto",
        seed: int = 0,
        out: str | Path = "",
        to: str = "",
        baseline: str = "",
        signed: str = "",
        **given: Any,
    ) -> None:
        recipe = str(Path(recipe).resolve()) if recipe.endswith((".yaml", ".yml")) else recipe
        self.recipe = change_recipe(load_recipe(recipe, changes), **given)
        pick_device(device)
        check_seed(seed)
        check_start(self.recipe.model.name, self.recipe.model.weights)
        if to:
            check_format(to)
        self.source = check_source(data or self.recipe.data.source)
        self.out = Path(out).resolve() if out else runs_dir()
        self.folder = self.out / f"{self.recipe.name}-{seed}"
        signed = signed or sign_data(self.source)
        self._finished = Finished(self.folder, self.recipe, seed, signed, to)
        self._parameters = {
            "recipe": recipe,
            "data": self.source,
            **given,
            "device": device,
            "seed": seed,
            "changes": list(changes),
            "out": str(self.out),
            "to": to,
            "baseline": baseline,
        }

    @property
    def is_done(self) -> bool:
        """Whether it was run to its end before, on the same data."""
        return self._finished.is_so()

    def table(self) -> str:
        """What came of it, and its files."""
        return self._finished.table()

    def run(self, *, wait: bool = False, show: bool = True) -> Path:
        """Run the notebook, as `run_notebook` does; the executed one."""
        path = self.folder / "replay.ipynb"
        with owning(self.folder, wait=wait):
            stops = run_notebook("replay", path, self._parameters, show=show)
            self._finished.note()
            stops.obey()
        return path


class NotebookFailed(ValueError):
    """A cell of a notebook failed, or its kernel ended.

    Attributes:
        what: the error alone, in a line or more.
        notebook: as far as it came.
        died: whether it was the kernel: by a kill, or for want of memory.
    """

    def __init__(self, what: str, notebook: Path, *, died: bool = False) -> None:
        super().__init__(f"{what} (the notebook up to there is {notebook})")
        self.what, self.notebook, self.died = what, notebook, died


def run_notebook(
    name: str, output: str | Path, parameters: dict[str, Any], *, show: bool = True
) -> Stops:
    """Run a notebook of prunelab by papermill, with its prints on standard output.

    Until it is done it is called `…-unfinished.ipynb`, so that one of an earlier run stays.
    NotebookFailed carries the error of the cell that failed. SIGINT and SIGTERM interrupt the cell
    that runs, which may save where it is; what comes back is a KeyboardInterrupt, or Terminated.
    show: whether to print what the cells print. What comes back says whether one was asked to stop
    too late.
    """
    from papermill.exceptions import PapermillExecutionError

    output = Path(output)
    unfinished = output.with_name(f"{output.stem}-unfinished.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # a debugger's warning in every kernel's log
    # in a thread, where no one but us handles signals
    with noting_stops(interrupt_kernels) as stops, ThreadPoolExecutor(1) as thread:
        running = thread.submit(_run, find_notebook(name), unfinished, parameters, show)
        try:
            _wait(running, stops)
        except KeyboardInterrupt:  # asked again and again
            interrupt_kernels(number=signal.SIGKILL)
            raise
        except PapermillExecutionError as error:
            stops.obey()
            if error.ename in STOPPED:
                raise KeyboardInterrupt from None
            raise NotebookFailed(f"{error.ename}: {error.evalue}", unfinished) from None
        except RuntimeError as error:  # nbclient's DeadKernelError, or jupyter_client's
            stops.obey()
            if "ernel d" not in str(error):  # died, or did not answer
                raise
            raise NotebookFailed(
                f"the kernel ended ({error}), by a kill or for want of memory; the same command "
                "goes on from what it saved",
                unfinished,
                died=True,
            ) from None
    os.replace(unfinished, output)
    return stops


def _wait(running: "Future[None]", stops: Stops) -> None:
    """Until a notebook has ended; one that did not hear that it is to stop is told again."""
    told = time.monotonic()
    while True:
        try:
            return running.result(timeout=1)
        except TimeoutError:
            if running.done():
                raise
        if stops.asked is not None and time.monotonic() - told > AGAIN:
            interrupt_kernels()
            told = time.monotonic()


def _run(notebook: Path, output: Path, parameters: dict[str, Any], show: bool) -> None:
    import papermill

    papermill.execute_notebook(
        str(notebook),
        str(output),
        parameters,
        kernel_name="python3",
        extra_arguments=QUIET,
        progress_bar=False,
        stdout_file=sys.stdout if show else None,
        stderr_file=sys.stderr if show else None,
        store_widget_state=False,
    )


def interrupt_kernels(
    but: Collection[int] = (), *, number: signal.Signals = signal.SIGINT
) -> list[int]:
    """Interrupt the kernels that this process started: a terminal's Ctrl-C does not reach them.

    but: processes to leave alone. What comes back are the numbers of the others.
    """
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.pid not in but and "ipykernel_launcher" in child.cmdline():
                child.send_signal(number)
                found.append(child.pid)
    return found
