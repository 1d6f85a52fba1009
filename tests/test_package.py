"""What holds the package together: its names, its light front door, imports that run one way."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import prunelab

PACKAGE = Path(prunelab.__file__).parent
ORDER = [
    "processes",
    "checkpoint",
    "progress",
    "batches",
    "folder",
    "data",
    "models",
    "resuming",
    "training",
    "channels",
    "operators",
    "rearranging",
    "numbering",
    "symbolic",
    "tracing",
    "graph",
    "criteria",
    "plan",
    "surgery",
    "schedule",
    "oracle",
    "cost",
    "recipe",
    "latency",
    "winograd",
    "forks",
    "store",
    "sensitivity",
    "budget",
    "results",
    "experiment",
    "notebooks",
    "charts",
    "lab.state",
    "lab.jobs",
    "lab.export",
    "lab.views",
    "lab.knobs",
    "lab.actions",
    "lab",
    "cli",
    "__main__",
]  # a module imports only modules before it, at its top; charts and lab are leaves


def test_every_public_name_is_on_the_api_page():
    page = (PACKAGE.parent / "docs" / "api.md").read_text(encoding="utf-8")
    missing = [name for name in prunelab.__all__ if not re.search(rf":: prunelab\.{name}$", page, re.MULTILINE)]
    assert not missing


def test_every_public_name_is_there():
    design = """load_model load_data trace score_filters make_plan prune measure_cost measure_sensitivity train evaluate
    save_pruned load_pruned load_recipe replay PruningPlan DataSplits ChannelGraph Metrics Recipe"""
    assert set(design.split()) <= set(prunelab.__all__)
    for name in prunelab.__all__:
        assert getattr(prunelab, name).__doc__, name


def test_imports_run_one_way():
    paths = {str(path.relative_to(PACKAGE).with_suffix("")).replace("/", "."): path for path in PACKAGE.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in paths.items() if name != "__init__"}
    assert modules.keys() == set(ORDER)
    for name, path in modules.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "prunelab":
                whole = node.module.removeprefix("prunelab").strip(".")
                for imported in [whole] if whole else [a.name for a in node.names]:
                    assert ORDER.index(imported) < ORDER.index(name), f"{name} imports {imported}"
                    leaf = imported.split(".")[0] in ("charts", "lab")
                    assert not leaf or name.split(".")[0] == "lab", f"{name} imports {imported}"


def test_the_front_door_is_light():
    code = "import sys, prunelab; heavy = {'altair', 'ipywidgets', 'papermill', 'pandas.plotting', 'torchvision'}; print(heavy & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
