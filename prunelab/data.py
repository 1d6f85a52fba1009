"""Data sets by name or folder, with a validation split held out of training."""

import difflib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from prunelab.batches import (
    NORMALIZATIONS,
    FileSplit,
    Normalization,
    Split,
    find_normalization,
    own_normalization,
)
from prunelab.folder import Listing, decode_cached, list_folder, stays_resident

Choice = str | Sequence[Sequence[float]] | None  # of a normalisation
Arrays = tuple[Tensor, Tensor]  # images (n, 3, h, w) uint8, labels (n,) int64


@dataclass(frozen=True)
class DataSplits:
    """A data set: `.train`, `.val` (held out of training by seed) and `.test`, and what describes it."""

    name: str
    train: Split | FileSplit
    val: Split | FileSplit
    test: Split | FileSplit
    classes: tuple[str, ...]
    fingerprint: str  # of the images, their labels and the split

    @property
    def device(self) -> torch.device:
        return self.train.labels.device if isinstance(self.train, Split) else self.train.device

    @property
    def normalization(self) -> Normalization:
        return self.train.normalization

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """(1, 3, h, w), the shape that `trace` wants an example of."""
        return (1, 3, self.train.image_size, self.train.image_size)

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{len(split)} {name}" for name, split in (("train", self.train), ("val", self.val), ("test", self.test))
        )
        return (
            f"DataSplits({self.name}: {counts}; {len(self.classes)} classes, {self.train.image_size} px, {self.device})"
        )


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device asked for; "auto" is the GPU where there is one. ValueError when there is none."""
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}; known: auto, cpu, cuda, cuda:1 …") from error
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {str(device)!r} was asked for, but torch sees {torch.cuda.device_count()} GPUs; use 'cpu' or 'auto'"
        )
    return picked


def data_dir() -> Path:
    """Where data sets, caches and runs go: `data/` of the checkout, else of the current folder."""
    checkout = Path(__file__).parents[1]
    return (checkout if (checkout / "pyproject.toml").exists() else Path.cwd()) / "data"


def runs_dir() -> Path:
    """Where runs of recipes go: `data/runs`, or the folder that PRUNELAB_RUNS names."""
    return Path(os.environ.get("PRUNELAB_RUNS") or data_dir() / "runs")


NAMED = ("digits", "cifar10", "cifar100")


def check_source(name_or_dir: str | Path) -> str:
    """A data set's name, or a folder's whole path; FileNotFoundError says what is expected."""
    source = str(name_or_dir)
    if source in NAMED:
        return source
    if not Path(source).is_dir():
        near = difflib.get_close_matches(source, NAMED, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise FileNotFoundError(
            f"no data {source!r}; {hint}It is neither {', '.join(NAMED)}, nor a folder. "
            "A folder of images holds train/<class>/* and test/<class>/* (or val/)"
        )
    return str(Path(source).resolve())


def load_data(
    name_or_dir: str | Path,
    *,
    device: str | torch.device = "auto",
    val_fraction: float = 0.1,
    seed: int = 0,
    normalization: Choice = None,
    image_size: int | None = None,
    label: str | None = None,
) -> DataSplits:
    """A data set with a validation split held out of training.

    name_or_dir: `digits` (scikit-learn's scans, 32×32, no download), `cifar10` or `cifar100` (downloaded into
        `data/`, MD5 checked), or a folder with `train/<class>/*` and `test/` or `val/` of the same classes.
        With both, `val/` is the validation split; with one, it is the test split.
    val_fraction, seed: how much of train is held out, and which images (the same share of each class).
    normalization: `imagenet`, `cifar10`, `cifar100` or (mean, std) of each colour; None is the data set's
        own: that of its train images, or ImageNet's for images read from disk.
    image_size: pixels a side for a folder's images; None keeps images of up to 64 pixels as they are and
        takes 224 for larger ones.
    label: the name shown in tables and charts.

    Raises ValueError (folder without classes, one class, a corrupt image), FileNotFoundError (no such data).
    """
    where, source = pick_device(device), check_source(name_or_dir)
    if image_size is not None and (not isinstance(image_size, int) or image_size < 1):
        raise ValueError(f"image_size must be a whole number of pixels, at least 1, not {image_size!r}")
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction must be between 0 and 1, not {val_fraction!r}")
    if source == "digits":
        parts, classes, key, flip = _load_digits(), tuple("0123456789"), "digits", False
    elif source in NAMED:
        (parts, classes), key, flip = _load_cifar(source), source, True
    else:
        return _load_folder(Path(source), where, val_fraction, seed, normalization, image_size, label)
    return _resident(label or source, parts, classes, key, where, val_fraction, seed, normalization, flip)


def _load_digits() -> dict[str, Arrays]:
    from sklearn.datasets import load_digits

    scans = load_digits()
    small = torch.from_numpy(scans.images)[:, None].float()  # (1797, 1, 8, 8), 0 … 16
    images = F.interpolate(small * (255 / 16), size=32, mode="bilinear").round().to(torch.uint8).repeat(1, 3, 1, 1)
    labels = torch.from_numpy(scans.target).long()
    train, test = _hold_out(labels, 0.2, seed=0)  # the test split is the same for every seed
    return {"train": (images[train], labels[train]), "test": (images[test], labels[test])}


def _load_cifar(name: str) -> tuple[dict[str, Arrays], tuple[str, ...]]:
    import torchvision.datasets

    dataset = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    try:
        sets = {part: dataset(data_dir(), train=part == "train", download=True) for part in ("train", "test")}
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"{name} is not in {data_dir()} and could not be downloaded ({error}); put {dataset.filename} there"
        ) from error
    parts = {
        part: (torch.from_numpy(s.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(s.targets))
        for part, s in sets.items()
    }
    return parts, tuple(sets["train"].classes)


def _resident(
    name: str,
    parts: dict[str, Arrays],
    classes: tuple[str, ...],
    key: str,
    device: torch.device,
    val_fraction: float,
    seed: int,
    normalization: Choice,
    flip: bool,
) -> DataSplits:
    fingerprint = key
    if "val" not in parts:
        images, labels = parts["train"]
        train, val = _hold_out(labels, val_fraction, seed)
        parts = {**parts, "train": (images[train], labels[train]), "val": (images[val], labels[val])}
        fingerprint = f"{key} val {val_fraction} seed {seed}"
    chosen = find_normalization(normalization) or own_normalization(parts["train"][0])
    splits = {
        part: Split(images.to(device), labels.to(device), chosen, flip) for part, (images, labels) in parts.items()
    }
    return DataSplits(name, classes=classes, fingerprint=fingerprint, **splits)


def _hold_out(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices for training and for validation, the same share of each class, at least one image of each."""
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        own = (labels == label).nonzero().squeeze(1)
        if len(own) < 2:
            raise ValueError(f"class {int(label)} has a single training image; two are needed to hold one out")
        count = min(max(round(fraction * len(own)), 1), len(own) - 1)
        held[own[torch.randperm(len(own), generator=generator)[:count]]] = True
    return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)


