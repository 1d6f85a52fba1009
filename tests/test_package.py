"""What holds the package together: its names, its light front door, imports that run one way."""

import ast
import subprocess
import sys
from pathlib import Path

import prunelab

PACKAGE = Path(prunelab.__file__).parent
ORDER = [
    "checkpoint",
    "progress",
    "batches",
    "folder",
    "data",
    "models",
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
    "lab",
    "cli",
]  # a module imports only modules before it, at its top; charts and lab are leaves


def test_every_public_name_is_there():
    design = """load_model load_data trace score_filters make_plan prune measure_cost measure_sensitivity train evaluate
    save_pruned load_pruned load_recipe replay PruningPlan DataSplits ChannelGraph Metrics Recipe"""
    assert set(design.split()) <= set(prunelab.__all__)
    for name in prunelab.__all__:
        assert getattr(prunelab, name).__doc__, name


def test_imports_run_one_way():
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert modules == set(ORDER)
    for name in modules:
        for node in ast.parse((PACKAGE / f"{name}.py").read_text()).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prunelab"):
                for imported in [node.module.split(".")[-1]] if "." in node.module else [a.name for a in node.names]:
                    assert ORDER.index(imported) < ORDER.index(name), f"{name} imports {imported}"
                    assert imported not in ("charts", "lab") or name == "lab", f"{name} imports {imported}"


def test_the_front_door_is_light():
    code = "import sys, prunelab; heavy = {'altair', 'ipywidgets', 'papermill', 'pandas.plotting', 'torchvision'}; print(heavy & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
