"""prunelab: study and prune the filters of convolutional networks (Li et al., ICLR 2017).

trace → score → plan → prune → retrain → report. `from prunelab import charts, lab` for pictures and knobs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunelab.budget import choose_ratios, compare_ratios, uniform_ratios
    from prunelab.checkpoint import load_pruned, save_pruned
    from prunelab.cost import measure_cost, total_cost
    from prunelab.criteria import score_filters
    from prunelab.data import DataSplits, load_data
    from prunelab.experiment import replay
    from prunelab.graph import ChannelGraph, trace
    from prunelab.latency import measure_latency, time_recipes
    from prunelab.models import load_model
    from prunelab.oracle import silence
    from prunelab.plan import PruningPlan, compare_plans, make_plan, rank_filters
    from prunelab.recipe import Recipe, load_recipe
    from prunelab.sensitivity import measure_retrained, measure_sensitivity
    from prunelab.surgery import prune, prune_optimizer
    from prunelab.training import Metrics, TrainSettings, check_optimizer, evaluate, make_optimizer, train

__version__ = "0.1.0"

# each name's module, imported when the name is first used: `import prunelab` costs nothing
_MODULES = {
    "models": ["load_model"],
    "data": ["DataSplits", "load_data"],
    "graph": ["ChannelGraph", "trace"],
    "criteria": ["score_filters"],
    "plan": ["PruningPlan", "compare_plans", "make_plan", "rank_filters"],
    "surgery": ["prune", "prune_optimizer"],
    "oracle": ["silence"],
    "cost": ["measure_cost", "total_cost"],
    "latency": ["measure_latency", "time_recipes"],
    "sensitivity": ["measure_retrained", "measure_sensitivity"],
    "budget": ["choose_ratios", "compare_ratios", "uniform_ratios"],
    "training": ["Metrics", "TrainSettings", "check_optimizer", "evaluate", "make_optimizer", "train"],
    "checkpoint": ["load_pruned", "save_pruned"],
    "recipe": ["Recipe", "load_recipe"],
    "experiment": ["replay"],
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'prunelab' has no attribute {name!r}")
    return getattr(import_module(f"prunelab.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
