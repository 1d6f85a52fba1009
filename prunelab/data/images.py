"""Images as tensors: normalised, augmented."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prunelab.data.listing import show

PAD = 4  # pixels around an image before its random crop (He et al. 2016, §4.2)


class Normalization(NamedTuple):
    """Mean and standard deviation of each colour, of pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


# what a user may give: a name, (mean, std) of each colour, or None for the data set's own
NormalizationLike = str | Sequence[Sequence[float]] | None
NORMALIZATIONS = {
    "imagenet": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": Normalization((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


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
    """Random crops of images (n, 3, h, w) padded by 4 pixels, and mirror images.

    draws: (3, n) integers: how far down and right a window is, and mirrored where even.
    """
    n, _, h, w = images.shape
    padded = F.pad(images, (PAD,) * 4)
    windows = padded.unfold(2, h, 1).unfold(3, w, 1)  # (n, 3, 9, 9, h, w), a view
    places = draws % (2 * PAD + 1)
    crops = windows[torch.arange(n, device=images.device), :, places[0], places[1]]
    if not flip:
        return crops
    return torch.where((draws[2] % 2 == 0)[:, None, None, None], crops.flip(3), crops)


def find_normalization(given: NormalizationLike) -> Normalization | None:
    """The mean and deviation meant by a name or by two triples; ValueError for anything else."""
    if given is None:
        return None
    if isinstance(given, str) and given in NORMALIZATIONS:
        return NORMALIZATIONS[given]
    try:
        numbers = np.array(given, dtype=float)
    except (TypeError, ValueError, OverflowError):
        numbers = np.empty(0)
    if numbers.shape != (2, 3):
        raise ValueError(
            f"normalization must be one of {', '.join(NORMALIZATIONS)} or ((r, g, b), (r, g, b)), "
            f"mean and std; got {show(repr(given))}"
        )
    mean, std = (tuple(values) for values in numbers.tolist())
    with np.errstate(all="ignore"):
        single = numbers.astype(np.float32)
        darkest, brightest = ((edge - single[0]) / single[1] for edge in (0, 1))
    if not np.isfinite([*single, darkest, brightest]).all() or not (single[1] > 0).all():
        raise ValueError(
            "a normalization's numbers must be finite, and its deviations more than 0, as it "
            f"divides by them in 32 bits; got mean {mean} and std {std}"
        )
    return Normalization(mean, std)


def own_normalization(images: Tensor) -> Normalization:
    """The mean and deviation of the colours of uint8 images (n, 3, h, w), to four places."""
    colours = [torch.bincount(images[:, c].cpu().reshape(-1), minlength=256) for c in range(3)]
    counts = torch.stack(colours).double()  # (3, 256)
    values = torch.arange(256).double() / 255
    mean = counts @ values / counts.sum(1)
    std = (counts @ values**2 / counts.sum(1) - mean**2).sqrt().clamp(min=1e-3)
    means, stds = (tuple(round(value, 4) for value in own.tolist()) for own in (mean, std))
    return Normalization(means, stds)
