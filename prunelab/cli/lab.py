"""`prunelab lab`: JupyterLab on the lab notebook."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from prunelab.cli import options
from prunelab.utils.paths import find_notebook, runs_dir


def lab(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="our ResNet-20 on digits, if empty")] = "",
    weights: options.Weights = "",
    data: options.Data = "",
    normalization: options.Normalization = "",
    image_size: options.ImageSize = 0,
    label: options.Label = "",
) -> None:
    """Open the lab in JupyterLab; its options (--no-browser, --port 8890) pass through."""
    given: dict[str, Any] = {"model_name": model, "weights": _whole(weights), "data": _whole(data)}
    given |= {"normalization": normalization, "image_size": image_size, "label": label}
    given = {name: value for name, value in given.items() if value}
    notebook = _with_parameters(given) if given else find_notebook("lab")
    # Jupyter refuses to start for root, which is who one is in a container; the server listens on
    # loopback, with a token
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    # the notebook alone, without side bars
    page = [
        f"--ServerApp.root_dir={notebook.parent}",
        f"--LabApp.default_url=/doc/tree/{notebook.name}",
    ]
    command = [sys.executable, "-m", "jupyterlab", *page, *root, *context.args]
    # modules of the user's own are imported from where the command runs
    path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
    raise typer.Exit(subprocess.call(command, env={**os.environ, "PYTHONPATH": path}))


def _whole(path: str) -> str:
    """The whole path of what is a file or folder: the notebook runs elsewhere."""
    return str(Path(path).resolve()) if path and Path(path).exists() else path


def _with_parameters(given: dict[str, Any]) -> Path:
    """A copy of the lab notebook that opens what was asked for."""
    from papermill.iorw import load_notebook_node, write_ipynb
    from papermill.parameterize import parameterize_notebook

    path = runs_dir() / "lab" / "lab.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    original = load_notebook_node(str(find_notebook("lab")))
    write_ipynb(parameterize_notebook(original, given), str(path))
    return path
