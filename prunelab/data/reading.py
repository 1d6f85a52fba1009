"""One image: opened as 8-bit RGB from any mode, upright as its EXIF block says, and fitted."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from prunelab.data.listing import show, show_cause

LARGEST_RESIDENT = 64  # pixels a side; larger images are read for each batch
STREAMED_SIZE = 224  # pixels a side, of what is read for each batch
# what PIL decodes by itself; an EPS, say, it gives to Ghostscript, which runs it
FORMATS = "JPEG PNG BMP GIF WEBP TIFF PPM JPEG2000 AVIF TGA PCX ICO DIB SGI".split()
FEW_PIXELS = 2**24  # which a file of any size may claim
PIXELS_A_BYTE = 30_000  # deflate packs 8,256 white ones, fax 15,000, WebP 24,000
TILE_WIDTH, TILE_LENGTH, BITS, PHOTOMETRIC = 322, 323, 258, 262  # TIFF's tags


class Openable(Protocol):
    """What gives an image and is no file, such as an item of a dataset."""

    def open(self) -> Any:
        """The image, a PIL one in RGB."""


def open_image(source: str | Openable) -> Any:
    """An image file, or what opens by itself, as an upright PIL image in RGB.

    Greys of 16 and 32 bits are scaled to 8; floats must be in [0, 1]. Transparency is left out, as
    by torchvision: the colours below it are seen. Of an animation it is the first frame. ValueError
    names a file that cannot be read, or claims more pixels than are safe.
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
        if not os.path.isfile(file):
            raise ValueError("it is no file")
        with Image.open(file, formats=FORMATS) as image:
            _check_claim(image, os.path.getsize(file), Image.MAX_IMAGE_PIXELS or float("inf"))
            yield image
    except Exception as error:  # PIL raises many kinds for broken files
        raise ValueError(
            f"{show(file)} cannot be read as an image ({show_cause(error)}); mend or remove it"
        ) from error


def _check_claim(image: Any, size: int, safe: float) -> None:
    """ValueError where decoding would take memory that a file of `size` bytes cannot fill."""
    tags = getattr(image, "tag_v2", {})
    tile = int(np.max(tags.get(TILE_WIDTH, 0))) * int(np.max(tags.get(TILE_LENGTH, 0)))
    claimed = max(image.width * image.height, tile)
    if claimed > safe:
        raise ValueError(f"{claimed} pixels are more than the {safe} that PIL takes for safe")
    if claimed > max(FEW_PIXELS, PIXELS_A_BYTE * size):
        raise ValueError(f"{claimed} pixels are more than its {size} bytes can hold")


def to_rgb(image: Any) -> Any:
    """A PIL image in 8-bit RGB; of greys with more bits PIL itself would clip the bright ones."""
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        tags = getattr(image, "tag_v2", {})
        bits = 12 if 12 in np.atleast_1d(tags.get(BITS, ())) else 16
        greys, top = np.asarray(image), 1 if image.mode == "F" else 2**bits - 1
        if not (greys.min() >= 0 and greys.max() <= top):
            kind = "floats" if top == 1 else f"{bits}-bit greys"
            raise ValueError(f"{kind} must be in [0, {top}], not {greys.min()} … {greys.max()}")
        if tags.get(PHOTOMETRIC) == 0:  # 0 is white, which PIL heeds up to 8 bits
            greys = top - greys
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
