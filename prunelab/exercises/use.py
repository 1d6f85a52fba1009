"""Exercises of notebook 08: a picture as a network takes it, and what a file must say."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunelab.data import DataSplits
from prunelab.exercises.verdict import Wrong, call, exercise, take_names
from prunelab.findings import join
from prunelab.models import load_pruned
from prunelab.utils.tensors import read_tensors, write_tensors

PICTURES = 16  # on which answers are compared
IDLE = {  # parts of a header that no network needs to be built, and what they are for
    "info": "says what the network learned from and how images are read; using it takes that",
    "plan.settings": "says how the filters were chosen; which ones stay is in plan.keep",
}


@exercise
def check_input(answer: Any, session: Any, data: DataSplits) -> str:
    """A function is asked for: pictures (n, rows, columns, 3), uint8 → the network's input.

    Args:
        answer: the function.
        session: an onnxruntime.InferenceSession of the exported network.
        data: whose normalisation it learned with.

    Returns:
        A verdict.

    Example:
        >>> exercises.check_input(prepare, session, run.data)
    """
    size = data.test.image_size
    rng = np.random.default_rng(0)  # coloured ones: on grey pictures some mistakes do not show
    pictures = rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    found = _take_input(call(answer, pictures.copy()), pictures)
    mean, std = (np.array(values)[:, None, None] for values in data.normalization)
    right = _prepare(pictures, mean, std)
    if not np.allclose(found, right, atol=1e-3):
        raise Wrong(_explain_input(found, pictures, mean, std))
    pictures = _take_pictures(data, mean, std)
    name = session.get_inputs()[0].name
    made = np.asarray(call(answer, pictures.copy()))
    inputs = (made, _prepare(pictures, mean, std).astype(np.float32))
    if made.dtype != np.float32:
        raise Wrong(f"The numbers are right, but {made.dtype}; the network takes float32.")
    ours, theirs = (session.run(None, {name: each})[0].argmax(1) for each in inputs)
    same = int((ours == theirs).sum())
    if same < len(pictures):
        raise Wrong(f"Only {same} of {len(pictures)} answers are those that the network gives.")
    return (
        f"onnxruntime answers on {same} of {len(pictures)} test images as with the input that "
        "training used. Nothing but this function stands between a file's pixels and the network: "
        "a mistake in it raises no error, it only costs accuracy."
    )


def _take_input(answer: Any, pictures: np.ndarray) -> np.ndarray:
    """A student's input as numbers of the right shape; Wrong else."""
    found = answer.detach().cpu().numpy() if isinstance(answer, Tensor) else np.asarray(answer)
    n, rows, columns, _ = pictures.shape
    if found.shape == pictures.shape:
        raise Wrong(
            "Your input is still (images, rows, columns, colours); the network reads (images, "
            "colours, rows, columns)."
        )
    if found.shape != (n, 3, rows, columns):
        raise Wrong(
            f"Your input has the shape {found.shape} for pictures {pictures.shape}; it should be "
            f"{(n, 3, rows, columns)}."
        )
    if found.dtype.kind not in "fui":
        raise Wrong(f"Your input holds {found.dtype}; numbers are asked for.")
    return found.astype(np.float64)


