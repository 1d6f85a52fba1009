"""`prunelab replay`: a recipe, run by papermill or under torchrun."""

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunelab.cli import options
from prunelab.utils.ownership import owning
from prunelab.utils.paths import runs_dir
from prunelab.utils.stopping import Terminated

if TYPE_CHECKING:
    from prunelab.experiments import Recipe


def replay(
    recipe: Annotated[
        str, typer.Argument(help="a recipe's name, such as resnet56-pruned-b, or a .yaml file")
    ],
    data: options.Data = "",
    weights: options.Weights = "",
    normalization: options.Normalization = "",
    image_size: options.ImageSize = 0,
    label: options.Label = "",
    device: options.Device = "auto",
    seed: options.Seed = 0,
    changes: options.Changes = None,
    out: options.Out = "",
    to: Annotated[
        str, typer.Option(help="also write the small network as onnx, torch.export or state_dict")
    ] = "",
    wait: options.Wait = False,
) -> None:
    """Run a recipe by papermill; run again, it resumes, and does nothing twice.

    Data, weights and what belongs to them are the recipe's, if not given.

    On several GPUs: torchrun --standalone --nproc-per-node 8 -m prunelab replay RECIPE. Then
    papermill is left out; the same command without torchrun makes the notebook from what is there.
    """
    given: dict[str, Any] = {"weights": weights, "normalization": normalization}
    given |= {"image_size": image_size, "label": label}
    run(
        recipe,
        data=data,
        changes=changes,
        device=device,
        seed=seed,
        out=out,
        to=to,
        wait=wait,
        **given,
    )


def run(
    recipe: str,
    *,
    data: str = "",
    changes: list[str] | None = None,
    device: str = "auto",
    seed: int = 0,
    out: str = "",
    to: str = "",
    wait: bool = False,
    **given: Any,
) -> None:
    """Run the replay notebook on a recipe; given: settings of its model and data."""
    from prunelab.data import check_source
    from prunelab.experiments import Finished, change_recipe, load_recipe, run_notebook
    from prunelab.export import check_format
    from prunelab.models import check_start
    from prunelab.utils import processes
    from prunelab.utils.devices import pick_device

    recipe = str(Path(recipe).resolve()) if recipe.endswith((".yaml", ".yml")) else recipe
    # what is wrong is said before anything starts
    loaded = change_recipe(load_recipe(recipe, changes or ()), **given)
    pick_device(device)
    check_start(loaded.model.name, loaded.model.weights)
    if to:
        check_format(to)
    source = check_source(data or loaded.data.source)
    runs = Path(out).resolve() if out else runs_dir()
    folder = runs / f"{loaded.name}-{seed}"
    if processes.started_by_torchrun():
        _replay_together(loaded, source, device, seed, runs)
        return
    finished = Finished(folder, loaded, seed, source, to)
    if finished.is_so():
        print(f"{loaded.title}: finished before, in {folder}\n\n{finished.table()}")
        return
    parameters = {
        "recipe": recipe,
        "data": source,
        **given,
        "device": device,
        "seed": seed,
        "changes": changes or [],
        "out": str(runs),
        "to": to,
    }
    try:
        with owning(folder, wait=wait):
            run_notebook("replay", folder / "replay.ipynb", parameters)
    except KeyboardInterrupt as error:
        print(
            f"\nStopped. {folder} keeps where it was; the same command goes on from there.",
            file=sys.stderr,
        )
        raise typer.Exit(143 if isinstance(error, Terminated) else 130) from None
    finished.note()
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
