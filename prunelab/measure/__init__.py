"""What a network can lose and what that saves, measured.

sensitivity, retrained: each layer pruned alone (curves: the plans and the table; store: what is
known; prefix: many networks at once) · budget, search: ratios within a budget · predict: what
curves promise · front: what is had at what cost · latency: time · maps: what layers make of images
"""

from prunelab.measure.budget import check_budget, choose_ratios, compare_ratios, uniform_ratios
from prunelab.measure.curves import level_ratios
from prunelab.measure.front import best_within, find_front
from prunelab.measure.latency import FORMATS, RUNTIMES, measure_latency
from prunelab.measure.maps import feature_maps
from prunelab.measure.predict import find_unmeasured, predict_accuracy
from prunelab.measure.retrained import measure_retrained
from prunelab.measure.search import ChosenRatios
from prunelab.measure.sensitivity import measure_sensitivity

__all__ = [
    "FORMATS",
    "RUNTIMES",
    "ChosenRatios",
    "best_within",
    "check_budget",
    "choose_ratios",
    "compare_ratios",
    "feature_maps",
    "find_front",
    "find_unmeasured",
    "level_ratios",
    "measure_latency",
    "measure_retrained",
    "measure_sensitivity",
    "predict_accuracy",
    "uniform_ratios",
]
