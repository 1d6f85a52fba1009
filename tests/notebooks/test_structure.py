"""The rules that every notebook keeps (they are run and compared by nbval)."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.rglob("*.ipynb"))
LESSONS = sorted(FOLDER.glob("[0-9]*.ipynb"))


def read(path: Path):
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_structure(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert "widgets" not in notebook.metadata
    assert path.stat().st_size < 150_000
    assert not missing_links(notebook, path.parent)
    assert notebook.cells[0].source.startswith("# ")
    assert "?**" in notebook.cells[0].source  # the question
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    parameters = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(parameters) == 1
    for line in parameters[0].source.splitlines():
        assert ": " in line.split("=")[0], line
        assert "  # " in line, line
    for cell in code:
        assert len(cell.source.splitlines()) <= 15
        if "exercise" not in cell.metadata.get("tags", []):
            for node in ast.parse(cell.source).body:
                assert not isinstance(node, ast.FunctionDef | ast.ClassDef)
        assert cell.execution_count, "without outputs nbval compares nothing: make notebooks"
        assert not any(output.output_type == "error" for output in cell.outputs)


def missing_links(notebook, folder: Path) -> list[str]:
    text = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    return [target for target in targets if not (folder / target).exists()]


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_imports_and_parameters_are_folded(path):
    imports, parameters = [c for c in read(path).cells if c.cell_type == "code"][:2]
    assert "import" in imports.source.splitlines()[0]
    for cell in (imports, parameters):
        assert cell.metadata["jupyter"]["source_hidden"]
        assert "hide-input" in cell.metadata["tags"]  # for the site


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_exercises_are_empty_and_their_solutions_right(path):
    asked = find_verdicts(read(path))
    solved = find_verdicts(read(path.parent / "solutions" / path.name))
    assert asked
    assert list(asked) == list(solved)  # the same checks, in the same order
    assert all(text.startswith("Nothing is filled in yet. ") for text in asked.values())
    assert all(text.startswith("Right. ") for text in solved.values())


def find_verdicts(notebook) -> dict[str, str]:
    """{check: what it said}, of which nbval compares each."""
    verdicts = {}
    for cell in notebook.cells:
        if found := re.findall(r"exercises\.(check_\w+)", cell.source if is_code(cell) else ""):
            assert {"exercise", "nbval-check-output"} <= set(cell.metadata["tags"])
            (output,) = cell.outputs
            verdicts[found[0]] = output.data["text/plain"]
    return verdicts


# what was measured is said by cells, which compute it: a text would be stale when a parameter,
# the device or torch changes. What the paper found stays as it is, and says where
MEASURED = re.compile(r"\d[\d.,]* ?(%|ms\b|(test |validation |training )?images?\b)")
PAPER = re.compile(r"§|Fig\.|Table|paper|et al\.")


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_no_text_states_what_was_measured(path):
    cells = read(path).cells
    for cell, behind in pairwise(cells):
        if is_code(cell) or "exercise" in behind.metadata.get("tags", []):
            continue  # what an exercise asks for may name a number
        for line in cell.source.splitlines():
            for sentence in re.split(r"(?<=[.:;?!]) ", line):
                stated = MEASURED.search(sentence)
                assert not stated or PAPER.search(line), sentence


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_texts_name_layers_as_the_paper_does(path):
    for cell in read(path).cells:
        if not is_code(cell):
            assert not re.search(r"layer\d\.\d\.\w+\b(?!\.)", cell.source), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_pictures_have_an_alternative_text(path):
    for cell in filter(is_code, read(path).cells):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                alt = output.metadata["image/png"]["alt"]
                assert len(alt.split()) > 3, alt


def is_code(cell) -> bool:
    return cell.cell_type == "code"


def test_some_numbers_are_compared():
    for path in (path for path in NOTEBOOKS if path.stem not in ("lab", "sweep")):  # widgets alone
        tags = []
        for cell in nbformat.read(path, as_version=4).cells:
            tags += cell.metadata.get("tags", [])
        assert "nbval-check-output" in tags, path.stem
