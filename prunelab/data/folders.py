"""Image folders: `train/<class>/*` with `test/` or `val/`, or `<class>/*` alone."""

import os
from pathlib import Path

from prunelab.data.listing import Listing, Row, make_listing, shorten, show

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def list_folder(folder: Path) -> Listing:
    """What is in a folder; ValueError says what it lacks.

    It is two levels deep. Links to folders and images are followed, wherever they lead.
    """
    found = {part: folder / part for part in ("train", "val", "test") if (folder / part).is_dir()}
    if not found:
        found = {"train": folder}
    elif "train" not in found or len(found) == 1:
        raise ValueError(
            f"{show(folder)} must hold train/<class>/* with test/ or val/, or <class>/* alone; "
            f"it holds {_list_names(folder)}"
        )
    rows = {part: _list_images(folder, path, part) for part, path in found.items()}
    classes = list(dict.fromkeys(name for _, name, _ in rows["train"]))
    return make_listing(folder, rows, classes)


def _list_images(root: Path, path: Path, part: str) -> list[Row]:
    """The images of each class, a folder in `path`; only train must have some of each."""
    inside = [f for f in path.iterdir() if not f.name.startswith(".")]
    lost = sorted(f for f in inside if f.is_symlink() and not f.exists())
    if lost:
        raise ValueError(f"the link {show(lost[0])} leads nowhere; mend or remove it")
    folders = sorted(f for f in inside if f.is_dir())
    files = {f: _find_images(f) for f in folders}
    empty = [f.name for f in folders if not files[f]]
    if len(empty) == len(folders) or (empty and part == "train"):
        lack = f"has no images in {shorten(empty)}" if empty else f"holds {_list_names(path)}"
        raise ValueError(
            f"{show(path)} must hold a folder of images ({', '.join(SUFFIXES)}) for each class; "
            f"it {lack}"
        )
    return [
        (file, folder.name, str(Path(file).relative_to(root)))
        for folder in folders
        for file in files[folder]
    ]


def _find_images(folder: Path) -> list[str]:
    """The paths of a folder's images, sorted; ValueError names one that is no file."""
    with os.scandir(folder) as entries:
        found = {e.path: e for e in entries if os.path.splitext(e.name)[1].lower() in SUFFIXES}
    for path, entry in found.items():
        if not (entry.is_file(follow_symlinks=False) or os.path.isfile(path)):
            raise ValueError(
                f"{show(path)} has the name of an image, and is neither a file nor a link to one; "
                "rename or remove it"
            )
    return sorted(found)


def _list_names(path: Path) -> str:
    return shorten(sorted(p.name for p in path.iterdir())) or "nothing"
