"""Data sets made of torch datasets that give pairs of an image and a label."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset
from tqdm import tqdm

from prunelab.data.images import NormalizationLike
from prunelab.data.listing import show
from prunelab.data.reading import LARGEST_RESIDENT, choose_size, fit_image, to_rgb
from prunelab.data.splits import Arrays, DataSplits, check_how, check_labels, make_splits
from prunelab.utils.tensors import hash_tensors

SAMPLE = 64  # items of a dataset that tell how large its images are, and which they are
MOST_CLASSES = 10**6  # where none are named
DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
SLACK = 1e-3  # how far resizing may have brought a float out of [0, 1]
Sampled = dict[int, tuple[Any, int]]  # {place: (PIL image, label)}


@dataclass(frozen=True, slots=True)
class Item:
    """An image of a dataset, which is asked for it whenever it is opened."""

    dataset: Any = field(repr=False)
    index: int
    part: str  # with the fingerprint: so its repr says which image it is

    def open(self) -> Any:
        """A PIL image in RGB."""
        return _read_item(self.dataset, self.index)[0]


def data_from(
    train: Any,
    test: Any,
    *,
    val: Any = None,
    classes: Sequence[str] | None = None,
    name: str = "data",
    device: str | torch.device = "auto",
    val_fraction: float = 0.1,
    seed: int = 0,
    normalization: NormalizationLike = None,
    image_size: int | None = None,
    flip: bool = True,
) -> DataSplits:
    """A data set made of torch datasets, with a validation split held out of training.

    Args:
        train: a map-style dataset (`len` and `[i]`) of pairs (image, label). An image is a PIL one
            or (c, h, w), c = 1 or 3: uint8, or floats in [0, 1]. It must be neither normalised nor
            augmented, as prunelab does both.
        test: the same, to report.
        val: the same, to decide by; None holds out images of `train`.
        classes: their names; None: `train.classes`, or else the numbers that are the labels.
        name: as shown in tables and charts.
        device: where images of up to 64 pixels live and batches go.
        val_fraction: how much of train is held out, the same share of each class.
        seed: which images that are.
        normalization: as `load_data` takes it.
        image_size: pixels a side; None: as `load_data`, by 64 items of train.
        flip: whether a mirrored image still shows the same thing.

    Returns:
        The splits. Images of up to 64 pixels are read once; larger ones for each batch, and their
        labels are `dataset.targets` if there are such. The fingerprint is a digest of labels and
        images: of those that are read for each batch, 64 spread over each dataset.

    Raises:
        ValueError: a dataset is iterable or empty, its items are no such pairs, a label is no class
            or there is one class only; a wrong setting.

    Example:
        >>> data_from(torchvision.datasets.SVHN("svhn"), torchvision.datasets.SVHN("svhn", "test"))
    """
    how = check_how(device, val_fraction, seed, normalization, image_size)
    datasets = {"train": train, "val": val, "test": test}
    if val is None:
        del datasets["val"]
    classes = getattr(train, "classes", None) if classes is None else classes
    samples = {part: _sample(part, dataset) for part, dataset in datasets.items()}
    size = image_size or choose_size(image.size for image, _ in samples["train"].values())
    if size <= LARGEST_RESIDENT:
        arrays = {part: _decode(part, dataset, size) for part, dataset in datasets.items()}
        labels = {part: own for part, (_, own) in arrays.items()}
        names = _name_classes(labels, classes)
        pixels = {f"{part} images": own for part, (own, _) in arrays.items()}
        return make_splits(name, arrays, names, _digest(labels, pixels), how, flip=flip)
    labels = {p: _find_labels(p, dataset, samples[p]) for p, dataset in datasets.items()}
    names = _name_classes(labels, classes)
    pixels = {
        f"{part} {i}": torch.from_numpy(np.array(image))
        for part, sampled in samples.items()
        for i, (image, _) in sampled.items()
    }
    digest = _digest(labels, pixels)
    items = {
        part: ([Item(dataset, i, f"{part} {digest}") for i in range(len(dataset))], labels[part])
        for part, dataset in datasets.items()
    }
    return make_splits(name, items, names, digest, how, size=size, flip=flip)


def _sample(part: str, dataset: Any) -> Sampled:
    """Items spread over a dataset, the first and the last among them."""
    by_place = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if isinstance(dataset, IterableDataset) or not by_place:
        raise ValueError(
            f"{part} is a {type(dataset).__name__}, which cannot be asked for its i-th item; "
            "data_from takes map-style datasets, with len and [i]"
        )
    if not len(dataset):
        raise ValueError(f"{part} is empty; it must hold pairs (image, label)")
    places = np.unique(np.linspace(0, len(dataset) - 1, SAMPLE).astype(int)).tolist()
    return {i: _read_item(dataset, i) for i in places}


def _decode(part: str, dataset: Any, size: int) -> Arrays:
    images = torch.empty(len(dataset), 3, size, size, dtype=torch.uint8)
    labels = torch.empty(len(dataset), dtype=torch.long)
    for i in tqdm(range(len(dataset)), f"decoding {part}", disable=None):
        image, labels[i] = _read_item(dataset, i)
        images[i] = fit_image(image, size)
    return images, labels


def _find_labels(part: str, dataset: Any, sampled: Sampled) -> Tensor:
    """`dataset.targets` if its items say the same; else each item is read."""
    targets = np.asarray(getattr(dataset, "targets", []))
    whole = targets.shape == (len(dataset),) and targets.dtype.kind in "iu"
    if whole and all(targets[i] == label for i, (_, label) in sampled.items()):
        return torch.from_numpy(targets.astype(np.int64))
    bar = tqdm(range(len(dataset)), f"labels of {part}", disable=None)
    return torch.tensor([_read_item(dataset, i)[1] for i in bar])


def _name_classes(labels: Mapping[str, Tensor], classes: Sequence[str] | None) -> list[str]:
    """The classes' names; ValueError unless each label is one of them, and train has two."""
    if classes is None:
        highest = int(labels["train"].max())
        if highest >= MOST_CLASSES:
            raise ValueError(
                f"train has the label {highest}, which would make {highest + 1} classes; number "
                "them from 0, or give classes their names"
            )
        classes = list(map(str, range(highest + 1)))
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise ValueError(f"classes must be a list of names, not {show(repr(classes))}")
    # ImageNet's are tuples
    names = [", ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in classes]
    for part, own in labels.items():
        check_labels(part, own, names)
    if len(labels["train"].unique()) < 2:
        raise ValueError("train holds one class only; a classifier needs two or more")
    return names


def _digest(labels: Mapping[str, Tensor], pixels: Mapping[str, Tensor]) -> str:
    return hash_tensors({**{f"{part} labels": own for part, own in labels.items()}, **pixels})


def _read_item(dataset: Any, index: int) -> tuple[Any, int]:
    """An item as a PIL image in RGB and its label; ValueError says what else it is."""
    item = dataset[index]
    where = f"item {index} of the {type(dataset).__name__}"
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise ValueError(f"{where} must be a pair (image, label), not a {type(item).__name__}")
    try:
        label = operator.index(item[1])
    except TypeError as error:
        raise ValueError(
            f"{where}: a label must be a whole number, not {show(repr(item[1]))}"
        ) from error
    if abs(label) >= 2**63:
        raise ValueError(f"{where}: the label {label} has more than 64 bits")
    try:
        return _to_image(item[0]), label
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _to_image(image: Any) -> Any:
    """(c, h, w), or a PIL image in any mode -> a PIL image in RGB."""
    from PIL import Image

    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ValueError("an image must have pixels")
        return to_rgb(image)
    try:
        pixels = torch.from_numpy(image.copy()) if isinstance(image, np.ndarray) else image
    except TypeError as error:
        raise ValueError(
            f"an image must be uint8, or floats in [0, 1], not {image.dtype}"
        ) from error
    if not isinstance(pixels, Tensor) or pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        what = f"shape {tuple(image.shape)}" if hasattr(image, "shape") else type(image).__name__
        raise ValueError(f"an image must be a PIL one or (c, h, w) with c 1 or 3, not {what}")
    if pixels.dtype not in DTYPES:
        raise ValueError(f"an image must be uint8, or floats in [0, 1], not {pixels.dtype}")
    if not pixels.numel():
        raise ValueError("an image must have pixels")
    if pixels.is_floating_point():
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= -SLACK and high <= 1 + SLACK):
            raise ValueError(
                f"floats must be in [0, 1], not {low:.3g} … {high:.3g}; give the dataset without "
                "Normalize: prunelab normalises"
            )
        pixels = (pixels.clamp(0, 1) * 255).round().byte()
    return Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy())
