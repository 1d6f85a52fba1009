"""Networks by name, with whatever weights one has, and the files that hold them.

families: what a name means (cifar: the paper's; own: a function of the user's) · weights: what one
has · loading: `load_model` · pruned: pruned files · together: a network and its data.
"""

from prunelab.models.cifar import initialise
from prunelab.models.families import known_preprocessing, model_names
from prunelab.models.loading import check_start, fill_network, load_model, open_saved
from prunelab.models.own import is_own, is_trusted
from prunelab.models.pruned import load_pruned, save_pruned
from prunelab.models.together import load_data_for, load_model_and_data
from prunelab.models.weights import Weights, describe_network, find_file, open_weights, save_weights

__all__ = [
    "Weights",
    "check_start",
    "describe_network",
    "fill_network",
    "find_file",
    "initialise",
    "is_own",
    "is_trusted",
    "known_preprocessing",
    "load_data_for",
    "load_model",
    "load_model_and_data",
    "load_pruned",
    "model_names",
    "open_saved",
    "open_weights",
    "save_pruned",
    "save_weights",
]
