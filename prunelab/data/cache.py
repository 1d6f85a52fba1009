"""Listed files decoded once, into a cache."""

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prunelab.data.listing import Listing
from prunelab.data.reading import choose_size, fit_image, open_image, read_size
from prunelab.utils.tensors import read_tensors, write_tensors

DECODER = 3  # a higher number where pixels come out otherwise than by the one before


def pick_size(listing: Listing) -> int:
    """Pixels a side, by the headers of up to 200 train images, some of each class."""
    files, labels, _ = listing.parts["train"]
    firsts = np.unique(labels.numpy(), return_index=True)[1][:100]
    spread = np.linspace(0, len(files) - 1, 100).astype(int)
    return choose_size(read_size(files[i]) for i in {*firsts.tolist(), *spread.tolist()})


def decode_cached(
    listing: Listing, image_size: int | None, size: int, cache_dir: Path
) -> tuple[dict[str, tuple[Tensor, Tensor]], str]:
    """All images in one size, and a digest of the files' names and bytes.

    They are decoded once; later the cache is read. `image_size` is the size asked for: None stands
    for the one that follows from the files.
    """
    digest = hashlib.blake2b(f"{image_size}".encode(), digest_size=16)
    parts = listing.parts.values()
    for part in parts:
        for file, name in zip(part.files, part.names, strict=True):
            digest.update(f"{name} ".encode())
            digest.update(hashlib.blake2b(Path(file).read_bytes()).digest())
    key = digest.hexdigest()
    cache = cache_dir / f"{key}-{DECODER}.safetensors"
    try:
        images = read_tensors(cache)[0]["images"]
    except (FileNotFoundError, ValueError) as error:
        if isinstance(error, ValueError):
            warnings.warn(f"{error}: the images are decoded again", stacklevel=4)
        images = _decode([file for part in parts for file in part.files], size)
        write_tensors(cache, {"images": images}, {"decoder": DECODER})
    pieces = images.split([len(part.files) for part in parts])
    names = listing.parts.items()
    return {n: (own, part.labels) for (n, part), own in zip(names, pieces, strict=True)}, key


def _decode(files: list[str], size: int) -> Tensor:
    from tqdm import tqdm

    images = torch.empty(len(files), 3, size, size, dtype=torch.uint8)

    def decode(block: range) -> int:
        for i in block:
            images[i] = fit_image(open_image(files[i]), size)
        return len(block)

    blocks = [range(start, min(start + 500, len(files))) for start in range(0, len(files), 500)]
    bar = tqdm(total=len(files), desc="decoding", disable=None)
    with ThreadPoolExecutor(os.cpu_count()) as pool, bar:
        for count in pool.map(decode, blocks):
            bar.update(count)
    return images
