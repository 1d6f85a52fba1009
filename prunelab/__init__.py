"""prunelab: study and prune the filters of convolutional networks (Li et al., ICLR 2017).

trace → score → plan → prune → retrain → report. By name come
`from prunelab import charts, findings, exercises, lab`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunelab.data import DataSplits, data_from, load_data
    from prunelab.experiments import (
        Experiment,
        Recipe,
        Sweep,
        check_parameters,
        compare_points,
        compare_with_paper,
        find_settings,
        load_recipe,
        load_sweep,
        read_log,
        read_paper,
        read_rows,
        read_sweep,
        recipe_names,
        replay,
        run_sweep,
        sweep_names,
        time_recipes,
    )
    from prunelab.export import Exported, export_network
    from prunelab.graph import ChannelGraph, Group, rule, trace
    from prunelab.measure import (
        best_within,
        choose_ratios,
        compare_ratios,
        feature_maps,
        find_front,
        find_unmeasured,
        level_ratios,
        measure_latency,
        measure_retrained,
        measure_sensitivity,
        predict_accuracy,
        uniform_ratios,
    )
    from prunelab.models import (
        initialise,
        load_model,
        load_model_and_data,
        load_pruned,
        model_names,
        save_pruned,
        save_weights,
    )
    from prunelab.pruning import (
        PruningPlan,
        check_optimizer,
        compare_plans,
        compare_with_silenced,
        make_plan,
        mask,
        measure_cost,
        prune,
        prune_optimizer,
        rank_filters,
        score_filters,
        score_statistics,
        silence,
        total_cost,
    )
    from prunelab.training import (
        Metrics,
        TrainSettings,
        compare_networks,
        count_classes,
        count_confusions,
        evaluate,
        find_flips,
        make_optimizer,
        predict,
        train,
    )
    from prunelab.utils.paths import find_weights, runs_dir
    from prunelab.utils.seals import read_table, write_table
    from prunelab.utils.tensors import hash_tensors

__version__ = "0.8.0"

# each name's home, imported when the name is first used: `import prunelab` costs nothing
_NAMES = {
    "data": "DataSplits data_from load_data",
    "graph": "ChannelGraph Group rule trace",
    "pruning": """PruningPlan check_optimizer compare_plans compare_with_silenced make_plan mask
        measure_cost prune prune_optimizer rank_filters score_filters score_statistics silence
        total_cost""",
    "models": """initialise load_model load_model_and_data load_pruned model_names save_pruned
        save_weights""",
    "training": """Metrics TrainSettings compare_networks count_classes count_confusions evaluate
        find_flips make_optimizer predict train""",
    "export": "Exported export_network",
    "measure": """best_within choose_ratios compare_ratios feature_maps find_front find_unmeasured
        level_ratios measure_latency measure_retrained measure_sensitivity predict_accuracy
        uniform_ratios""",
    "experiments": """Experiment Recipe Sweep check_parameters compare_points compare_with_paper
        find_settings load_recipe load_sweep read_log read_paper read_rows read_sweep recipe_names
        replay run_sweep sweep_names time_recipes""",
    "utils.paths": "find_weights runs_dir",
    "utils.seals": "read_table write_table",
    "utils.tensors": "hash_tensors",
}
_HOME = {name: home for home, names in _NAMES.items() for name in names.split()}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'prunelab' has no attribute {name!r}")
    return getattr(import_module(f"prunelab.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
