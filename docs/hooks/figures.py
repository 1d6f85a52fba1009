"""The index of the paper's figures: its rows, and which networks each was measured on."""

import csv
import json
import re
from pathlib import Path
from typing import NamedTuple

MEASURED = re.compile(r"`([\w/]+\.csv)` \|$")
CLOSING = (
    "What we saw",
    "Exercises",
    "Try it",
    "Where we differ, and why",
)  # sections that draw nothing
WIDTHS = {"0_25": "¼", "0_5": "½"}
NETWORK = re.compile(r"(VGG|ResNet)-\d+")


class Row(NamedTuple):
    """A figure or a table of the paper."""

    figure: str  # Fig. 2(a)
    networks: list[str]  # that the paper shows it on
    shows: str
    notebook: str  # its path, from the page
    command: str


def read_rows(text: str) -> list[Row]:
    """The rows of the index's table, in its order."""
    rows = []
    for line in text.splitlines():
        if found := re.match(r"\| ((?:Fig\.|Table) \d+(?:\(\w\))?)(.*?) \|", line):
            _, shows, link, command, _ = (cell.strip() for cell in line.strip("|").split(" | "))
            networks = [network[0] for network in NETWORK.finditer(found[2])]
            path = link.rpartition("(")[2].rstrip(")")
            rows.append(Row(found[1], networks, shows, path, command.strip("`")))
    return rows


def find_section(notebook: Path, figure: str) -> str:
    """The heading of the section that names the figure; empty where none does that draws."""
    heading, titles = "", 0
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for line in "".join(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and re.match("#+ ", line):
                heading, titles = line.lstrip("# "), titles + 1
            if figure in line and titles > 1 and heading not in CLOSING:
                return heading
    return ""


def say_measured(path: Path, networks: list[str]) -> str:
    """The networks that a file has rows of, on photographs, and those of the paper it lacks."""
    found: dict[str, list[str]] = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                data = row["data"] if "data" in row else row["dataset"]
                models = found.setdefault(data, [])
                if row["model"] not in models:
                    models.append(row["model"])
    found.pop("digits", None)  # scans, no photographs
    titles = {data: [title(model) for model in models] for data, models in found.items()}
    said = [f"{', '.join(models)} on {data}" for data, models in titles.items()]
    there = {model for models in titles.values() for model in models}
    if missing := [network for network in networks if network not in there]:
        said.append(f"{', '.join(missing)}: not measured yet")
    return "; ".join(said) or "not measured yet"


def title(model: str) -> str:
    """A network's name as people write it: ResNet-56 for resnet56, VGG-16 ×¼ for vgg16_x0_25."""
    name, _, width = model.replace("resnet", "ResNet-").replace("vgg", "VGG-").partition("_x")
    return f"{name} ×{WIDTHS.get(width, width.replace('_', '.'))}" if width else name


def fill_rows(text: str, page: Path, results: Path) -> str:
    """The index with the sections of its notebooks, and what there is in place of files' names."""
    rows = {row.figure: row for row in read_rows(text)}
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if row := rows.get(line.strip("| ").split(":")[0].split(" |")[0]):
            section = find_section(page.parent / row.notebook, row.figure)
            if section:
                anchor = re.sub(r"[^\w\- ]", "", section.lower()).replace(" ", "-")
                line = line.replace(f"]({row.notebook})", f": {section}]({row.notebook}#{anchor})")
            said = MEASURED.search(line)
            if said:
                line = MEASURED.sub(f"{say_measured(results / said[1], row.networks)} |", line)
            lines[number] = line
    return "\n".join(lines) + "\n"


def list_rows(text: str) -> str:
    """The index in short, for the landing page: a line for each figure, linked to its notebook."""
    return "\n".join(f"- [{row.figure}]({row.notebook}) {row.shows}" for row in read_rows(text))
