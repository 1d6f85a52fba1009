"""A network and its data, opened together: weights know how their images were normalised."""

import warnings
from pathlib import Path
from typing import Any

from torch import nn

from prunelab.data import NAMED, DataSplits, Normalization, check_source, load_data
from prunelab.models.families import known_preprocessing
from prunelab.models.loading import fill_network, load_model
from prunelab.models.weights import Weights, open_weights

CLOSE = 0.02  # five steps of 255: two measurements of the same colours differ by less


def load_model_and_data(
    name: str,
    source: str | Path,
    *,
    weights: str | Path | None = None,
    new_head: bool = False,
    normalization: Any = None,
    image_size: int | None = None,
    **how: Any,
) -> tuple[nn.Module, DataSplits]:
    """A network and its data, on one device, with the images as the weights expect them.

    Where the weights or timm's configuration say how images are normalised and how large they are,
    the data is read so; what is given here goes before, and a warning says where they differ.

    Args:
        name: of the network, as in `load_model`; it gets as many classes as the data has.
        source: of the data, as in `load_data`.
        weights: as in `load_model`.
        new_head: as in `load_model`.
        normalization: as in `load_data`; None or "": that of the weights, else the data's own.
        image_size: as in `load_data`; None or 0: that of the weights, else the data's own.
        how: `device`, `seed`, `val_fraction` and `label`, as in `load_data`.

    Returns:
        The network, in evaluation mode, and the data.

    Raises:
        ValueError: as `load_model` and `load_data`.
        FileNotFoundError: as these.
        OSError: as `load_model`.

    Example:
        >>> model, data = load_model_and_data("resnet20", "digits", device="cpu")
    """
    found = None if weights in (None, "") else open_weights(name, weights)
    data = load_data_for(
        name, found, source, normalization=normalization, image_size=image_size, **how
    )
    classes = len(data.classes)
    if found is None:
        model = load_model(name, num_classes=classes, new_head=new_head)
    else:
        model = fill_network(name, classes, found, new_head)
        _check_classes(found, data, new_head)
    return model.to(data.device), data


def load_data_for(
    name: str,
    weights: Weights | None,
    source: str | Path,
    *,
    normalization: Any = None,
    image_size: int | None = None,
    label: str | None = None,
    **how: Any,
) -> DataSplits:
    """`load_data`, with the normalisation and the size that a network and its weights expect."""
    expected = weights.preprocessing if weights else known_preprocessing(name)
    source, origin = check_source(source), weights.source if weights else name
    if not image_size:
        image_size = None if source in NAMED else expected.image_size
    data = load_data(
        source,
        normalization=normalization or None,
        image_size=image_size,
        label=label or None,
        **how,
    )
    known = expected.normalization
    if known is None or _are_close(known, data.normalization):
        return data if known is None or normalization else data.with_normalization(known)
    theirs, ours = (_say(values) for values in (known, data.normalization))
    if normalization:
        warnings.warn(
            f"{origin} expects images normalised by {theirs}, and they are by {ours}, as asked",
            stacklevel=3,
        )
        return data
    warnings.warn(
        f"images are normalised by {theirs}, as {origin} expects; the data's own would be {ours}",
        stacklevel=3,
    )
    return data.with_normalization(known)


def _are_close(one: Normalization, other: Normalization) -> bool:
    pairs = zip((*one.mean, *one.std), (*other.mean, *other.std), strict=True)
    return all(abs(a - b) <= CLOSE for a, b in pairs)


def _say(normalization: Normalization) -> str:
    mean, std = (", ".join(f"{value:.3g}" for value in part) for part in normalization)
    return f"mean ({mean}) and deviation ({std})"


def _check_classes(weights: Weights, data: DataSplits, new_head: bool) -> None:
    """A warning where as many classes have other names."""
    theirs = weights.info.get("classes")
    if theirs and not new_head and list(theirs) != list(data.classes):
        warnings.warn(
            f"{weights.source} learned the classes {', '.join(theirs[:3])} …, and {data.name} has "
            f"{', '.join(data.classes[:3])} …; new_head=True learns them anew",
            stacklevel=3,
        )
