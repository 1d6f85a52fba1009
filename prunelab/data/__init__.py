"""Image sets by name, folder, table or torch Dataset, and their batches.

datasets: `load_data` · pairs: `data_from` · splits: what they return · folders, tables: listings ·
reading: one image, any mode and size · batches: what training draws · images: normalised, augmented
"""

from prunelab.data.batches import FileSplit, Split, pick_batch_size, take
from prunelab.data.datasets import NAMED, check_source, find_size, load_data
from prunelab.data.images import (
    NORMALIZATIONS,
    Normalization,
    augment_batch,
    find_normalization,
    normalize,
)
from prunelab.data.pairs import data_from
from prunelab.data.reading import open_image
from prunelab.data.splits import DataSplits

__all__ = [
    "NAMED",
    "NORMALIZATIONS",
    "DataSplits",
    "FileSplit",
    "Normalization",
    "Split",
    "augment_batch",
    "check_source",
    "data_from",
    "find_normalization",
    "find_size",
    "load_data",
    "normalize",
    "open_image",
    "pick_batch_size",
    "take",
]
