"""Data sets by name or folder, with a validation split held out of training."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from prunelab.data.batches import FileSplit, Split
from prunelab.data.folders import Listing, decode_cached, list_folder, stays_resident
from prunelab.data.images import (
    NORMALIZATIONS,
    Normalization,
    NormalizationLike,
    find_normalization,
    own_normalization,
)
from prunelab.utils.checks import check_whole, did_you_mean
from prunelab.utils.devices import pick_device
from prunelab.utils.paths import data_dir
from prunelab.utils.tensors import hash_text

NAMED = ("digits", "cifar10", "cifar100")
Arrays = tuple[Tensor, Tensor]  # images (n, 3, h, w) uint8, labels (n,) int64


@dataclass(frozen=True)
class DataSplits:
    """A data set: three splits, and what describes it. `load_data` makes one.

    Attributes:
        name: as shown in tables and charts.
        train: the split to learn from.
        val: the split to decide by, held out of training by a seed.
        test: the split to report.
        classes: their names; a label is a place among them.
        fingerprint: a digest of the images, their labels and the split.
    """

    name: str
    train: Split | FileSplit
    val: Split | FileSplit
    test: Split | FileSplit
    classes: tuple[str, ...]
    fingerprint: str

    @property
    def device(self) -> torch.device:
        """Where batches are."""
        return self.train.labels.device if isinstance(self.train, Split) else self.train.device

    @property
    def normalization(self) -> Normalization:
        """Mean and deviation of the colours, the same for all splits."""
        return self.train.normalization

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """(1, 3, h, w), the shape that `trace` wants an example of."""
        return (1, 3, self.train.image_size, self.train.image_size)

    def __repr__(self) -> str:
        counts = f"{len(self.train)} train, {len(self.val)} val, {len(self.test)} test"
        about = f"{len(self.classes)} classes, {self.train.image_size} px, {self.device}"
        return f"DataSplits({self.name}: {counts}; {about})"


class _How(NamedTuple):
    """How any data set is split and read."""

    device: torch.device
    val_fraction: float
    seed: int
    normalization: NormalizationLike


def check_source(name_or_dir: str | Path) -> str:
    """A data set's name, or a folder's whole path; FileNotFoundError says what is expected."""
    source = str(name_or_dir)
    if source in NAMED:
        return source
    if not Path(source).is_dir():
        raise FileNotFoundError(
            f"no data {source!r}{did_you_mean(source, NAMED)}It is neither {', '.join(NAMED)}, "
            "nor a folder. A folder of images holds train/<class>/* and test/<class>/* (or val/)"
        )
    return str(Path(source).resolve())


def load_data(
    name_or_dir: str | Path,
    *,
    device: str | torch.device = "auto",
    val_fraction: float = 0.1,
    seed: int = 0,
    normalization: NormalizationLike = None,
    image_size: int | None = None,
    label: str | None = None,
) -> DataSplits:
    """A data set with a validation split held out of training.

    Args:
        name_or_dir: `digits` (scikit-learn's scans, 32×32, no download), `cifar10` or `cifar100`
            (downloaded into `data/`, MD5 checked), or a folder with `train/<class>/*` and `test/`
            or `val/` of the same classes. With both, `val/` is the validation split; with one, it
            is the test split.
        device: where images of up to 64 pixels live and batches go: `auto`, `cpu`, `cuda`, ….
        val_fraction: how much of train is held out, the same share of each class.
        seed: which images that are.
        normalization: `imagenet`, `cifar10`, `cifar100` or (mean, std) of each colour; None is the
            data set's own: that of its train images, or ImageNet's for images read from disk.
        image_size: pixels a side, for a folder alone; None keeps images of up to 64 pixels as
            they are and takes 224 for larger ones.
        label: the name shown in tables and charts.

    Returns:
        The splits; images of more than 64 pixels are read from disk for each batch.

    Raises:
        ValueError: a folder without classes or with one class, a corrupt image, a wrong setting.
        FileNotFoundError: there is no such data, or it could not be downloaded.

    Example:
        >>> load_data("digits", device="cpu")
        DataSplits(digits: 1295 train, 143 val, 359 test; 10 classes, 32 px, cpu)
    """
    source = check_source(name_or_dir)
    how = _How(pick_device(device), val_fraction, seed, normalization)
    if image_size is not None:
        check_whole("image_size", image_size, why="pixels")
        if source in NAMED:
            raise ValueError(
                f"image_size is for image folders, and {source} is none: its images are 32×32; "
                "leave it out"
            )
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction must be between 0 and 1, not {val_fraction!r}")
    if source == "digits":
        digits = tuple("0123456789")
        return _resident(label or source, _load_digits(), digits, source, how, flip=False)
    if source in NAMED:
        parts, classes = _load_cifar(source)
        return _resident(label or source, parts, classes, source, how)
    return _load_folder(Path(source), how, image_size, label)


def _load_digits() -> dict[str, Arrays]:
    from sklearn.datasets import load_digits

    scans = load_digits()
    small = torch.from_numpy(scans.images)[:, None].float()  # (1797, 1, 8, 8), 0 … 16
    large = F.interpolate(small * (255 / 16), size=32, mode="bilinear")
    images = large.round().to(torch.uint8).repeat(1, 3, 1, 1)  # (1797, 3, 32, 32)
    labels = torch.from_numpy(scans.target).long()
    train, test = _hold_out(labels, 0.2, seed=0)  # the test split is the same for every seed
    return {"train": (images[train], labels[train]), "test": (images[test], labels[test])}


def _load_cifar(name: str) -> tuple[dict[str, Arrays], tuple[str, ...]]:
    from torchvision.datasets import CIFAR10, CIFAR100

    dataset = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    parts = {}
    for part in ("train", "test"):
        try:
            read = dataset(data_dir(), train=part == "train", download=True)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(
                f"{name} is not in {data_dir()} and could not be downloaded ({error}); "
                f"put {dataset.filename} there"
            ) from error
        images = torch.from_numpy(read.data).permute(0, 3, 1, 2).contiguous()
        parts[part] = images, torch.tensor(read.targets)
    return parts, tuple(read.classes)


def _load_folder(folder: Path, how: _How, image_size: int | None, label: str | None) -> DataSplits:
    listed = list_folder(folder)
    name = label or folder.resolve().name
    if not stays_resident(folder, listed["train"][1][0], image_size):
        return _streamed(name, folder, listed, how, image_size or 224)
    parts, key = decode_cached(folder, listed, image_size, data_dir() / "cache")
    return _resident(name, parts, listed["train"][0], key, how)


def _resident(
    name: str,
    parts: dict[str, Arrays],
    classes: tuple[str, ...],
    fingerprint: str,
    how: _How,
    flip: bool = True,
) -> DataSplits:
    """Splits on the device, with a validation split where `parts` have none."""
    if "val" not in parts:
        images, labels = parts["train"]
        train, val = _hold_out(labels, how.val_fraction, how.seed)
        held = {"train": (images[train], labels[train]), "val": (images[val], labels[val])}
        parts = {**parts, **held}
        fingerprint += f" val {how.val_fraction} seed {how.seed}"
    chosen = find_normalization(how.normalization) or own_normalization(parts["train"][0])
    splits = {}
    for part, (images, labels) in parts.items():
        splits[part] = Split(images.to(how.device), labels.to(how.device), chosen, flip)
    return DataSplits(name, classes=classes, fingerprint=fingerprint, **splits)


def _streamed(
    name: str, folder: Path, listed: dict[str, Listing], how: _How, image_size: int
) -> DataSplits:
    """Splits that are read from disk."""
    chosen = find_normalization(how.normalization) or NORMALIZATIONS["imagenet"]
    splits, names = {}, []
    for part, (_, files, labels) in listed.items():
        splits[part] = FileSplit(files, labels, chosen, image_size, how.device)
        names += [str(Path(file).relative_to(folder)) for file in files]
    fingerprint = hash_text("\n".join(names))
    if "val" not in splits:
        whole = splits["train"]
        held = _hold_out(whole.labels, how.val_fraction, how.seed)
        for part, index in zip(("train", "val"), held, strict=True):
            files = [whole.files[i] for i in index]
            splits[part] = replace(whole, files=files, labels=whole.labels[index])
        fingerprint += f" val {how.val_fraction} seed {how.seed}"
    fingerprint += f" {image_size}px"
    return DataSplits(name, classes=listed["train"][0], fingerprint=fingerprint, **splits)


def _hold_out(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices for training and for validation: the same share of each class, at least one image."""
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        own = (labels == label).nonzero().squeeze(1)
        if len(own) < 2:
            raise ValueError(
                f"class {int(label)} has a single training image; two are needed to hold one out"
            )
        count = min(max(round(fraction * len(own)), 1), len(own) - 1)
        held[own[torch.randperm(len(own), generator=generator)[:count]]] = True
    return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)
