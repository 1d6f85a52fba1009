"""Image folders, `train/<class>/*` and `test/` or `val/`: listed, and decoded once into a cache."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prunelab.data.images import open_image
from prunelab.utils.tensors import read_tensors, write_tensors

LARGEST_RESIDENT = 64  # pixels a side; larger images are read from disk for each batch
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
Listing = tuple[tuple[str, ...], list[str], Tensor]  # classes, files, labels


def list_folder(folder: Path) -> dict[str, Listing]:
    """What is in a folder: {"train", "test" and perhaps "val": (classes, files, labels)}.

    ValueError says what it lacks.
    """
    found = {part: folder / part for part in ("train", "val", "test") if (folder / part).is_dir()}
    if "train" not in found or len(found) == 1:
        raise ValueError(
            f"{folder} must hold train/<class>/* and test/<class>/* (or val/); "
            f"it holds {_list_names(folder)}"
        )
    if "test" not in found:
        found["test"] = found.pop("val")
    listed = {part: _list_images(path) for part, path in found.items()}
    classes = listed["train"][0]
    for part, (names, _, _) in listed.items():
        if names != classes:
            odd = sorted(set(names) ^ set(classes))
            raise ValueError(
                f"{found[part]} and {found['train']} hold different classes: {', '.join(odd[:5])}"
            )
    return listed


def stays_resident(folder: Path, first: str, image_size: int | None) -> bool:
    """Whether a folder's images, judged by the first, are small enough to live on the device."""
    width, height = open_image(first).size
    if image_size is None and max(width, height) <= LARGEST_RESIDENT and width != height:
        raise ValueError(
            f"the images of {folder} are {width}×{height} pixels, not square; pass image_size="
        )
    return (image_size or max(width, height)) <= LARGEST_RESIDENT


def _list_images(path: Path) -> Listing:
    folders = [f for f in path.iterdir() if f.is_dir() and not f.name.startswith(".")]
    files = {
        folder.name: sorted(str(f) for f in folder.iterdir() if f.suffix.lower() in SUFFIXES)
        for folder in sorted(folders)
    }
    classes = list(files)
    empty = [name for name in classes if not files[name]]
    if not classes or empty:
        lack = f"has no images in {', '.join(empty[:5])}" if empty else f"holds {_list_names(path)}"
        raise ValueError(
            f"{path} must hold a folder of images ({', '.join(SUFFIXES)}) for each class; it {lack}"
        )
    if len(classes) < 2:
        raise ValueError(
            f"{path} holds one class only ({classes[0]}); a classifier needs two or more"
        )
    labels = torch.cat([torch.full((len(files[name]),), i) for i, name in enumerate(classes)])
    return tuple(classes), [file for name in classes for file in files[name]], labels


def _list_names(path: Path) -> str:
    names = sorted(p.name for p in path.iterdir())
    more = " …" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more if names else "nothing"


def decode_cached(
    folder: Path, listed: dict[str, Listing], image_size: int | None, cache_dir: Path
) -> tuple[dict[str, tuple[Tensor, Tensor]], str]:
    """Decode all images once; later the cache, keyed by the files' names and bytes, is read."""
    files = [file for _, listing, _ in listed.values() for file in listing]
    digest = hashlib.blake2b(f"{image_size}".encode(), digest_size=16)
    for file in map(Path, files):
        digest.update(f"{file.relative_to(folder)} ".encode())
        digest.update(hashlib.blake2b(file.read_bytes()).digest())
    key = digest.hexdigest()
    cache = cache_dir / f"{key}.safetensors"
    if not cache.exists():
        write_tensors(cache, {"images": _decode(files, image_size)}, {"folder": folder.name})
    images = read_tensors(cache)[0]["images"]
    parts, start = {}, 0
    for part, (_, _, labels) in listed.items():
        parts[part] = images[start : start + len(labels)], labels
        start += len(labels)
    return parts, key


def _decode(files: list[str], image_size: int | None) -> Tensor:
    from PIL import ImageOps
    from tqdm import tqdm

    size = (image_size, image_size) if image_size else open_image(files[0]).size
    images = torch.empty(len(files), 3, size[1], size[0], dtype=torch.uint8)

    def decode(block: range) -> int:
        for i in block:
            image = open_image(files[i])
            if image_size:
                image = ImageOps.fit(image, size)
            elif image.size != size:
                ours, first = (f"{width}×{height}" for width, height in (image.size, size))
                raise ValueError(
                    f"{files[i]} is {ours} pixels and {files[0]} {first}; "
                    "pass image_size= to bring all to one size"
                )
            images[i] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return len(block)

    blocks = [range(start, min(start + 500, len(files))) for start in range(0, len(files), 500)]
    bar = tqdm(total=len(files), desc="decoding", disable=None)
    with ThreadPoolExecutor(os.cpu_count()) as pool, bar:
        for count in pool.map(decode, blocks):
            bar.update(count)
    return images
