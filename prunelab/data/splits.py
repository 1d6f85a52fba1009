"""A data set: three splits, and what describes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from prunelab.data.batches import FileSplit, Split, take
from prunelab.data.images import (
    NORMALIZATIONS,
    Normalization,
    NormalizationLike,
    find_normalization,
    own_normalization,
)
from prunelab.data.listing import hold_out, show, show_cause
from prunelab.utils.checks import check_whole
from prunelab.utils.devices import pick_device

Arrays = tuple[Tensor, Tensor]  # images (n, 3, h, w) uint8, labels (n,) int64
Files = tuple[list[Any], Tensor]  # what FileSplit holds, labels (n,) int64
PARTS = ("train", "val", "test")
LARGEST = 8192  # pixels a side


@dataclass(frozen=True)
class DataSplits:
    """A data set: three splits, and what describes it. `load_data` and `data_from` make one.

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

    def __post_init__(self) -> None:
        for part in PARTS:
            check_labels(part, getattr(self, part).labels, self.classes)

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

    def with_normalization(self, normalization: NormalizationLike) -> "DataSplits":
        """The same images, normalised otherwise: as pretrained weights expect it, say.

        Args:
            normalization: a name, (mean, std) of each colour, or None, as `load_data` takes it.

        Returns:
            A copy with the same fingerprint.

        Raises:
            ValueError: an unknown name, numbers that are not finite, or a deviation of 0.

        Example:
            >>> data = data.with_normalization("imagenet")
        """
        chosen = find_normalization(normalization)
        if chosen is None and isinstance(self.train, Split):
            chosen = own_normalization(self.train.images)
        chosen = chosen or NORMALIZATIONS["imagenet"]
        parts = {part: replace(getattr(self, part), normalization=chosen) for part in PARTS}
        return replace(self, **parts)

    def describe(self) -> dict[str, Any]:
        """What a network that learns from it must be given later, as plain JSON values.

        Returns:
            dataset, classes, normalization and image_size.

        Example:
            >>> save_weights("mine.safetensors", model, info=data.describe())
        """
        return {
            "dataset": self.name,
            "classes": list(self.classes),
            "normalization": [list(values) for values in self.normalization],
            "image_size": self.train.image_size,
        }

    def __repr__(self) -> str:
        counts = f"{len(self.train)} train, {len(self.val)} val, {len(self.test)} test"
        about = f"{len(self.classes)} classes, {self.train.image_size} px, {self.device}"
        return f"DataSplits({self.name}: {counts}; {about})"


def check_labels(part: str, labels: Tensor, classes: Sequence[str]) -> None:
    """ValueError where a split has no images, or a label that is no place among the classes."""
    if not len(labels):
        raise ValueError(f"{part} is empty; it must hold images")
    for label in (int(labels.min()), int(labels.max())):
        if not 0 <= label < len(classes):
            raise ValueError(
                f"{part} has the label {label}; the {len(classes)} classes are 0 … "
                f"{len(classes) - 1}"
            )


class How(NamedTuple):
    """How any data set is split and read."""

    device: torch.device
    val_fraction: float
    seed: int
    normalization: Normalization | None
    image_size: int | None


def check_how(
    device: str | torch.device,
    val_fraction: float,
    seed: int,
    normalization: NormalizationLike,
    image_size: int | None,
) -> How:
    """What was asked for; ValueError says what is wrong."""
    if not isinstance(device, str | torch.device):
        raise ValueError(f"device must be a name, such as 'auto' or 'cpu', not {device!r}")
    picked = pick_device(device)
    try:
        torch.zeros((), device=picked).item()
    except RuntimeError as error:
        raise ValueError(
            f"torch cannot use the device {device!r} ({show_cause(error)}); use 'auto' or 'cpu'"
        ) from error
    if image_size is not None:
        check_whole("image_size", image_size, most=LARGEST, why="pixels")
    if not isinstance(val_fraction, Real) or not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction must be between 0 and 1, not {show(repr(val_fraction))}")
    check_whole("seed", seed, least=0, most=2**63 - 1)
    return How(picked, val_fraction, int(seed), find_normalization(normalization), image_size)


def make_splits(
    name: str,
    parts: Mapping[str, Arrays | Files],
    classes: Sequence[str],
    fingerprint: str,
    how: How,
    *,
    size: int = 0,
    flip: bool = True,
) -> DataSplits:
    """A data set of train, test and val, or what is held out of train for it.

    size: pixels a side, of files.
    """
    imagenet = NORMALIZATIONS["imagenet"]  # until the data set is whole
    splits: dict[str, Split | FileSplit] = {}
    for part, (images, labels) in parts.items():
        if isinstance(images, Tensor):
            splits[part] = Split(images, labels, imagenet, flip)
        else:
            splits[part] = FileSplit(images, labels, imagenet, size, how.device, flip)
    if "val" not in splits:
        whole = splits["train"]
        kept, held = hold_out(whole.labels, how.val_fraction, how.seed, classes)
        splits |= {"train": take(whole, kept), "val": take(whole, held)}
        fingerprint += f" val {how.val_fraction} seed {how.seed}"
    if size:
        fingerprint += f" {size}px"
    for part, split in splits.items():
        if isinstance(split, Split):
            images, labels = split.images.to(how.device), split.labels.to(how.device)
            splits[part] = replace(split, images=images, labels=labels)
    data = DataSplits(name, classes=tuple(classes), fingerprint=fingerprint, **splits)
    return data.with_normalization(how.normalization)
