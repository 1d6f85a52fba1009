"""Image folders: `train/<class>/*` with `test/` or `val/`, or `<class>/*` alone."""

from pathlib import Path

from prunelab.data.listing import Listing, Row, make_listing

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def list_folder(folder: Path) -> Listing:
    """What is in a folder; ValueError says what it lacks."""
    found = {part: folder / part for part in ("train", "val", "test") if (folder / part).is_dir()}
    if not found:
        found = {"train": folder}
    elif "train" not in found or len(found) == 1:
        raise ValueError(
            f"{folder} must hold train/<class>/* with test/ or val/, or <class>/* alone; "
            f"it holds {_list_names(folder)}"
        )
    rows = {part: _list_images(folder, path, part) for part, path in found.items()}
    classes = list(dict.fromkeys(name for _, name, _ in rows["train"]))
    return make_listing(folder, rows, classes)


def _list_images(root: Path, path: Path, part: str) -> list[Row]:
    """The images of each class, a folder in `path`; only train must have some of each."""
    folders = sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
    files = {
        f: sorted(str(i) for i in f.iterdir() if i.suffix.lower() in SUFFIXES) for f in folders
    }
    empty = [f.name for f in folders if not files[f]]
    if len(empty) == len(folders) or (empty and part == "train"):
        lack = f"has no images in {', '.join(empty[:5])}" if empty else f"holds {_list_names(path)}"
        raise ValueError(
            f"{path} must hold a folder of images ({', '.join(SUFFIXES)}) for each class; it {lack}"
        )
    return [
        (file, folder.name, str(Path(file).relative_to(root)))
        for folder in folders
        for file in files[folder]
    ]


def _list_names(path: Path) -> str:
    names = sorted(p.name for p in path.iterdir())
    more = " …" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more if names else "nothing"
