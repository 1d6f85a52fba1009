"""Which filters go, and taking them out.

criteria: scores · selection: from ratios to a plan · hand: picks by hand · plan: plain data ·
schedule · surgery: smaller models · optimizer: their momentum · oracle: what they must compute ·
cost · ranking.
"""

from prunelab.pruning.cost import measure_cost, measure_memory, total_cost, widths_after
from prunelab.pruning.criteria import (
    CRITERIA,
    IMAGE_CRITERIA,
    MAP_STATISTICS,
    score_filters,
    score_statistics,
)
from prunelab.pruning.optimizer import check_optimizer, prune_optimizer
from prunelab.pruning.oracle import compare_with_silenced, mask, silence
from prunelab.pruning.plan import PruningPlan, check_widths
from prunelab.pruning.ranking import compare_plans, rank_filters
from prunelab.pruning.schedule import find_ratios, make_steps
from prunelab.pruning.selection import (
    ORDERS,
    ROUNDINGS,
    STRATEGIES,
    check_ratio,
    make_plan,
    resolve_ratios,
)
from prunelab.pruning.surgery import keep_slices, prune, set_count

__all__ = [
    "CRITERIA",
    "IMAGE_CRITERIA",
    "MAP_STATISTICS",
    "ORDERS",
    "ROUNDINGS",
    "STRATEGIES",
    "PruningPlan",
    "check_optimizer",
    "check_ratio",
    "check_widths",
    "compare_plans",
    "compare_with_silenced",
    "find_ratios",
    "keep_slices",
    "make_plan",
    "make_steps",
    "mask",
    "measure_cost",
    "measure_memory",
    "prune",
    "prune_optimizer",
    "rank_filters",
    "resolve_ratios",
    "score_filters",
    "score_statistics",
    "set_count",
    "silence",
    "total_cost",
    "widths_after",
]
