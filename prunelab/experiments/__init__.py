"""The paper's experiments as data, run and reported.

recipe, recipes/: what is done, in a few lines of YAML · experiment: doing it, resumable (steps:
pruning; trainings: learning; run_folder; rows: what is measured) · results: rows beside the
paper's · log: epochs · timing: Table 3 · notebooks: papermill · sweep/: many replays.
"""

from prunelab.experiments.experiment import Experiment, replay
from prunelab.experiments.log import read_log
from prunelab.experiments.notebooks import NotebookReplay, check_parameters, run_notebook
from prunelab.experiments.recipe import (
    Recipe,
    change_recipe,
    change_setting,
    load_recipe,
    recipe_names,
)
from prunelab.experiments.results import (
    compare_with_paper,
    find_printed,
    gather_rows,
    pair_rows,
    read_paper,
    read_rows,
)
from prunelab.experiments.run_folder import Finished, has_work
from prunelab.experiments.sweep.board import Board, open_board
from prunelab.experiments.sweep.compare import compare_points, find_settings, name_best, name_points
from prunelab.experiments.sweep.definition import Sweep, load_sweep, sweep_names
from prunelab.experiments.sweep.on_dask import count_workers
from prunelab.experiments.sweep.run import run_sweep
from prunelab.experiments.sweep.status import read_sweep
from prunelab.experiments.timing import time_recipes

__all__ = [
    "Board",
    "Experiment",
    "Finished",
    "NotebookReplay",
    "Recipe",
    "Sweep",
    "change_recipe",
    "change_setting",
    "check_parameters",
    "compare_points",
    "compare_with_paper",
    "count_workers",
    "find_printed",
    "find_settings",
    "gather_rows",
    "has_work",
    "load_recipe",
    "load_sweep",
    "name_best",
    "name_points",
    "open_board",
    "pair_rows",
    "read_log",
    "read_paper",
    "read_rows",
    "read_sweep",
    "recipe_names",
    "replay",
    "run_notebook",
    "run_sweep",
    "sweep_names",
    "time_recipes",
]
