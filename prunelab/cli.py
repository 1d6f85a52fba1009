"""The command line: prunelab lab | replay | report."""

import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunelab.utils.paths import data_dir, find_notebook, runs_dir

if TYPE_CHECKING:
    from prunelab.experiments import Recipe

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> None:
    """Open the lab in JupyterLab; its options (--no-browser, --port 8890) pass through."""
    notebook = find_notebook("lab")
    # Jupyter refuses to start for root, which is who one is in a container; the server listens on
    # loopback, with a token
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    # the notebook alone, without side bars
    page = [
        f"--ServerApp.root_dir={notebook.parent}",
        f"--LabApp.default_url=/doc/tree/{notebook.name}",
    ]
    command = [sys.executable, "-m", "jupyterlab", *page, *root, *context.args]
    raise typer.Exit(subprocess.call(command))


@app.command()
def replay(
    recipe: Annotated[
        str, typer.Argument(help="a recipe's name, such as resnet56-pruned-b, or a .yaml file")
    ],
    data: Annotated[
        str,
        typer.Option(
            help="digits, cifar10, cifar100 or an image folder; the recipe's if not given"
        ),
    ] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    seed: Annotated[int, typer.Option(help="of weights, batches and the validation split")] = 0,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="change a setting: --set retrain.epochs=2")
    ] = None,
    out: Annotated[str, typer.Option(help="where run folders go; data/runs if not given")] = "",
) -> None:
    """Run a recipe by papermill; run again, it resumes, and does nothing twice.

    On several GPUs: torchrun --standalone --nproc-per-node 8 -m prunelab replay RECIPE. Then
    papermill is left out; the same command without torchrun makes the notebook from what is there.
    """
    from prunelab.data import check_source
    from prunelab.experiments import load_recipe, run_notebook
    from prunelab.utils import processes
    from prunelab.utils.devices import pick_device

    recipe = str(Path(recipe).resolve()) if recipe.endswith((".yaml", ".yml")) else recipe
    loaded = load_recipe(recipe, changes or ())  # what is wrong is said before anything starts
    pick_device(device)
    source = check_source(data or loaded.data.source)
    runs = Path(out).resolve() if out else runs_dir()
    folder = runs / f"{loaded.name}-{seed}"
    if processes.started_by_torchrun():
        _replay_together(loaded, source, device, seed, runs)
        return
    parameters = {
        "recipe": recipe,
        "data": source,
        "device": device,
        "seed": seed,
        "changes": changes or [],
        "out": str(runs),
    }
    try:
        run_notebook("replay", folder / "replay.ipynb", parameters)
    except KeyboardInterrupt:
        print(
            f"\nStopped. {folder} keeps every finished epoch; the same command goes on from there.",
            file=sys.stderr,
        )
        raise typer.Exit(130) from None
    print(f"\nThe executed notebook is {folder / 'replay.ipynb'}")


def _replay_together(recipe: "Recipe", source: str, device: str, seed: int, runs: Path) -> None:
    from torch.distributed import destroy_process_group

    from prunelab.experiments import replay
    from prunelab.utils import processes

    device = processes.join(device)
    with (
        open(os.devnull, "w") as nowhere,
        redirect_stdout(nowhere if processes.rank() else sys.stdout),
    ):
        try:
            rows = replay(recipe, data=source, device=device, seed=seed, out=runs)
        except RuntimeError as error:
            raise ValueError(
                f"process {processes.rank()} of {processes.world_size()} stopped, perhaps because "
                "another one ended: look at the others' messages. Every finished epoch is kept, "
                f"and the same command goes on from there ({str(error).splitlines()[0]})"
            ) from error
        print(rows[["kind", "test_accuracy", "flops", "epochs"]].to_string(index=False))
    destroy_process_group()


@app.command()
def report(
    out: Annotated[str, typer.Option(help="the folder of runs; data/runs if not given")] = "",
    publish: Annotated[
        bool, typer.Option(help="also keep these runs' rows in data/results/replays.csv")
    ] = False,
) -> None:
    """Print every measured row beside the paper's."""
    import pandas as pd

    from prunelab.experiments import compare_with_paper, gather_rows, read_rows

    runs, kept = Path(out or runs_dir()) / "results.csv", data_dir() / "results" / "replays.csv"
    rows = read_rows(kept, runs)
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


def main() -> None:
    """The `prunelab` command: what goes wrong is said in one sentence."""
    try:
        app()
    except (ValueError, OSError) as error:
        raise SystemExit(f"prunelab: {error}") from None
