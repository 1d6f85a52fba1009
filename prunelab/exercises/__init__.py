"""Exercises of the notebooks: each check takes an answer and says what is wrong with it.

An answer of `...` is an empty one. Solutions are in notebooks/solutions. By name:
`from prunelab import exercises`.
"""

from prunelab.exercises.across import check_greedy, check_leader, check_share, check_tied
from prunelab.exercises.budget import check_ratios, check_stages
from prunelab.exercises.counting import check_multiply_adds, check_rounding
from prunelab.exercises.criteria import check_chance, check_mean_std, check_own_criterion
from prunelab.exercises.norms import check_filter_size, check_norms, check_steepest
from prunelab.exercises.removing import check_leak, check_removal
from prunelab.exercises.retraining import check_second_filters, check_second_round, check_steps
from prunelab.exercises.starting import check_flops_left, check_layers_that_stay
from prunelab.exercises.time import check_aligned_flops, check_time_left
from prunelab.exercises.use import check_header_fields, check_input
from prunelab.exercises.verdict import Verdict

__all__ = [
    "Verdict",
    "check_aligned_flops",
    "check_chance",
    "check_filter_size",
    "check_flops_left",
    "check_greedy",
    "check_header_fields",
    "check_input",
    "check_layers_that_stay",
    "check_leader",
    "check_leak",
    "check_mean_std",
    "check_multiply_adds",
    "check_norms",
    "check_own_criterion",
    "check_ratios",
    "check_removal",
    "check_rounding",
    "check_second_filters",
    "check_second_round",
    "check_share",
    "check_stages",
    "check_steepest",
    "check_steps",
    "check_tied",
    "check_time_left",
]
