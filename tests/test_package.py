"""What holds the house together: its names, its light front door, rooms that use only those above.

The order of the rooms is held over every import of every file: at the top, inside functions, and
under TYPE_CHECKING.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import prunelab

PACKAGE = Path(prunelab.__file__).parent
ROOT = PACKAGE.parent
# a room uses only those before it; in a room, files import each other without a circle
ROOMS = """utils data graph pruning models training export measure experiments findings
exercises charts lab cli __main__ prunelab""".split()


def find_modules() -> dict[str, Path]:
    """{dotted name: file} of the package."""
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts).removesuffix(".__init__")] = path
    return modules


MODULES = find_modules()


def find_room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def find_imports(source: str) -> Iterator[str]:
    """The modules of prunelab that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "prunelab")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            base = node.module or ""
            if base.split(".")[0] != "prunelab":
                continue
            inner = [f"{base}.{a.name}" for a in node.names]
            yield from (name if name in MODULES else base for name in inner)


IMPORTS = {name: set(find_imports(path.read_text())) for name, path in MODULES.items()}


def test_imports_are_seen_wherever_they_stand():
    source = """
from typing import TYPE_CHECKING
from prunelab.utils import processes
if TYPE_CHECKING:
    import prunelab.lab
def f():
    from prunelab import charts
    from prunelab.graph import trace
"""
    expected = {"prunelab.utils.processes", "prunelab.lab", "prunelab.charts", "prunelab.graph"}
    assert set(find_imports(source)) == expected


def test_every_file_is_in_a_room():
    assert {find_room(name) for name in MODULES} == set(ROOMS)


@pytest.mark.parametrize("name", MODULES)
def test_no_import_runs_up(name):
    room = ROOMS.index(find_room(name))
    for imported in IMPORTS[name]:
        assert ROOMS.index(find_room(imported)) <= room, f"{name} imports {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_other_rooms_are_entered_by_their_contents_page(name):
    for imported in IMPORTS[name]:
        other = find_room(imported)
        if other not in ("utils", find_room(name)):  # utils has a page that lists its modules
            assert imported.count(".") <= 1, f"{name} imports {imported}, not prunelab.{other}"
        # a file of a room never takes from the room's own page, which takes from it
        assert imported != f"prunelab.{find_room(name)}" or name in ("prunelab", imported), name


def test_there_is_no_circle():
    files = {}
    for name, imported in IMPORTS.items():  # whoever imports a module runs the pages above it
        pages = {page for target in imported for page in pages_of(target)}
        files[name] = pages - set(pages_of(name))
    TopologicalSorter(files).prepare()  # CycleError names it


def pages_of(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(2, len(parts) + 1)]


def test_no_room_has_the_name_of_a_public_function():
    assert not {find_room(name) for name in MODULES} & set(prunelab.__all__)


def test_no_folder_has_more_than_twelve_files():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    counts: dict[str, int] = {}
    for file in tracked.stdout.splitlines():
        folder = str(Path(file).parent)
        counts[folder] = counts.get(folder, 0) + 1
    assert {folder: n for folder, n in counts.items() if n > 12} == {}


def test_every_room_has_a_short_contents_page():
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            page = ast.get_docstring(ast.parse(path.read_text()))
            assert page, name
            assert len(page.splitlines()) <= 5, name


def test_every_public_name_is_on_the_api_page():
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    names = prunelab.__all__
    missing = [n for n in names if not re.search(rf":: prunelab\.{n}$", page, re.MULTILINE)]
    assert not missing


def test_every_public_name_is_there():
    design = """load_model load_data trace score_filters make_plan prune measure_cost
    measure_sensitivity choose_ratios train evaluate save_pruned load_pruned load_recipe replay
    PruningPlan DataSplits ChannelGraph Metrics Recipe"""
    assert set(design.split()) <= set(prunelab.__all__)
    for name in prunelab.__all__:
        assert getattr(prunelab, name).__doc__, name


def test_what_notebooks_and_docs_import_is_public():
    """`prunelab`, its charts and its lab are all that a notebook or a page needs."""
    pages = [
        *(ROOT / "notebooks").rglob("*.ipynb"),
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
    ]
    for page in pages:
        text = page.read_text(encoding="utf-8") if page.is_file() else ""
        found = set(re.findall(r"^[ \"]*(?:from|import) (prunelab[\w.]*)", text, re.MULTILINE))
        assert found <= {"prunelab", "prunelab.lab"}, page


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_the_front_door_is_light():
    heavy = "{'altair', 'ipywidgets', 'papermill', 'pandas', 'torchvision'}"
    assert run(f"import sys, prunelab; print({heavy} & set(sys.modules))") == "set()"


def test_a_trace_needs_torch_alone():
    code = """
import sys, torch
from prunelab import load_model, trace
print(len(trace(load_model("resnet20"), torch.zeros(1, 3, 32, 32)).layers))
print({"sympy", "pandas", "torchvision", "altair"} & set(sys.modules))
"""
    assert run(code) == "19\nset()"
