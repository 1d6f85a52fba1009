"""Pictures and labels, in batches: small ones live on the device, large ones are read from disk as needed."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from prunelab import processes

PAD = 4  # pixels around an image before its random crop (He et al. 2016, §4.2)


class Normalization(NamedTuple):
    """Mean and standard deviation of each colour, of pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


NORMALIZATIONS = {
    "imagenet": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": Normalization((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


@dataclass(frozen=True)
class Split:
    """Images (n, 3, h, w) uint8 and labels (n,) int64, both on the device."""

    images: Tensor
    labels: Tensor
    normalization: Normalization
    flip: bool = True  # whether a mirrored image still shows the same thing (a digit does not)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        return self.images.shape[-1]

    def batches(
        self, batch_size: int, *, seed: int | None = None, augment: bool = False, shared: bool = False, skip: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised float images (b, 3, h, w) and labels (b,), in order, or shuffled by `seed`.

        augment: random crops after padding by 4 pixels, and mirror images where `flip` allows.
        shared: of each batch only this process's share, under torchrun; it may be empty.
        skip: batches left out at the beginning; the others are what they would have been.
        """
        share = processes.share if shared else _all
        generator = torch.Generator().manual_seed(seed or 0)
        n = len(self)
        order = None if seed is None else torch.randperm(n, generator=generator).to(self.labels.device)
        draws = torch.randint(2**31, (3, n), generator=generator).to(self.labels.device) if augment else None
        for start in range(skip * batch_size, n, batch_size):
            batch = slice(start, start + batch_size)
            chosen = batch if order is None else share(order[batch])
            images, labels = self.images[chosen], self.labels[chosen]
            if order is None:
                images, labels = share(images), share(labels)
            if draws is not None:
                images = augment_batch(images, share(draws[:, batch].T).T, flip=self.flip)
            yield normalize(images, self.normalization), labels


@dataclass(frozen=True)
class FileSplit:
    """Image files and labels, read, resized and cropped for each batch by worker processes."""

    files: list[str]
    labels: Tensor
    normalization: Normalization
    image_size: int
    device: torch.device
    flip: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, batch_size: int, *, seed: int | None = None, augment: bool = False, shared: bool = False, skip: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As `Split.batches`; augment: a random crop of 8 – 100 % of the image, mirrored half the time."""
        generator = torch.Generator().manual_seed(seed or 0)
        order = torch.arange(len(self)) if seed is None else torch.randperm(len(self), generator=generator)
        share = processes.share if shared else _all
        blocks = [share(block).tolist() for block in order.split(batch_size)[skip:]]
        seeds = torch.randint(2**31, (len(self),), generator=generator) if augment else None
        loader: Any = torch.utils.data.DataLoader(
            _Files(self, seeds),  # type: ignore[arg-type]
            batch_sampler=[block for block in blocks if block],
            num_workers=min(8, os.cpu_count() or 1),
            pin_memory=self.device.type == "cuda",
            generator=generator,
        )
        read = iter(loader)
        nothing = torch.empty(0, 3, self.image_size, self.image_size), torch.empty(0, dtype=torch.long)
        for block in blocks:
            images, labels = (t.to(self.device, non_blocking=True) for t in (next(read) if block else nothing))
            yield normalize(images, self.normalization), labels


def _all(items: Tensor) -> Tensor:
    return items


class _Files:
    """Decoded images, augmented if there are seeds: each by its own, whichever worker or process reads it."""

    def __init__(self, split: FileSplit, seeds: Tensor | None) -> None:
        from torchvision.transforms import v2

        size = split.image_size
        crop = [v2.RandomResizedCrop(size, antialias=True)] + [v2.RandomHorizontalFlip()] * split.flip
        centre = [v2.Resize(round(size * 256 / 224), antialias=True), v2.CenterCrop(size)]
        self.split, self.seeds = split, seeds
        self.transform = v2.Compose([*(centre if seeds is None else crop), v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = open_image(self.split.files[index])
        with torch.random.fork_rng(devices=[]):
            if self.seeds is not None:
                torch.manual_seed(int(self.seeds[index]))
            return self.transform(image), self.split.labels[index]


def pick_batch_size(image_size: int, device: torch.device) -> int:
    """Images at once, for evaluation: of 32×32 pixels 128 on a CPU (500 take a third longer each), 512 on a GPU."""
    if device.type == "cuda":
        return max(64, 2**19 // image_size**2)
    return max(8, 2**17 // image_size**2)


def normalize(images: Tensor, normalization: Normalization) -> Tensor:
    """uint8 (n, 3, h, w) -> float (n, 3, h, w), colours of mean 0 and deviation 1."""
    mean, std = _on_device(normalization, images.device)
    return images.float().div_(255).sub_(mean).div_(std)


@lru_cache(maxsize=32)
def _on_device(normalization: Normalization, device: torch.device) -> list[Tensor]:
    """Copied once: a copy for each batch would make a GPU wait."""
    with torch.inference_mode(False):
        return [torch.tensor(values, device=device)[:, None, None] for values in normalization]


def augment_batch(images: Tensor, draws: Tensor, *, flip: bool) -> Tensor:
    """Random crops of the images padded by 4 pixels, and mirror images. (n, 3, h, w), draws (3, n) integers."""
    n, _, h, w = images.shape
    padded = F.pad(images, (PAD,) * 4)
    windows = padded.unfold(2, h, 1).unfold(3, w, 1)  # (n, 3, 9, 9, h, w), a view
    places = draws % (2 * PAD + 1)
    crops = windows[torch.arange(n, device=images.device), :, places[0], places[1]]
    if not flip:
        return crops
    return torch.where((draws[2] % 2 == 0)[:, None, None, None], crops.flip(3), crops)


def find_normalization(given: str | Sequence[Sequence[float]] | None) -> Normalization | None:
    """The mean and deviation meant by a name or by two triples; ValueError for anything else."""
    if given is None:
        return None
    if isinstance(given, str) and given in NORMALIZATIONS:
        return NORMALIZATIONS[given]
    if not isinstance(given, str) and len(given) == 2 and all(len(values) == 3 for values in given):
        return Normalization(*(tuple(float(value) for value in values) for values in given))
    raise ValueError(
        f"normalization must be one of {', '.join(NORMALIZATIONS)} or ((r, g, b), (r, g, b)), mean and std; got {given!r}"
    )


def own_normalization(images: Tensor) -> Normalization:
    """The mean and deviation of the colours of uint8 images (n, 3, h, w), rounded to four places."""
    counts = torch.stack([torch.bincount(images[:, c].reshape(-1), minlength=256) for c in range(3)]).double()
    values = torch.arange(256).double() / 255
    mean = counts @ values / counts.sum(1)
    std = (counts @ values**2 / counts.sum(1) - mean**2).sqrt().clamp(min=1e-3)
    return Normalization(tuple(round(m, 4) for m in mean.tolist()), tuple(round(s, 4) for s in std.tolist()))


def open_image(file: str) -> Any:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as an image ({error}); mend or remove it") from error
