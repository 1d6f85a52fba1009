"""Training beside the loop that one would write.

That is eager, and has a DataLoader with torchvision's transforms; batches are as large.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from turns import compare

from prunelab import DataSplits, TrainSettings, load_model, train
from prunelab.data.batches import Split
from prunelab.data.images import NORMALIZATIONS

IMAGES = {"cpu": 512, "cuda": 50_000}  # of an epoch
WORKERS = {"cpu": 0, "cuda": 8}


class Images(Dataset):
    """A split, decoded, as one would hand it to a DataLoader."""

    def __init__(self, split: Split, transform: v2.Transform) -> None:
        self.images = [v2.functional.to_pil_image(image) for image in split.images.cpu()]
        self.labels, self.transform = split.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def theirs(
    model: nn.Module,
    loader: DataLoader,
    settings: TrainSettings,
    device: str,
    optimizer: torch.optim.Optimizer | None = None,
) -> torch.optim.Optimizer:
    optimizer = optimizer or torch.optim.SGD(
        model.parameters(),
        settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    for group in optimizer.param_groups:
        group["lr"] = settings.lr
    model.train()
    total = 0.0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
    return optimizer


def noise(n: int, device: str) -> DataSplits:
    """Images of the size of CIFAR-10's that cost nothing to have."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8).to(device)
    labels = torch.randint(10, (n,), generator=generator).to(device)
    split = Split(images, labels, NORMALIZATIONS["cifar10"])
    few = replace(split, images=images[:10], labels=labels[:10])
    return DataSplits("noise", split, few, few, tuple("0123456789"), "noise")


def load(data: DataSplits, batch_size: int, device: str) -> DataLoader:
    """The usual loader, with the augmentation of the paper."""
    mean, std = data.normalization
    steps = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.ToImage()]
    transform = v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    images, workers = Images(data.train, transform), WORKERS[device]
    return DataLoader(images, batch_size, shuffle=True, num_workers=workers)


def rows(pairs: int, device: str = "cpu") -> Iterator[dict[str, object]]:
    n = IMAGES[device]
    data = noise(n, device)
    plain = TrainSettings(epochs=1, lr=0.01, milestones=())
    loader = load(data, plain.batch_size, device)
    for name in ("resnet20", "resnet56", "resnet110", "vgg16"):
        torch.manual_seed(0)
        model = load_model(name).to(device)
        for settings in ways(plain, device):
            what = f"an epoch of {n} images, {name}, {device}, {settings.precision}"
            yield compare(
                what,
                lambda m, settings=settings: train(m, data, settings),
                lambda m: theirs(m, loader, plain, device),
                partial(copy.deepcopy, model),
                pairs,
            )


def ways(plain: TrainSettings, device: str) -> list[TrainSettings]:
    fast = replace(plain, channels_last=True)
    return [fast, replace(fast, precision="bfloat16")]
