"""Images and labels in batches: small images live on the device, large ones are read from disk."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from prunelab.data.images import Normalization, augment_batch, normalize
from prunelab.data.reading import open_image
from prunelab.utils import processes
from prunelab.utils.checks import check_whole

WIDEST = 8  # times as long as it is high: of an image that is wider, the middle is taken first


@dataclass(frozen=True)
class Split:
    """Images and labels, both on the device.

    Attributes:
        images: (n, 3, h, w) uint8.
        labels: (n,) int64.
        normalization: mean and deviation of the colours, taken off in each batch.
        flip: whether a mirrored image still shows the same thing (a digit does not).
    """

    images: Tensor
    labels: Tensor
    normalization: Normalization
    flip: bool = True

    def __post_init__(self) -> None:
        shape, n = tuple(self.images.shape), len(self.labels)
        if self.images.dtype != torch.uint8 or len(shape) != 4 or shape[:2] != (n, 3):
            raise ValueError(
                f"a Split holds uint8 images (n, 3, h, w) and n labels, not {n} labels and "
                f"{self.images.dtype} {shape}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return self.images.shape[-1]

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        augment: bool = False,
        shared: bool = False,
        skip: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images and their labels, batch by batch.

        Args:
            batch_size: images in a batch; the last one may be smaller.
            seed: shuffles the images; None: in order.
            augment: random crops after padding by 4 pixels, and mirror images where `flip` allows.
            shared: of each batch only this process's shard, under torchrun; it may be empty.
            skip: batches left out at the beginning; the others are what they would have been.

        Returns:
            Images (b, 3, h, w) float and labels (b,), on the device.

        Example:
            >>> images, labels = next(data.val.batches(8))
        """
        check_whole("batch_size", batch_size)
        n, device = len(self), self.labels.device
        share = processes.shard if shared else _all
        generator = torch.Generator().manual_seed(seed or 0)
        order = draws = None
        if seed is not None:
            order = torch.randperm(n, generator=generator).to(device)
        if augment:
            draws = torch.randint(2**31, (3, n), generator=generator).to(device)
        for start in range(skip * batch_size, n, batch_size):
            batch = slice(start, start + batch_size)
            if order is None:
                images, labels = share(self.images[batch]), share(self.labels[batch])
            else:
                chosen = share(order[batch])
                images, labels = self.images[chosen], self.labels[chosen]
            if draws is not None:
                images = augment_batch(images, share(draws[:, batch].T).T, flip=self.flip)
            yield normalize(images, self.normalization), labels


@dataclass(frozen=True)
class FileSplit:
    """Image files and labels, read, resized and cropped for each batch by worker processes.

    Attributes:
        files: n paths, or items of a dataset; `open_image` takes both.
        labels: (n,) int64.
        normalization: mean and deviation of the colours, taken off in each batch.
        image_size: pixels a side, of what a batch holds.
        device: where batches go.
        flip: whether a mirrored image still shows the same thing.
    """

    files: list[Any]
    labels: Tensor
    normalization: Normalization
    image_size: int
    device: torch.device
    flip: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        augment: bool = False,
        shared: bool = False,
        skip: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As `Split.batches`; `augment` crops 8 – 100 % of an image, mirrored half the time."""
        check_whole("batch_size", batch_size)
        n, size = len(self), self.image_size
        share = processes.shard if shared else _all
        generator = torch.Generator().manual_seed(seed or 0)
        order = torch.arange(n) if seed is None else torch.randperm(n, generator=generator)
        blocks = [share(block).tolist() for block in order.split(batch_size)[skip:]]
        seeds = torch.randint(2**31, (n,), generator=generator) if augment else None
        loader: Any = torch.utils.data.DataLoader(
            _Files(self, seeds),  # type: ignore[arg-type]
            batch_sampler=[block for block in blocks if block],
            collate_fn=_all,
            num_workers=min(8, os.cpu_count() or 1),
            pin_memory=self.device.type == "cuda",
            generator=generator,
        )
        read = iter(loader)
        nothing = torch.empty(0, 3, size, size), torch.empty(0, dtype=torch.long)
        for block in blocks:
            found = next(read) if block else nothing
            if isinstance(found, ValueError):
                raise found
            images, labels = found
            images = images.to(self.device, non_blocking=True)
            labels = labels.to(self.device, non_blocking=True)
            yield normalize(images, self.normalization), labels


def _all(items: Any) -> Any:
    return items


def _cut_strip(image: Any) -> Any:
    """The middle of a PIL image that is too wide or high: resized whole, it might be endless."""
    from torchvision.transforms import v2

    longest = WIDEST * min(image.size)
    if max(image.size) <= longest:
        return image
    return v2.functional.center_crop(image, [min(side, longest) for side in image.size[::-1]])


class _Files:
    """Decoded images, augmented if there are seeds: each by its own, whichever worker reads it."""

    def __init__(self, split: FileSplit, seeds: Tensor | None) -> None:
        from torchvision.transforms import v2

        size = split.image_size
        crop: list[Any] = [_cut_strip, v2.Resize(round(size * 256 / 224), antialias=True)]
        crop += [v2.CenterCrop(size)]
        if seeds is not None:
            crop = [v2.RandomResizedCrop(size, antialias=True)]
            crop += [v2.RandomHorizontalFlip()] if split.flip else []
        self.split, self.seeds = split, seeds
        self.transform = v2.Compose([*crop, v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor] | ValueError:
        """A batch, or what is wrong with it: raised in a worker, it would bring its traceback."""
        try:
            images = torch.stack([self._read(index) for index in indices])
        except ValueError as error:
            return error
        return images, self.split.labels[indices]

    def _read(self, index: int) -> Tensor:
        image = open_image(self.split.files[index])
        with torch.random.fork_rng(devices=[]):
            if self.seeds is not None:
                torch.manual_seed(int(self.seeds[index]))
            return self.transform(image)


def pick_batch_size(image_size: int, device: torch.device) -> int:
    """Images at once, for evaluation.

    Of 32×32 pixels, 128 on a CPU (with 500, each takes a third longer) and 512 on a GPU.
    """
    if device.type == "cuda":
        return max(64, 2**19 // image_size**2)
    return max(8, 2**17 // image_size**2)


def take(split: Split | FileSplit, indices: Tensor) -> Split | FileSplit:
    """Some images of a split, by their places in it."""
    if isinstance(split, FileSplit):
        files = [split.files[i] for i in indices.tolist()]
        return replace(split, files=files, labels=split.labels[indices])
    own = indices.to(split.labels.device)
    return replace(split, images=split.images[own], labels=split.labels[own])
