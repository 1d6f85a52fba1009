"""Where things are: data, runs, and the notebooks, weights and tables that come with prunelab."""

import os
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
CHECKOUT = PACKAGE.parent


def data_dir() -> Path:
    """Where data sets, caches and runs go: `data/` of the checkout, else of the current folder."""
    return (CHECKOUT if (CHECKOUT / "pyproject.toml").exists() else Path.cwd()) / "data"


def runs_dir() -> Path:
    """Where runs of recipes go.

    Returns:
        `data/runs`, or the folder that the environment variable PRUNELAB_RUNS names.
    """
    return Path(os.environ.get("PRUNELAB_RUNS") or data_dir() / "runs")


def find_notebook(name: str) -> Path:
    """The path of a notebook that comes with prunelab."""
    return find_shipped(f"notebooks/{name}.ipynb")


def find_weights(name: str) -> Path:
    """The path of weights that we trained and ship.

    Args:
        name: the file's name in `data/checkpoints`, without its ending: `"resnet20-digits"`.

    Returns:
        A path that `load_model(..., weights=path)` takes.

    Raises:
        FileNotFoundError: there are no such weights.
    """
    return find_shipped(f"data/checkpoints/{name}.safetensors")


def find_shipped(path: str) -> Path:
    """A file of the checkout that an installed package carries in its folder `shipped`."""
    for folder in (CHECKOUT, PACKAGE / "shipped"):
        if (folder / path).exists():
            return folder / path
    raise FileNotFoundError(f"there is no {path} in {CHECKOUT}")
