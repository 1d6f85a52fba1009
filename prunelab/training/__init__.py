"""Learning: baselines, retraining and scratch rows by one function, stopped and resumed at will.

settings: how a network learns · loop: `train` · state: where it is, on disk · evaluation: how well
it does · predictions: what it answers, image by image.
"""

from prunelab.training.evaluation import (
    Metrics,
    check_finite,
    check_outputs,
    compare_networks,
    evaluate,
)
from prunelab.training.loop import make_optimizer, train
from prunelab.training.predictions import count_classes, count_confusions, find_flips, predict
from prunelab.training.settings import FINE_TUNING, RETRAINING, TrainSettings
from prunelab.training.state import count_epochs

__all__ = [
    "FINE_TUNING",
    "RETRAINING",
    "Metrics",
    "TrainSettings",
    "check_finite",
    "check_outputs",
    "compare_networks",
    "count_classes",
    "count_confusions",
    "count_epochs",
    "evaluate",
    "find_flips",
    "make_optimizer",
    "predict",
    "train",
]
