"""CIFAR-10 as JPEG files of quality 75, in FOLDER/{train,test}/<class>/: python images.py FOLDER.

Ours was a public copy made likewise; another encoder's pixels give somewhat other counts.
"""

import sys
from pathlib import Path

from torchvision.datasets import CIFAR10


def main(target: Path) -> None:
    folder = target.with_name(f"{target.name}.part")
    for split in ("train", "test"):
        images = CIFAR10("data", train=split == "train", download=True)
        for name in images.classes:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
        for i, (image, label) in enumerate(images):
            image.save(folder / split / images.classes[label] / f"{i:05d}.jpg", quality=75)
    folder.rename(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
