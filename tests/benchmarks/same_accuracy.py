"""Does the fast way of training reach what the plain loop reaches? ResNet-20, the same epochs, three seeds.

    python tests/benchmarks/same_accuracy.py                       # scanned digits
    python tests/benchmarks/same_accuracy.py --data FOLDER --label "CIFAR-10 (JPEG)" --epochs 6 --images 9000

Prints a table and puts its rows into data/results/training.csv, in place of those of the same data set.
"""

import argparse
import platform
from dataclasses import replace

import bench_training
import pandas as pd
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from prunelab import DataSplits, TrainSettings, evaluate, load_data, load_model, load_recipe, train
from prunelab.checkpoint import write_whole
from prunelab.data import data_dir

SEEDS = 3
CIFAR = TrainSettings(channels_last=True)


def plain(model, data, settings) -> None:
    mean, std = data.normalization
    pixels = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    flip = [v2.RandomHorizontalFlip()] * data.train.flip
    pictures = bench_training.Pictures(data.train, v2.Compose([v2.RandomCrop(32, padding=4), *flip, *pixels]))
    loader = DataLoader(pictures, settings.batch_size, shuffle=True)
    optimizer = None
    for epoch in range(settings.epochs):
        optimizer = bench_training.theirs(model, loader, replace(settings, lr=settings.lr_at(epoch)), "cpu", optimizer)
    model.eval()


def some(data: DataSplits, images: int | None, seed: int) -> DataSplits:
    """With no more than so many training images, drawn by the seed."""
    if images is None:
        return data
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:images]
    return replace(data, train=replace(data.train, images=data.train.images[chosen], labels=data.train.labels[chosen]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--label", help="what the data set is called in the table")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, help="so many training images; all by default")
    given = parser.parse_args()
    rows = []
    for seed in range(SEEDS):
        data = some(load_data(given.data, label=given.label, device="cpu", seed=seed), given.images, seed)
        base = load_recipe("digits-quick").baseline if given.data == "digits" else CIFAR
        settings = replace(base, epochs=given.epochs, seed=seed)
        ways = {"plain loop": None, "float32": settings, "bfloat16": replace(settings, precision="bfloat16")}
        for way, own in ways.items():
            torch.manual_seed(seed)
            model = load_model("resnet20")
            train(model, data, own) if own else plain(model, data, settings)
            found = evaluate(model, data.test)
            rows.append({"way": way, "model": "resnet20", "dataset": data.name, "seed": seed, "epochs": given.epochs,
                         "n_train": len(data.train), "test_accuracy": found.accuracy, "n_test": found.total,
                         "device": platform.machine(), "threads": torch.get_num_threads(),
                         "torch": torch.__version__})  # fmt: skip
            print(rows[-1], flush=True)
    table, path = pd.DataFrame(rows), data_dir() / "results" / "training.csv"
    before = pd.read_csv(path) if path.exists() else table[:0]
    others = before[before["dataset"] != table["dataset"].iloc[0]]
    write_whole(path, pd.concat([others, table], ignore_index=True).to_csv(index=False))
    print((100 * table.groupby("way")["test_accuracy"].agg(["mean", "std", "min"])).round(2))
