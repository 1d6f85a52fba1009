"""Options that several commands take."""

from typing import Annotated

import typer

Weights = Annotated[
    str,
    typer.Option(
        help="a file of weights, also a pruned one; a run's folder; or DEFAULT, the library's"
    ),
]
Data = Annotated[
    str, typer.Option(help="digits, cifar10, cifar100, an image folder, or a .csv or .parquet file")
]
Normalization = Annotated[
    str, typer.Option(help="imagenet, cifar10, cifar100; the weights' or the data's own, if empty")
]
ImageSize = Annotated[
    int, typer.Option(help="pixels a side; the weights' or the images' own (224 above 64), if 0")
]
Label = Annotated[str, typer.Option(help="what tables call the data")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")]
Seed = Annotated[int, typer.Option(help="of weights, batches and the validation split")]
Out = Annotated[
    str,
    typer.Option(
        help="where run folders go; data/runs of the checkout, or else of this folder, if empty"
    ),
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="change a setting: --set retrain.epochs=2")
]
To = Annotated[
    str, typer.Option(help="what the small network is written as: onnx, torch.export, state_dict")
]
Wait = Annotated[
    bool, typer.Option("--wait", help="wait where another process works in the run's folder")
]
