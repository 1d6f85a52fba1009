"""The pages in Markdown: their Python runs as it stands, what they point to is there."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import prunelab

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING, CHANGELOG = (
    ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")
)
PAGES = [README, CONTRIBUTING, CHANGELOG, *sorted((ROOT / "docs").glob("*.md"))]
# not run: its block trains for minutes and writes the checkpoint that we ship; its links are read
RECORD = ROOT / "data" / "README.md"
FENCE = re.compile(r"^```([\w{}-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    line: int  # of the page, where it begins


def read_blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start(2)))
        for found in FENCE.finditer(text)
    ]


def has_python(page: Path) -> bool:
    return any(block.language == "python" for block in read_blocks(page))


def read_links(page: Path) -> list[str]:
    """What a page points to, but for addresses."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [target for target in targets if "://" not in target]


def read_anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if has_python(page)], ids=lambda page: page.stem
)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """In order, in one namespace and an empty folder.

    A YAML block is saved under the name that its first line says, as its reader does.
    """
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {"__name__": "page"}
    for block in read_blocks(page):
        if block.language == "yaml":
            Path(block.text.split()[1]).write_text(block.text, encoding="utf-8")
        elif block.language == "python":  # errors show the page's lines
            exec(compile("\n" * block.line + block.text, str(page), "exec"), names)


def test_the_readme_is_short_and_needs_prunelab_alone():
    assert len(README.read_text(encoding="utf-8").split()) <= 900
    code = next(block.text for block in read_blocks(README) if block.language == "python")
    assert set(re.findall(r"^(?:from|import) (\S+)", code, re.MULTILINE)) == {"torch", "prunelab"}


@pytest.mark.parametrize("page", [*PAGES, RECORD], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in read_links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in read_anchors(target), link


def test_files_that_contributing_names_are_there():
    named = re.findall(r"`((?:prunelab|tests|docs|data|notebooks)/\S*?)`", CONTRIBUTING.read_text())
    assert named
    missing = [path for path in named if not any(ROOT.glob(path.rstrip("/")))]
    assert not missing


def test_names_that_moved_are_where_the_changelog_says():
    rows = re.findall(r"^\| `prunelab\.\S+` \| `prunelab\.(\w+)`", CHANGELOG.read_text(), re.M)
    assert len(rows) > 10
    assert set(rows) <= set(prunelab.__all__)
