"""`prunelab lab`: JupyterLab on the lab notebook."""

import os
import signal
from pathlib import Path
from types import FrameType
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
    # modules of the user's own are imported from where the command runs
    path = [os.getcwd(), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    page = [
        # the notebook alone, without side bars
        f"--ServerApp.root_dir={notebook.parent}",
        f"--LabApp.default_url=/doc/tree/{notebook.name}",
        # nobody asked for a look at PyPI each time a page opens
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    # Jupyter refuses to start for root, which is who one is in a container
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    raise typer.Exit(_serve([*page, *root, *context.args]))


def _serve(options: list[str]) -> int:
    """Run JupyterLab in this process, which a signal then reaches, and give its exit status."""
    from jupyter_server.serverapp import ServerApp
    from jupyterlab.labapp import LabApp

    server = ServerApp.instance(jpserver_extensions={"jupyterlab": True})
    server.aliases.update(LabApp.aliases)
    server.initialize(options, starter_extension="lab", new_httpserver=False)
    _check_door(server)
    server.init_httpserver()
    stop = signal.getsignal(signal.SIGTERM)  # Jupyter's: it ends the kernels, then the server
    statuses = [0]

    def note(number: int, frame: FrameType | None) -> None:
        statuses.append(128 + number)
        stop(number, frame)  # type: ignore[misc,operator]

    signal.signal(signal.SIGTERM, note)
    server.start()
    return statuses[-1]


def _check_door(server: Any) -> None:
    """Refuse a server that lets in whoever comes, by what its options and Jupyter's files set.

    Raises:
        ValueError: it asks for neither token nor password, or is open to other machines and asks
            for no password.
    """
    provider = server.identity_provider
    password = getattr(provider, "hashed_password", "")
    to_set = "`jupyter server password` sets one"
    if not provider.auth_enabled:
        raise ValueError(
            "with an empty token and no password whoever reaches the lab runs code as you; leave "
            f"the token to Jupyter, or set a password: {to_set}"
        )
    # whether the address is one that others reach, as Jupyter judges it, and not as it was told
    reached = server.trait_defaults("allow_remote_access") and not server.sock
    if reached and not password:
        raise ValueError(
            f"the address '{server.ip or '*'}' is open to other machines, which needs a password: "
            f"{to_set}. Or leave --ip out, and come through a tunnel: ssh -L 8888:localhost:8888"
        )


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
