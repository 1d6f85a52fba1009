"""Small networks and data for the tests."""

from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from prunelab import DataSplits, TrainSettings
from prunelab.data.batches import Split

QUICK = TrainSettings(epochs=3, lr=0.02, batch_size=64, milestones=(0.67,))


def tiny_network() -> nn.Module:
    """A network that learns digits in a tenth of a ResNet-20's time."""
    layers: list[nn.Module] = []
    for n_in, n_out in ((3, 8), (8, 16), (16, 16)):
        layers += [nn.Conv2d(n_in, n_out, 3, 2, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*layers)


def few(data: DataSplits) -> DataSplits:
    """A small part of a data set, enough to train on."""
    sizes = {"train": 256, "val": 60, "test": 60}
    parts = {
        part: replace(split, images=split.images[:n], labels=split.labels[:n])
        for part, n in sizes.items()
        if isinstance(split := getattr(data, part), Split)
    }
    return replace(data, fingerprint="few " + data.fingerprint, **parts)


def shake(model: nn.Module) -> nn.Module:
    """Batch norms as after training: with a shift, so that a removed map is not a zero map."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model


def make_folder(
    path: Path, size: tuple[int, int] = (32, 32), counts: tuple[int, int] = (12, 4)
) -> Path:
    for part, count in zip(("train", "test"), counts, strict=True):
        for shade, name in ((60, "cats"), (180, "dogs")):
            (path / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", size, (shade, shade + i, i)).save(path / part / name / f"{i}.png")
    return path