def _load_folder(
    folder: Path,
    device: torch.device,
    val_fraction: float,
    seed: int,
    normalization: Choice,
    image_size: int | None,
    label: str | None,
) -> DataSplits:
    listed = list_folder(folder)
    name = label or folder.resolve().name
    if not stays_resident(folder, listed["train"][1][0], image_size):
        return _streamed(name, folder, listed, device, val_fraction, seed, normalization, image_size or 224)
    parts, key = decode_cached(folder, listed, image_size, data_dir() / "cache")
    return _resident(name, parts, listed["train"][0], key, device, val_fraction, seed, normalization, True)


def _streamed(
    name: str,
    folder: Path,
    listed: dict[str, Listing],
    device: torch.device,
    val_fraction: float,
    seed: int,
    normalization: Choice,
    image_size: int,
) -> DataSplits:
    chosen = find_normalization(normalization) or NORMALIZATIONS["imagenet"]
    splits = {part: FileSplit(files, labels, chosen, image_size, device) for part, (_, files, labels) in listed.items()}
    names = [str(Path(file).relative_to(folder)) for _, files, _ in listed.values() for file in files]
    fingerprint = hashlib.blake2b("\n".join(names).encode(), digest_size=16).hexdigest()
    if "val" not in splits:
        whole = splits["train"]
        for part, index in zip(("train", "val"), _hold_out(whole.labels, val_fraction, seed), strict=True):
            splits[part] = replace(whole, files=[whole.files[i] for i in index], labels=whole.labels[index])
        fingerprint += f" val {val_fraction} seed {seed}"
    return DataSplits(name, classes=listed["train"][0], fingerprint=f"{fingerprint} {image_size}px", **splits)