def _prepare(pictures: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    return (pictures.transpose(0, 3, 1, 2) / 255 - mean) / std


def _explain_input(
    found: np.ndarray, pictures: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> str:
    ways = {
        "": pictures.transpose(0, 3, 1, 2),
        "The order of the colours is turned round: blue comes first. ": (
            pictures.transpose(0, 3, 1, 2)[:, ::-1]
        ),
        "Rows and columns are swapped. ": pictures.transpose(0, 3, 2, 1),
        "reshape leaves the numbers in the order they have in memory, so that colours end up in "
        "rows; axes have to be moved. ": pictures.reshape(len(pictures), 3, *pictures.shape[1:3]),
    }
    for order, moved in ways.items():
        pixels = moved.astype(np.float64)
        values = {
            "The colours are not divided by 255: mean and deviation are of values in 0 … 1.": (
                (pixels - mean) / std
            ),
            "These are the pixels as they are, 0 … 255.": pixels,
            "The values are in 0 … 1, and not normalised yet.": pixels / 255,
            "The mean is taken away; the deviation is missing.": pixels / 255 - mean,
            "It is divided by the deviation; the mean is missing.": pixels / 255 / std,
            "It is multiplied by the deviation; a deviation of 1 is what should come out.": (
                (pixels / 255 - mean) * std
            ),
            "The mean is taken away after the division; it comes before.": (
                pixels / 255 / std - mean
            ),
            "The values are in −1 … 1; the network has a mean and a deviation of its own.": (
                pixels / 127.5 - 1
            ),
            "The mean is taken away from values in 0 … 255; mean and deviation are of 0 … 1.": (
                (pixels - mean) / 255 / std
            ),
        }
        if order and np.allclose(found, (pixels / 255 - mean) / std, atol=1e-3):
            return order.strip()
        for text, value in values.items():
            if np.allclose(found, value, atol=1e-3):
                return order + text
    low, high = found.min(), found.max()
    return (
        f"Your numbers are {low:.3g} … {high:.3g}; they should be colours in 0 … 1, less the mean, "
        "in units of the deviation, each colour with its own."
    )


def _take_pictures(data: DataSplits, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Test images as picture files hold them: (n, rows, columns, 3), uint8."""
    images, _ = next(iter(data.test.batches(PICTURES)))
    pixels = images.cpu().numpy() * std + mean
    return (pixels * 255).round().clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


@exercise
def check_header_fields(answer: Any, path: str | Path) -> str:
    """Names of fields are asked for: those without which the file's network cannot be built.

    Args:
        answer: names such as `plan.keep`.
        path: a file of `save_pruned`.

    Returns:
        A verdict, which was tried: the file is written without a field, and opened.

    Example:
        >>> exercises.check_header_fields(["plan.keep"], "small.safetensors")
    """
    names = take_names(answer)
    tensors, header = read_tensors(path)
    fields = [name for name, _ in _flatten(header)]
    if odd := sorted(names - {*fields} - {*header}):
        raise Wrong(f"There is no field {join(odd)}; the fields are {join(fields)}.")
    names = {field for field in fields if field in names or field.partition(".")[0] in names}
    whole = load_pruned(path).state_dict()
    if error := _try(path, tensors, _select(header, names), whole):
        raise Wrong(f"With these fields alone, the file does not open: {error}")
    spare = [name for name in sorted(names) if not _try(path, tensors, _drop(header, name), whole)]
    for name in spare:
        if why := IDLE.get(name) or IDLE.get(name.partition(".")[0]):
            raise Wrong(f"The network is built without {name}, too: it {why}.")
    text = (
        "Tried: with these fields alone the file gives the same network. The tensors know their "
        "shapes, but not which filters of the original they are, nor how layers are joined; what "
        "classes are called and how colours are normalised is for those who use it."
    )
    if spare:
        text += f" Of this network, {join(spare)} could go, too: what is taken instead is the same."
    return text


def _flatten(header: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for part, value in header.items():
        if isinstance(value, dict):
            yield from ((f"{part}.{name}", inner) for name, inner in value.items())
        else:
            yield part, value


def _select(header: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, value in _flatten(header):
        if name in names:
            part, _, inner = name.partition(".")
            if inner:
                chosen.setdefault(part, {})[inner] = value
            else:
                chosen[part] = value
    return chosen


def _drop(header: Mapping[str, Any], name: str) -> dict[str, Any]:
    return _select(header, {field for field, _ in _flatten(header)} - {name})


def _try(
    path: str | Path, tensors: dict[str, Tensor], header: dict[str, Any], whole: dict[str, Tensor]
) -> str:
    """What is wrong with a file of this header; empty where it gives the same network."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / Path(path).name
        try:
            write_tensors(file, tensors, header)
            built: nn.Module = load_pruned(file)
        except ValueError as error:
            return str(error).replace(f"{folder}/", "").splitlines()[0]
        found = built.state_dict()
        same = found.keys() == whole.keys() and all(torch.equal(found[k], whole[k]) for k in whole)
        return "" if same else "another network comes out of it"
