"""Image sets by name or folder, with a validation split held out of training, and their batches.

datasets: `load_data`, the splits · folders: image folders, decoded once ·
batches: what training draws · images: normalisation and augmentation.
"""

from prunelab.data.batches import FileSplit, Split, pick_batch_size, take
from prunelab.data.datasets import NAMED, DataSplits, check_source, load_data
from prunelab.data.images import NORMALIZATIONS, augment_batch, normalize

__all__ = [
    "NAMED",
    "NORMALIZATIONS",
    "DataSplits",
    "FileSplit",
    "Split",
    "augment_batch",
    "check_source",
    "load_data",
    "normalize",
    "pick_batch_size",
    "take",
]
