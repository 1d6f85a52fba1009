"""`prunelab replay`: a recipe, run by papermill or under torchrun."""

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunelab.cli import options
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
    baseline: Annotated[
        str, typer.Option(help="the folder of a run whose baseline is this one's, too")
    ] = "",
    wait: options.Wait = False,
) -> None:
    """Run a recipe by papermill; run again, it resumes, and does nothing twice.

    Data, weights and what belongs to them are the recipe's, if not given.

    On several GPUs: torchrun --standalone --nproc-per-node 8 -m prunelab replay RECIPE. Then
    papermill is left out; the same command without torchrun makes the notebook from what is there.
    """
    given: dict[str, Any] = {"weights": weights, "normalization": normalization}
    given |= {"image_size": image_size, "label": label, "changes": changes or []}
    given |= {"data": data, "device": device, "seed": seed, "out": out, "to": to}
    run(recipe, wait=wait, baseline=baseline, **given)


def run(recipe: str, *, wait: bool = False, **given: Any) -> None:
    """Run the replay notebook; given: arguments of `NotebookReplay`."""
    from prunelab.experiments import NotebookReplay
    from prunelab.utils import processes

    asked = NotebookReplay(recipe, **given)
    if processes.started_by_torchrun():
        how = (given["device"], given.get("seed", 0), asked.out, given.get("baseline", ""))
        _replay_together(asked.recipe, asked.source, *how)
        return
    if asked.is_done:
        print(f"{asked.recipe.title}: finished before, in {asked.folder}\n\n{asked.table()}")
        return
    try:
        made = asked.run(wait=wait)
    except KeyboardInterrupt as error:
        print(
            f"\nStopped. {asked.folder} keeps where it was; the same command goes on from there.",
            file=sys.stderr,
        )
        raise typer.Exit(143 if isinstance(error, Terminated) else 130) from None
    print(f"\nThe executed notebook is {made}")


def _replay_together(
    recipe: "Recipe", source: str, device: str, seed: int, runs: Path, baseline: str = ""
) -> None:
    from torch.distributed import destroy_process_group

    from prunelab.experiments import replay
    from prunelab.utils import processes

    device = processes.join(device)
    with (
        open(os.devnull, "w") as nowhere,
        redirect_stdout(nowhere if processes.rank() else sys.stdout),
    ):
        try:
            how: dict[str, Any] = {"seed": seed, "out": runs, "baseline": baseline or None}
            rows = replay(recipe, data=source, device=device, **how)
        except RuntimeError as error:
            raise ValueError(
                f"process {processes.rank()} of {processes.world_size()} stopped, perhaps because "
                "another one ended: look at the others' messages. Every finished epoch is kept, "
                f"and the same command goes on from there ({str(error).splitlines()[0]})"
            ) from error
        print(rows[["kind", "test_accuracy", "flops", "epochs"]].to_string(index=False))
    destroy_process_group()
