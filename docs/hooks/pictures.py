"""The pictures that notebooks hold: taken out for the landing page, each with its words."""

import base64
import hashlib
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

NAME_OF_A_FILE = re.compile(r"\S+\.(png|jpe?g|gif|svg|webp)", re.IGNORECASE)
SPECIAL = re.compile(r"([\\`*_\[\]<>&])")  # to Markdown
MARK = re.compile(r"<!-- picture: (\S+), (.+?) -->")  # a notebook, and words of the picture's name


def read_pictures(notebook: Path) -> dict[int, list[dict[str, Any]]]:
    """The outputs that are pictures, of each cell that has some."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    found = {}
    for number, cell in enumerate(cells):
        outputs = [o for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
        if outputs:
            found[number] = outputs
    return found


def describe(output: dict[str, Any]) -> str:
    """What a picture shows: its alt text, or else the title of its chart; empty without both."""
    alt = output["metadata"].get("image/png", {}).get("alt", "")
    title = re.fullmatch(r"<chart: (.+)>", name(output))
    return alt or (title[1] if title else "")


def name(output: dict[str, Any]) -> str:
    return "".join(output["data"].get("text/plain", ""))


def take_picture(notebook: Path, words: str, folder: Path) -> tuple[Path, str]:
    """Writes the first picture whose name has these words; the file, and what it shows.

    Raises:
        ValueError: the notebook holds no such picture; those that it holds are named.
    """
    outputs = [output for cell in read_pictures(notebook).values() for output in cell]
    for output in outputs:
        if words.lower() in name(output).lower():
            data = base64.b64decode("".join(output["data"]["image/png"]))
            path = folder / f"{hashlib.sha256(data).hexdigest()}.png"  # as MyST-NB names it
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            return path, describe(output)
    there = ", ".join(map(name, outputs)) or "none"
    raise ValueError(f"{notebook.name} holds no picture named {words!r}; it holds: {there}")


def show_pictures(text: str, page: Path, notebooks: Path, folder: Path) -> str:
    """The text of a page with pictures, which lead to their notebooks, in place of its marks."""

    def show(mark: re.Match[str]) -> str:
        notebook = notebooks / f"{mark[1]}.ipynb"
        path, alt = take_picture(notebook, mark[2], folder)
        picture, target = (os.path.relpath(file, page.parent) for file in (path, notebook))
        words = SPECIAL.sub(r"\\\1", alt)
        return f"[![{words}]({picture})]({target})"

    return MARK.sub(show, text)


class Images(HTMLParser):
    """The images of a page of HTML that say nothing to who cannot see them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.silent: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            values = dict(attrs)
            alt = (values.get("alt") or "").strip()
            if not alt or NAME_OF_A_FILE.fullmatch(alt):
                self.silent.append(values.get("src") or "")
