"""The paper's experiments as data, run and reported.

recipe, recipes/: what is done, in a few lines of YAML · experiment: doing it, resumable (steps:
pruning; trainings: learning; run_folder; rows: what is measured) · results: rows beside the
paper's · log: epochs · timing: Table 3 · notebooks: papermill.
"""

from prunelab.experiments.experiment import Experiment, replay
from prunelab.experiments.log import read_log
from prunelab.experiments.notebooks import check_parameters, run_notebook
from prunelab.experiments.recipe import (
    Recipe,
    change_recipe,
    change_setting,
    load_recipe,
    recipe_names,
)
from prunelab.experiments.results import (
    compare_with_paper,
    gather_rows,
    read_paper,
    read_rows,
)
from prunelab.experiments.run_folder import Finished, has_work
from prunelab.experiments.timing import time_recipes

__all__ = [
    "Experiment",
    "Finished",
    "Recipe",
    "change_recipe",
    "change_setting",
    "check_parameters",
    "compare_with_paper",
    "gather_rows",
    "has_work",
    "load_recipe",
    "read_log",
    "read_paper",
    "read_rows",
    "recipe_names",
    "replay",
    "run_notebook",
    "time_recipes",
]
