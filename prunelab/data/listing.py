"""Which files are in a data set, and which of them are held out, before one is opened."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

TEST_FRACTION = 0.2  # of a class, where a data set has no test images of its own
SHOWN = 300  # characters of a name in a sentence
Row = tuple[str, str, str]  # a file, its class, and what fingerprints call it


class Part(NamedTuple):
    """The files of a split, n of them: their labels (n,), and what fingerprints call them."""

    files: list[str]
    labels: Tensor
    names: list[str]

    def take(self, indices: Tensor) -> "Part":
        """Some of the files, by their places."""
        places = indices.tolist()
        files, names = ([texts[i] for i in places] for texts in (self.files, self.names))
        return Part(files, self.labels[indices], names)


class Listing(NamedTuple):
    """The classes of a data set and its parts: train, test and perhaps val."""

    classes: tuple[str, ...]
    parts: dict[str, Part]


def make_listing(
    source: Path, rows: Mapping[str, Sequence[Row]], classes: Sequence[str]
) -> Listing:
    """The listing of rows for train and perhaps val and test, whose classes train has.

    A lone val is the test split; where there is neither, a fifth of each class is, always the same.
    ValueError says what is wrong with `source`.
    """
    if len(classes) < 2:
        raise ValueError(
            f"{show(source)} holds one class only ({shorten(classes)}); a classifier needs two or "
            "more"
        )
    parts = {part: _make_part(source, part, own, classes) for part, own in rows.items()}
    if "val" in parts and "test" not in parts:
        parts["test"] = parts.pop("val")
    if "test" not in parts:
        train = parts["train"]
        counts = train.labels.bincount(minlength=len(classes)).tolist()
        few = [name for name, count in zip(classes, counts, strict=True) if count < 3]
        if few:
            raise ValueError(
                f"{show(source)} names no test images, so a fifth of each class is held out; that "
                f"takes 3 images of a class or more, and there are fewer of {shorten(few)}"
            )
        kept, held = hold_out(train.labels, TEST_FRACTION, 0, classes)
        parts = {"train": train.take(kept), "test": train.take(held)}
    return Listing(tuple(classes), parts)


def _make_part(source: Path, part: str, rows: Sequence[Row], classes: Sequence[str]) -> Part:
    numbers = {name: i for i, name in enumerate(classes)}
    odd = sorted({name for _, name, _ in rows} - numbers.keys())
    if odd:
        raise ValueError(
            f"{show(source)} has classes in {part} that train lacks: {shorten(odd)}; "
            "move some of their images to train, or remove them"
        )
    files = [file for file, _, _ in rows]
    for file in files:
        try:
            file.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"the name of {show(file)} is not UTF-8; rename it") from error
    return Part(files, torch.tensor([numbers[row[1]] for row in rows]), [row[2] for row in rows])


def shorten(names: Sequence[str]) -> str:
    """The first names of many, for a sentence."""
    return ", ".join(map(show, names[:5])) + (" …" if len(names) > 5 else "")


def show(name: object) -> str:
    """A name for a sentence: on one line, not too long, and in characters that can be printed."""
    text = str(name)
    if len(text) > SHOWN:
        text = f"{text[: SHOWN // 2]}…{text[-SHOWN // 2 :]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def show_cause(error: BaseException) -> str:
    """The first line of what another library says."""
    return show(str(error).partition("\n")[0] or type(error).__name__)


def hold_out(
    labels: Tensor, fraction: float, seed: int, classes: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Indices for training and held out: the same share of each class, at least one image."""
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        own = (labels == label).nonzero().squeeze(1)
        if len(own) < 2:
            raise ValueError(
                f"class {show(classes[int(label)])} has a single training image; two are needed to "
                "hold one out"
            )
        count = min(max(round(fraction * len(own)), 1), len(own) - 1)
        held[own[torch.randperm(len(own), generator=generator)[:count]]] = True
    return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)
