"""What a network can lose and what that saves, measured.

sensitivity, retrained: each layer pruned alone (curves: the plans and the table; store: what is
known; prefix: many pruned networks at once, by interpreter, folding and winograd) ·
budget, search: ratios within a budget · latency: measured time.
"""

from prunelab.measure.budget import choose_ratios, compare_ratios, uniform_ratios
from prunelab.measure.latency import FORMATS, measure_latency
from prunelab.measure.retrained import measure_retrained
from prunelab.measure.search import ChosenRatios
from prunelab.measure.sensitivity import measure_sensitivity

__all__ = [
    "FORMATS",
    "ChosenRatios",
    "choose_ratios",
    "compare_ratios",
    "measure_latency",
    "measure_retrained",
    "measure_sensitivity",
    "uniform_ratios",
]
