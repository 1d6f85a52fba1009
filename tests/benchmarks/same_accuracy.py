"""Does the fast way of training reach what the plain loop reaches?

    cd tests/benchmarks
    python same_accuracy.py  # scanned digits
    python same_accuracy.py --data FOLDER --label "CIFAR-10 (JPEG)" --epochs 6 --images 9000

ResNet-20, the same epochs, three seeds. Prints a table and puts its rows into
data/results/training.csv, in place of those of the same data set.
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
from prunelab.utils.paths import data_dir
from prunelab.utils.seals import read_table, write_table

SEEDS = 3
CIFAR = TrainSettings(channels_last=True)


def plain(model, data, settings) -> None:
    mean, std = data.normalization
    pixels = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    flip = [v2.RandomHorizontalFlip()] * data.train.flip
    transform = v2.Compose([v2.RandomCrop(32, padding=4), *flip, *pixels])
    images = bench_training.Images(data.train, transform)
    loader = DataLoader(images, settings.batch_size, shuffle=True)
    optimizer = None
    for epoch in range(settings.epochs):
        now = replace(settings, lr=settings.lr_at(epoch))
        optimizer = bench_training.theirs(model, loader, now, "cpu", optimizer)
    model.eval()


def some(data: DataSplits, images: int | None, seed: int) -> DataSplits:
    """With no more than so many training images, drawn by the seed."""
    if images is None:
        return data
    whole, generator = data.train, torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(whole), generator=generator)[:images]
    part = replace(whole, images=whole.images[chosen], labels=whole.labels[chosen])
    return replace(data, train=part)


if __name__ == "__main__":
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--label", help="what the data set is called in the table")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, help="so many training images; all by default")
    given = parser.parse_args()
    rows = []
    for seed in range(SEEDS):
        whole = load_data(given.data, label=given.label, device="cpu", seed=seed)
        data = some(whole, given.images, seed)
        base = load_recipe("digits-quick").baseline if given.data == "digits" else CIFAR
        settings = replace(base, epochs=given.epochs, seed=seed)
        ways = {
            "plain loop": None,
            "float32": settings,
            "bfloat16": replace(settings, precision="bfloat16"),
        }
        for way, own in ways.items():
            torch.manual_seed(seed)
            model = load_model("resnet20")
            train(model, data, own) if own else plain(model, data, settings)
            found = evaluate(model, data.test)
            row = {
                "way": way,
                "model": "resnet20",
                "dataset": data.name,
                "seed": seed,
                "epochs": given.epochs,
                "n_train": len(data.train),
                "test_accuracy": found.accuracy,
                "n_test": found.total,
                "device": platform.machine(),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
            }
            rows.append(row)
            print(row, flush=True)
    table, path = pd.DataFrame(rows), data_dir() / "results" / "training.csv"
    before = read_table(path) if path.exists() else table[:0]
    others = before[before["dataset"] != table["dataset"].iloc[0]]
    write_table(path, pd.concat([others, table], ignore_index=True))
    print((100 * table.groupby("way")["test_accuracy"].agg(["mean", "std", "min"])).round(2))
