"""One image: opened as 8-bit RGB from any mode, upright as its EXIF block says, and fitted."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

LARGEST_RESIDENT = 64  # pixels a side; larger images are read for each batch
STREAMED_SIZE = 224  # pixels a side, of what is read for each batch


class Openable(Protocol):
    """What gives an image and is no file, such as an item of a dataset."""

    def open(self) -> Any:
        """The image, a PIL one in RGB."""


def open_image(source: str | Openable) -> Any:
    """An image file, or what opens by itself, as an upright PIL image in RGB.

    Greys of 16 and 32 bits are scaled to 8; floats must be in [0, 1]. ValueError names a file that
    cannot be read, or claims more pixels than PIL takes for safe.
    """
    if not isinstance(source, str):
        return source.open()
    from PIL import ImageOps

    with _opened(source) as image:
        image.load()
        with suppress(Exception):  # a broken EXIF block says nothing: the image stays as it lies
            ImageOps.exif_transpose(image, in_place=True)
        return to_rgb(image)


def read_size(file: str) -> tuple[int, int]:
    """Width and height by a file's header; ValueError as `open_image`."""
    with _opened(file) as image:
        return image.size


@contextmanager
def _opened(file: str) -> Iterator[Any]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
                raise ValueError(
                    f"{image.width}×{image.height} pixels are more than the "
                    f"{Image.MAX_IMAGE_PIXELS} that PIL takes for safe"
                )
            yield image
    except Exception as error:  # PIL raises many kinds for broken files
        raise ValueError(
            f"{file} cannot be read as an image ({error}); mend or remove it"
        ) from error


def to_rgb(image: Any) -> Any:
    """A PIL image in 8-bit RGB; of greys with more bits PIL itself would clip the bright ones."""
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        greys, top = np.asarray(image), 1 if image.mode == "F" else 65535
        if not (greys.min() >= 0 and greys.max() <= top):
            kind = "floats" if top == 1 else "16-bit greys"
            raise ValueError(f"{kind} must be in [0, {top}], not {greys.min()} … {greys.max()}")
        image = Image.fromarray(np.rint(greys / (top / 255)).astype(np.uint8))
    return image.convert("RGB")


def choose_size(sizes: Iterable[tuple[int, int]]) -> int:
    """Pixels a side for images of such sizes: the median shorter side, or 224 for large ones."""
    found = np.array(list(sizes))
    if found.max() > LARGEST_RESIDENT:
        return STREAMED_SIZE
    return int(np.median(found.min(axis=1)))


def fit_image(image: Any, size: int) -> Tensor:
    """A PIL image in RGB as (3, size, size) uint8: its shorter side resized, the centre cropped."""
    from PIL import ImageOps

    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
