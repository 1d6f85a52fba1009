"""`prunelab export`: a network, written for use elsewhere."""

from pathlib import Path
from typing import Annotated, Any

import typer

from prunelab.cli.options import Data, ImageSize, To

IMAGES = 64  # by which an exported network is compared with ours


def export(
    run: Annotated[
        str, typer.Argument(help="a run's folder (its pruned network), or a file of weights")
    ],
    to: To = "onnx",
    out: Annotated[str, typer.Option(help="the file; beside the weights, if empty")] = "",
    data: Data = "",
    image_size: ImageSize = 0,
    model: Annotated[str, typer.Option(help="the network, where the file does not say it")] = "",
    classes: Annotated[int, typer.Option(help="of that network")] = 10,
) -> None:
    """Write a network as ONNX, torch.export or a plain state dict, and check its answers."""
    import torch

    from prunelab.data import load_data
    from prunelab.export import check_format, export_network, name_beside
    from prunelab.models import load_model, open_saved

    check_format(to)
    info: dict[str, Any] = {}
    if model:
        network = load_model(model, num_classes=classes, weights=run)
    else:
        network, info = open_saved(run)
    size, images = image_size or info.get("image_size"), None
    if data:
        splits = load_data(data, normalization=info.get("normalization"), image_size=size)
        size, images = splits.train.image_size, next(splits.test.batches(IMAGES))[0].cpu()
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
