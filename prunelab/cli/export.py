"""`prunelab export`: a network, written for use elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from prunelab.cli import options

IMAGES = 64  # by which an exported network is compared with ours


def export(
    run: Annotated[
        str, typer.Argument(help="a run's folder (its pruned network), or a file of weights")
    ],
    to: options.To = "onnx",
    out: Annotated[str, typer.Option(help="the file; beside the weights, if empty")] = "",
    data: options.Data = "",
    image_size: options.ImageSize = 0,
    model: Annotated[str, typer.Option(help="the network, where the file does not say it")] = "",
    classes: Annotated[int, typer.Option(help="of that network")] = 10,
) -> None:
    """Write a network as ONNX, torch.export or a plain state dict, and check its answers."""
    import torch

    from prunelab.export import check_format, export_network, name_beside
    from prunelab.models import fill_network, load_data_for, open_saved

    check_format(to)
    weights = open_saved(run, model)
    about = {"num_classes": classes, **(weights.architecture or {})}
    size, info, images = image_size or weights.preprocessing.image_size, weights.info, None
    if data:
        splits = load_data_for(about["name"], weights, data, image_size=image_size)
        about["num_classes"], size = len(splits.classes), splits.train.image_size
        info, images = splits.describe() | info, next(splits.test.batches(IMAGES))[0].cpu()
    network = fill_network(about["name"], about["num_classes"], weights, trusted_only=not model)
    if not size:
        raise ValueError(
            f"{run} does not say how large its images are: give --image-size, or --data"
        )
    home = Path(run) / "pruned" if Path(run).is_dir() else Path(run).with_suffix("")
    example = torch.zeros(1, 3, size, size)
    where = out or name_beside(home, to)
    print(export_network(network, where, to=to, example_input=example, images=images, info=info))
    if images is None:
        print("these images were random numbers; --data compares on pictures")
