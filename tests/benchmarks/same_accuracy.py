"""Does the fast way of training reach what the plain loop reaches? ResNet-20 on digits, the same epochs, three seeds.

Prints a table and writes it to data/results/training.csv.
"""

import os
import platform
from dataclasses import replace

import bench_training
import pandas as pd
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from prunelab import evaluate, load_data, load_model, load_recipe, train
from prunelab.data import data_dir

EPOCHS, SEEDS = 10, 3


def plain(model, data, settings) -> None:
    mean, std = data.normalization
    pixels = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    pictures = bench_training.Pictures(data.train, v2.Compose([v2.RandomCrop(32, padding=4), *pixels]))
    loader = DataLoader(pictures, settings.batch_size, shuffle=True)
    optimizer = None
    for epoch in range(settings.epochs):
        optimizer = bench_training.theirs(model, loader, replace(settings, lr=settings.lr_at(epoch)), "cpu", optimizer)
    model.eval()


if __name__ == "__main__":
    rows = []
    for seed in range(SEEDS):
        data = load_data("digits", device="cpu", seed=seed)
        settings = replace(load_recipe("digits-quick").baseline, epochs=EPOCHS, seed=seed)
        ways = {"plain loop": None, "float32": settings, "bfloat16": replace(settings, precision="bfloat16")}
        for way, own in ways.items():
            torch.manual_seed(seed)
            model = load_model("resnet20")
            train(model, data, own) if own else plain(model, data, settings)
            found = evaluate(model, data.test)
            rows.append({"way": way, "model": "resnet20", "dataset": "digits", "seed": seed, "epochs": EPOCHS,
                         "test_accuracy": found.accuracy, "n_test": found.total, "device": platform.machine(),
                         "threads": torch.get_num_threads(), "torch": torch.__version__})  # fmt: skip
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    os.makedirs(data_dir() / "results", exist_ok=True)
    table.to_csv(data_dir() / "results" / "training.csv", index=False)
    print((100 * table.groupby("way")["test_accuracy"].agg(["mean", "std", "min"])).round(2))
