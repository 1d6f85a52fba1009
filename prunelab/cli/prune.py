"""`prunelab prune`: from somebody's trained network to a small one, without a recipe's file."""

import re
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from prunelab.cli import options, replay
from prunelab.utils.paths import runs_dir
from prunelab.utils.tensors import write_whole

RETRAIN_RATE = 0.01  # few epochs on few images: ten times the paper's rate


def prune(
    model: Annotated[
        str,
        typer.Option(
            help="resnet56, a torchvision name, timm/NAME, or package.module:function of your own"
        ),
    ],
    weights: options.Weights,
    data: options.Data,
    max_flops: Annotated[
        float, typer.Option(help="how much of the multiply-adds may be left: 0.7 is 70 %")
    ] = 0.7,
    retrain: Annotated[int, typer.Option(help="epochs after pruning")] = 10,
    fine_tune: Annotated[
        int,
        typer.Option(help="epochs before it, on from the weights: for other data"),
    ] = 0,
    new_head: Annotated[
        bool, typer.Option(help="all but the last layer is taken from the weights")
    ] = False,
    to: options.To = "onnx",
    normalization: options.Normalization = "",
    image_size: options.ImageSize = 0,
    label: options.Label = "",
    name: Annotated[str, typer.Option(help="of the run, if not of network, data and budget")] = "",
    device: options.Device = "auto",
    seed: options.Seed = 0,
    out: options.Out = "",
    changes: options.Changes = None,
    wait: options.Wait = False,
) -> None:
    """Prune a trained network for your data: sensitivity, ratios, retraining, report and export.

    It runs as `prunelab replay` does, of the recipe that it writes; run again, it resumes.
    """
    from prunelab.data import check_source
    from prunelab.experiments import change_setting, has_work
    from prunelab.models import is_own

    source = check_source(data)
    where = str(Path(weights).resolve()) if weights and Path(weights).exists() else weights
    content: dict[str, Any] = {
        "title": f"{model} on {label or Path(source).stem}, {max_flops:g} of the multiply-adds",
        "model": {"name": model, "weights": where},
        "data": {"source": source},
        "prune": {"max_flops": max_flops},
        "retrain": {"epochs": retrain, "lr": RETRAIN_RATE, "milestones": [], "batch_size": 32},
    }
    if new_head:
        content["model"]["new_head"] = True
    if fine_tune:
        content["fine_tune"] = {"epochs": fine_tune}
    told = {"normalization": normalization, "image_size": image_size, "label": label}
    content["data"] |= {key: value for key, value in told.items() if value}
    for change in changes or ():
        change_setting(content, change)
    name = name or re.sub(r"[^\w.]+", "-", f"{model}-{label or Path(source).stem}-{max_flops:g}")
    runs = Path(out).resolve() if out else runs_dir()
    path = runs / f"{name}-{seed}" / f"{name}.yaml"
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    again = " ".join(
        [f"prunelab replay {path} --to {to}"]
        + ([f"--seed {seed}"] if seed else [])
        + ([f"--out {runs}"] if out else [])
    )
    if has_work(path.parent) and path.exists() and path.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"{path} is of a run with other settings; name this one (--name), or go on with that "
            f"one by {again}"
        )
    new = not path.parent.exists()
    write_whole(path, text)
    how: dict[str, Any] = {"device": device, "seed": seed, "out": str(runs), "to": to}
    # a function of the user's, who names it here and not the file alone
    network = content["model"]["name"]
    own = [f"model.name={network}"] if is_own(network) else []
    try:
        replay.run(str(path), wait=wait, changes=own, **how)
    except (ValueError, OSError):
        if new and not has_work(path.parent):  # refused
            shutil.rmtree(path.parent)
        raise
    print(f"The recipe is {path}; {again} does the same")
