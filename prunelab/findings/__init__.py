"""What was found: the frames of the paper's figures as they are stored, and what frames say.

`keep_frame` and `read_frame` are the store; `say` shows sentences, which are computed from frames,
so that no text says what a parameter made false. By name: `from prunelab import findings`.
"""

from prunelab.findings import alt as described
from prunelab.findings.choices import (
    describe_budgets,
    describe_overlap,
    describe_promises,
    describe_strategies,
    name_retrained,
)
from prunelab.findings.curves import (
    correlate_steepness,
    describe_correlation,
    describe_sensitivity,
    pair_steepness,
)
from prunelab.findings.frames import (
    by_network,
    describe_evidence,
    explain_digits,
    keep_frame,
    note_evidence,
    read_frame,
)
from prunelab.findings.networks import (
    compare_with_table_1,
    count_table_2,
    describe_table_2,
    load_trained,
    read_ratios,
)
from prunelab.findings.norms import (
    describe_steepness,
    explain_flat_norms,
    explain_grey_filters,
    lay_beside,
    measure_steepness,
    norms_before_training,
    norms_of_photographs,
    pick_norms,
    thin_norms,
)
from prunelab.findings.orders import (
    compare_criteria,
    describe_agreement,
    describe_l2,
    describe_orders,
    judge_criteria,
    judge_smallest,
    measure_orders,
    split_ways,
)
from prunelab.findings.replays import (
    count_right,
    describe_runs,
    describe_seeds,
    describe_standing,
    list_changes,
    list_replayed,
)
from prunelab.findings.retraining import (
    describe_regained,
    note_continued,
    plan_second_round,
    spread_layers,
)
from prunelab.findings.time import (
    compare_times,
    describe_alignment,
    describe_clock,
    describe_runtimes,
    describe_savings,
    read_times,
)
from prunelab.findings.words import compare_arms, count, differ, join, name_few, percent, say

__all__ = [
    "by_network",
    "compare_arms",
    "compare_criteria",
    "compare_times",
    "compare_with_table_1",
    "correlate_steepness",
    "count",
    "count_right",
    "count_table_2",
    "describe_agreement",
    "describe_alignment",
    "describe_budgets",
    "describe_clock",
    "describe_correlation",
    "describe_evidence",
    "describe_l2",
    "describe_orders",
    "describe_overlap",
    "describe_promises",
    "describe_regained",
    "describe_runs",
    "describe_runtimes",
    "describe_savings",
    "describe_seeds",
    "describe_sensitivity",
    "describe_standing",
    "describe_steepness",
    "describe_strategies",
    "describe_table_2",
    "described",
    "differ",
    "explain_digits",
    "explain_flat_norms",
    "explain_grey_filters",
    "join",
    "judge_criteria",
    "judge_smallest",
    "keep_frame",
    "lay_beside",
    "list_changes",
    "list_replayed",
    "load_trained",
    "measure_orders",
    "measure_steepness",
    "name_few",
    "name_retrained",
    "norms_before_training",
    "norms_of_photographs",
    "note_continued",
    "note_evidence",
    "pair_steepness",
    "percent",
    "pick_norms",
    "plan_second_round",
    "read_frame",
    "read_ratios",
    "read_times",
    "say",
    "split_ways",
    "spread_layers",
    "thin_norms",
]
