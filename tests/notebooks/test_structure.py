"""The rules that every notebook keeps (they are run and compared by nbval)."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").rglob("*.ipynb"))


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
        for node in ast.parse(cell.source).body:
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef)
        assert cell.execution_count, "without outputs nbval compares nothing: make notebooks"
        assert not any(output.output_type == "error" for output in cell.outputs)


def missing_links(notebook, folder: Path) -> list[str]:
    text = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    return [target for target in targets if not (folder / target).exists()]


def test_exercises_have_answers_that_are_run():
    for path in (path for path in NOTEBOOKS if path.stem[:2].isdigit()):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells)
        assert "## Exercises" in text or "## What to try" in text, path.stem
        hidden = [cell for cell in cells if cell.metadata.get("jupyter", {}).get("source_hidden")]
        assert hidden, path.stem
        assert all(cell.outputs for cell in hidden), path.stem


def test_some_numbers_are_compared():
    for path in (path for path in NOTEBOOKS if path.stem not in ("lab", "sweep")):  # widgets alone
        tags = []
        for cell in nbformat.read(path, as_version=4).cells:
            tags += cell.metadata.get("tags", [])
        assert "nbval-check-output" in tags, path.stem
