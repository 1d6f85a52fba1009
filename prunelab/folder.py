"""Image folders, `train/<class>/*` and `test/` or `val/`: listed, and decoded once into a cache."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prunelab.batches import open_image
from prunelab.checkpoint import read_tensors, write_tensors

LARGEST_RESIDENT = 64  # pixels a side; larger images are read from disk for each batch
Listing = tuple[tuple[str, ...], list[str], Tensor]  # classes, files, labels


def list_folder(folder: Path) -> dict[str, Listing]:
    """{"train", "test" and perhaps "val": (classes, files, labels)} of a folder; ValueError says what it lacks."""
    found = {part: folder / part for part in ("train", "val", "test") if (folder / part).is_dir()}
    if "train" not in found or len(found) == 1:
        raise ValueError(f"{folder} must hold train/<class>/* and test/<class>/* (or val/); it holds {_names(folder)}")
    if "test" not in found:
        found["test"] = found.pop("val")
    listed = {part: _list_images(path) for part, path in found.items()}
    classes = listed["train"][0]
    for part, (names, _, _) in listed.items():
        if names != classes:
            odd = sorted(set(names) ^ set(classes))
            raise ValueError(f"{found[part]} and {found['train']} hold different classes: {', '.join(odd[:5])}")
    return listed


def stays_resident(folder: Path, first: str, image_size: int | None) -> bool:
    """Whether the folder's images are small enough to live on the device, judged by its first one."""
    width, height = open_image(first).size
    if image_size is None and max(width, height) <= LARGEST_RESIDENT and width != height:
        raise ValueError(f"the images of {folder} are {width}×{height} pixels, not square; pass image_size=")
    return (image_size or max(width, height)) <= LARGEST_RESIDENT


def _list_images(path: Path) -> Listing:
    from torchvision.datasets import ImageFolder

    try:
        listing = ImageFolder(str(path))
    except FileNotFoundError as error:
        raise ValueError(
            f"{path} must hold a folder of images for each class; it holds {_names(path)} ({error})"
        ) from error
    if len(listing.classes) < 2:
        raise ValueError(f"{path} holds one class only ({listing.classes[0]}); a classifier needs two or more")
    files, labels = zip(*listing.samples, strict=True)
    return tuple(listing.classes), list(files), torch.tensor(labels)


def _names(path: Path) -> str:
    names = sorted(p.name for p in path.iterdir())
    return ", ".join(names[:4]) + (" …" if len(names) > 4 else "") if names else "nothing"


def decode_cached(
    folder: Path, listed: dict[str, Listing], image_size: int | None, cache_dir: Path
) -> tuple[dict[str, tuple[Tensor, Tensor]], str]:
    """Decode all images once; later the cache, keyed by the files' names and bytes, is read."""
    files = [file for _, listing, _ in listed.values() for file in listing]
    digest = hashlib.blake2b(f"{image_size}".encode(), digest_size=16)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, content in zip(files, pool.map(_hash_file, files, chunksize=256), strict=True):
            digest.update(f"{Path(file).relative_to(folder)} ".encode() + content)
    key = digest.hexdigest()
    cache = cache_dir / f"{key}.safetensors"
    if cache.exists():
        images = read_tensors(cache)[0]["images"]
    else:
        images = _decode(files, image_size)
        write_tensors(cache, {"images": images}, {"folder": folder.name})
    sizes = [len(listing) for _, listing, _ in listed.values()]
    return {
        part: (own, labels) for (part, (_, _, labels)), own in zip(listed.items(), images.split(sizes), strict=True)
    }, key


def _hash_file(file: str) -> bytes:
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=16).digest()


def _decode(files: list[str], image_size: int | None) -> Tensor:
    from PIL import ImageOps
    from tqdm.auto import tqdm

    size = (image_size,) * 2 if image_size else open_image(files[0]).size
    images = torch.empty(len(files), 3, size[1], size[0], dtype=torch.uint8)

    def decode(i: int) -> None:
        image = open_image(files[i])
        if image_size:
            image = ImageOps.fit(image, size)
        elif image.size != size:
            raise ValueError(
                f"{files[i]} is {image.size[0]}×{image.size[1]} pixels and {files[0]} {size[0]}×{size[1]}; "
                "pass image_size= to bring all to one size"
            )
        images[i] = torch.from_numpy(np.array(image)).permute(2, 0, 1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in tqdm(
            pool.map(decode, range(len(files)), chunksize=64), total=len(files), desc="decoding", leave=False
        ):
            pass
    return images
