"""Data sets by name, folder or table, with a validation split held out of training."""

import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

from prunelab.data.cache import decode_cached, pick_size
from prunelab.data.folders import list_folder
from prunelab.data.images import NormalizationLike
from prunelab.data.listing import TEST_FRACTION, Listing, hold_out, show
from prunelab.data.reading import LARGEST_RESIDENT
from prunelab.data.splits import Arrays, DataSplits, How, check_how, make_splits
from prunelab.data.tables import SUFFIXES, list_table
from prunelab.utils.checks import did_you_mean
from prunelab.utils.paths import data_dir
from prunelab.utils.tensors import hash_text

NAMED = ("digits", "cifar10", "cifar100")
DIGITS = tuple("0123456789")


def check_source(name_or_path: str | Path) -> str:
    """A data set's name, or the whole path of a folder or table; FileNotFoundError says which."""
    if not isinstance(name_or_path, str | os.PathLike):
        raise ValueError(f"data must be a name or a path, not a {type(name_or_path).__name__}")
    source = str(name_or_path)
    if source in NAMED:
        return source
    table = os.path.isfile(source) and source.lower().endswith(SUFFIXES)
    if not table and not os.path.isdir(source):
        raise FileNotFoundError(
            f"no data '{show(source)}'{did_you_mean(source, NAMED)}It is neither "
            f"{', '.join(NAMED)}, nor a folder or table of images. A folder holds train/<class>/* "
            f"with test/ or val/, or <class>/* alone; a table ({', '.join(SUFFIXES)}) has the "
            "columns path and label"
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
            (downloaded into `data/`, MD5 checked), or one of these:

            - a folder with `train/<class>/*` and `test/` or `val/`, whose classes train has;
            - a folder with `<class>/*` alone;
            - a table, `.csv` or `.parquet`, with the columns `path` (relative to the table's
              folder, or absolute), `label`, and perhaps `split` (train, val or test).

            Links are followed, to wherever they lead; one that leads nowhere is an error.
            With val and test, val is the validation split; with one, it is the test split; with
            neither, a fifth of each class is the test split, the same one for every seed.
        device: where images of up to 64 pixels live and batches go: `auto`, `cpu`, `cuda`, ….
        val_fraction: how much of train is held out, the same share of each class.
        seed: which images that are.
        normalization: `imagenet`, `cifar10`, `cifar100` or (mean, std) of each colour; None is the
            data set's own: that of its train images, or ImageNet's for images read from disk.
        image_size: pixels a side, for a folder or table alone. None looks at a sample: images of
            up to 64 pixels get their median shorter side, which is their own if all are squares of
            one size; larger ones get 224. What has another size or aspect is resized by its shorter
            side, and its centre taken.
        label: the name shown in tables and charts.

    Returns:
        The splits; images of more than 64 pixels are read from disk for each batch.

    Raises:
        ValueError: a folder without classes or with one class, a table that lacks something, a
            corrupt image or one that claims more pixels than are safe, a wrong setting.
        FileNotFoundError: there is no such data, a table's picture is missing, or it could not be
            downloaded.

    Example:
        >>> load_data("digits", device="cpu")
        DataSplits(digits: 1295 train, 143 val, 359 test; 10 classes, 32 px, cpu)
    """
    source = check_source(name_or_dir)
    how = check_how(device, val_fraction, seed, normalization, image_size)
    if source not in NAMED:
        return _load_listed(Path(source), how, label)
    if image_size is not None:
        raise ValueError(
            f"image_size is for image folders, and {source} is none: its images are 32×32; "
            "leave it out"
        )
    if source == "digits":
        return make_splits(label or source, _load_digits(), DIGITS, source, how, flip=False)
    parts, classes = _load_cifar(source)
    return make_splits(label or source, parts, classes, source, how)


class Size(NamedTuple):
    """How large a data set is: training images before any are held out, classes, pixels a side."""

    train: int
    classes: int
    pixels: int


SIZES = {"digits": Size(1438, 10, 32), "cifar10": Size(50_000, 10, 32)}
SIZES["cifar100"] = SIZES["cifar10"]._replace(classes=100)


@lru_cache(maxsize=32)
def find_size(source: str, image_size: int | None = None) -> Size:
    """The size of a data set of `check_source`, without reading its images or fetching anything."""
    if source in SIZES:
        return SIZES[source]
    listing = _list(Path(source))
    train = len(listing.parts["train"].files)
    return Size(train, len(listing.classes), image_size or pick_size(listing))


def _load_digits() -> dict[str, Arrays]:
    from sklearn.datasets import load_digits

    scans = load_digits()
    small = torch.from_numpy(scans.images)[:, None].float()  # (1797, 1, 8, 8), 0 … 16
    large = F.interpolate(small * (255 / 16), size=32, mode="bilinear")
    images = large.round().to(torch.uint8).repeat(1, 3, 1, 1)  # (1797, 3, 32, 32)
    labels = torch.from_numpy(scans.target).long()
    train, test = hold_out(labels, TEST_FRACTION, 0, DIGITS)  # the same for every seed
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


def _list(path: Path) -> Listing:
    return list_table(path) if path.is_file() else list_folder(path)


def _load_listed(path: Path, how: How, label: str | None) -> DataSplits:
    listing = _list(path)
    name = label or (path.stem if path.is_file() else path.name)
    size = how.image_size or pick_size(listing)
    if size <= LARGEST_RESIDENT:
        arrays, key = decode_cached(listing, how.image_size, size, data_dir() / "cache")
        return make_splits(name, arrays, listing.classes, key, how)
    key = hash_text("\n".join(text for part in listing.parts.values() for text in part.names))
    files = {part: (own.files, own.labels) for part, own in listing.parts.items()}
    return make_splits(name, files, listing.classes, key, how, size=size)
