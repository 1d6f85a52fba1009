"""The pages in Markdown: their Python runs as it stands, what they point to is there."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml

import prunelab

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "hooks"))
import figures  # noqa: E402
import pictures  # noqa: E402

README, CONTRIBUTING, CHANGELOG = (
    ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")
)
PAGES = [README, CONTRIBUTING, CHANGELOG, *sorted((ROOT / "docs").rglob("*.md"))]
# not run: its block trains for minutes and writes the checkpoint that we ship; its links are read
RECORD = ROOT / "data" / "README.md"
INDEX = ROOT / "docs" / "figures.md"
ROWS = figures.read_rows(INDEX.read_text(encoding="utf-8"))
PAPER = (
    "Fig. 1|Fig. 2(a)|Fig. 2(b)|Fig. 2(c)|Fig. 3|Fig. 4|Fig. 5|Fig. 6|Fig. 7|Fig. 8|Fig. 9|Fig. 10"
)
PAPER += "|Table 1|Table 2|Table 3"
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
            if page.stem != "sweeps":  # a recipe
                prunelab.load_recipe(block.text.split()[1])
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


def test_every_figure_and_table_of_the_paper_has_a_row():
    assert "|".join(row.figure for row in ROWS) == PAPER


def read_cells(notebook: Path) -> list[dict]:
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def read_parameters(notebook: Path) -> set[str]:
    """The names that papermill can set."""
    cells = [c for c in read_cells(notebook) if "parameters" in c["metadata"].get("tags", [])]
    (cell,) = cells
    return set(re.findall(r"^(\w+):", "".join(cell["source"]), re.MULTILINE))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.figure)
def test_the_command_of_a_figure_can_be_typed(row):
    """Its recipes are there, and its notebook, which is the one beside it and has the parameters.

    The notebook names the figure.
    """
    for command in row.command.split(" && "):
        program, first, *rest = shlex.split(command)
        if program == "prunelab":
            assert first == "replay"
            assert rest == [name for name in rest if name in prunelab.recipe_names()]
            continue
        assert program == "papermill"
        notebook, (out, *options) = ROOT / first, rest
        assert notebook == (INDEX.parent / row.notebook).resolve()
        assert out == "out.ipynb"
        given = set()
        while options:
            option, name, *options = options
            given |= {name} if option == "-p" else set(yaml.safe_load(name))
            options = options[1:] if option == "-p" else options
            assert option in ("-p", "-y")
        assert given <= read_parameters(notebook)
        assert any(row.figure in "".join(cell["source"]) for cell in read_cells(notebook))


def test_the_index_says_what_was_measured(tmp_path):
    path = tmp_path / "norms.csv"
    assert figures.say_measured(path, []) == "not measured yet"
    path.write_text("model,data\nresnet20,digits\n")
    assert figures.say_measured(path, ["VGG-16"]) == "VGG-16: not measured yet"
    path.write_text("model,data\nresnet56,CIFAR-10\nvgg16,CIFAR-10\nvgg16,CIFAR-10\n")
    said = "ResNet-56, VGG-16 on CIFAR-10"
    assert figures.say_measured(path, ["VGG-16"]) == said
    assert figures.say_measured(path, ["ResNet-110"]) == f"{said}; ResNet-110: not measured yet"
    row = "| Fig. 5: VGG-16 | Filters. | [01](n.ipynb) | `papermill` | `norms.csv` |\n"
    (tmp_path / "n.ipynb").write_text(
        json.dumps(
            {
                "cells": [
                    {"cell_type": "markdown", "source": ["# Norms\n", "as in Fig. 5"]},
                    {"cell_type": "markdown", "source": "## The first layer\n\nFig. 5 has them."},
                ]
            }
        )
    )
    filled = figures.fill_rows(row, tmp_path / "page.md", tmp_path)
    link = "[01: The first layer](n.ipynb#the-first-layer)"
    assert filled == row.replace("[01](n.ipynb)", link).replace("`norms.csv`", said)


def test_the_landing_page_finds_its_pictures(tmp_path):
    page = ROOT / "docs" / "index.md"
    text = page.read_text(encoding="utf-8")
    shown = pictures.show_pictures(text, page, ROOT / "notebooks", tmp_path)
    assert len(list(tmp_path.iterdir())) == len(pictures.MARK.findall(text)) > 3
    assert not pictures.MARK.search(shown)
    assert "![]" not in shown
    with pytest.raises(ValueError, match="holds no picture named 'nothing'; it holds"):
        pictures.take_picture(ROOT / "notebooks" / "01_filter_norms.ipynb", "nothing", tmp_path)


def test_a_picture_has_words():
    chart = {"data": {"text/plain": ["<chart: Norms>"]}, "metadata": {}}
    assert pictures.describe(chart) == "Norms"
    chart["metadata"] = {"image/png": {"alt": "Lines that fall"}}
    assert pictures.describe(chart) == "Lines that fall"
    image = {"data": {"text/plain": "<IPython.core.display.Image object>"}, "metadata": {}}
    assert pictures.describe(image) == ""


@pytest.mark.parametrize("alt", ["", 'alt=""', 'alt=" "', 'alt="lab.png"', 'alt="../a/b.svg"'])
def test_an_image_without_words_is_found(alt):
    html = f'<p><img src="x.png" {alt} /><img src="y.png" alt="The lab, as in lab.png"></p>'
    assert pictures.Images(html).silent == ["x.png"]


@pytest.mark.parametrize("script", ["replays", "figures"])
def test_the_commands_of_stored_results_can_be_typed(script, tmp_path):
    """With a stub for each program: the recipes, notebooks, parameters and weights are there."""
    for program in ("prunelab", "papermill", "python"):
        path = tmp_path / program
        path.write_text(f'#!/bin/sh\necho {program}; printf "%s\\n" "$@"; echo END\n')
        path.chmod(0o755)
    (tmp_path / "images" / "test").mkdir(parents=True)
    seen = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CIFAR10_JPEG": str(tmp_path / "images")}
    command = ["bash", ROOT / "data" / "results" / f"{script}.sh"]
    done = subprocess.run(command, env=seen, capture_output=True, text=True, check=True)
    for typed in done.stdout.split("\nEND\n")[:-1]:
        program, *words = typed.split("\n")
        weights = [word for word in words if word.startswith("data/checkpoints/")]
        assert all((ROOT / word).exists() for word in weights)
        if program == "papermill":
            names = {word for flag, word in itertools.pairwise(words) if flag == "-p"}
            given = [
                yaml.safe_load(word) for flag, word in itertools.pairwise(words) if flag == "-y"
            ]
            assert names.union(*given) <= read_parameters(ROOT / words[0])
        elif program == "prunelab" and words[0] == "replay":
            changes = [word for flag, word in itertools.pairwise(words) if flag == "--set"]
            assert prunelab.load_recipe(words[1], changes).data.label or words[1] == "digits-quick"
    assert "replay" in done.stdout or "papermill" in done.stdout
