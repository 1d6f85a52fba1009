"""Writing a network as a file that others read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from prunelab.export.about import describe
from prunelab.export.check import Check, compare
from prunelab.export.conversion import name_outputs, say
from prunelab.export.formats import KINDS, check_format
from prunelab.export.inputs import Inputs, make_batches, read_inputs
from prunelab.utils import processes
from prunelab.utils.modules import copy_with, like_model
from prunelab.utils.progress import Report
from prunelab.utils.tensors import is_ours, write_whole

STEPS = 3  # converted, compared, written


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how it was held against the model.

    Attributes:
        path: the file.
        to: its format.
        images: how many were compared.
        max_difference: the largest, of any number that comes out.
        same_answers: the share of equal argmax over the classes, in [0, 1]; None for a network
            with several outputs.
        size: in bytes.
    """

    path: Path
    to: str
    images: int
    max_difference: float
    same_answers: float | None
    size: int

    def __str__(self) -> str:
        answers = "" if self.same_answers is None else f"{self.same_answers:.1%} of answers equal, "
        return (
            f"{self.path} ({self.to}, {self.size / 1e6:.1f} MB): of {self.images} images "
            f"{answers}numbers differ by {self.max_difference:.1g} at most"
        )


def export_network(
    model: nn.Module,
    path: str | Path,
    *,
    to: str = "onnx",
    example_input: Any,
    images: Tensor | None = None,
    info: Mapping[str, Any] | None = None,
    on_progress: Report | None = None,
) -> Exported:
    """Write a network, pruned or not, as one file that needs no prunelab.

    The file is read back and run beside the model, on the CPU and in batches of several sizes;
    one that does not compute the same is not kept. It says what it holds, as JSON: architecture,
    input shape, normalisation, classes, ratios, filters left, multiply-adds, parameters, the
    check's numbers and `info`. That is in `metadata_props["prunelab"]` of ONNX, the extra file
    `prunelab.json` of torch.export, and the metadata of safetensors.

    Args:
        model: the network; it is left untouched. A copy in float32 is written of one in half
            precision.
        path: the file, written whole or not at all; its ending is added where it is missing.
        to: `onnx` (`.onnx`, for onnxruntime and most others), `torch.export` (`.pt2`, for
            `torch.export.load`) or `state_dict` (`.safetensors`, tensors alone, for
            `safetensors.torch.load_file`).
        example_input: a tensor, (1, 3, h, w), for a file that takes any number of images; a tuple
            of tensors, or the list of one image (3, h, w) that torchvision's detection networks
            take, for one that takes just these shapes.
        images: what to compare on, a normalised float tensor (n, 3, h, w); None: 64 random ones.
        info: plain JSON to keep with it: normalization, classes, scores, …
        on_progress: called with (steps done, steps in all).

    Returns:
        What was written, and how far its outputs are from the model's.

    Raises:
        ValueError: the network cannot be exported so; the file computes something else, by a
            thousandth of an output's largest value or more; a package is missing; the path is that
            of a file of `save_pruned` or `save_weights`.
        OSError: the file could not be written.

    Example:
        >>> export_network(small, "small.onnx", example_input=torch.zeros(1, 3, 32, 32))
    """
    kind = KINDS[check_format(to)]
    path = Path(path)
    path = path.with_name(path.name.removesuffix(kind.ending) + kind.ending)
    if is_ours(path):
        raise ValueError(f"{path} holds a network as prunelab keeps it; give another path")
    report = on_progress or (lambda done, steps: None)
    copied, inputs = _copy(model), read_inputs(example_input)
    batches = [_like(copied, args) for args in make_batches(inputs, images)]
    inputs = Inputs(_like(copied, inputs.args), inputs.dynamic)
    names = _try_out(copied, inputs)
    about = describe(copied, inputs, dict(info or {}))
    file = kind(copied, inputs)
    about["exporter"] = file.exporter
    report(1, STEPS)
    checks: list[Check] = []

    def write(temporary: str) -> None:
        file.write(temporary, about)
        checks.append(compare(copied, file.open(temporary), batches, names))
        report(2, STEPS)
        file.write(temporary, about | {"check": asdict(checks[0])})

    write_whole(path, write)
    report(STEPS, STEPS)
    return processes.broadcast(
        lambda: Exported(path, to, **asdict(checks[0]), size=path.stat().st_size)
    )


def _copy(model: nn.Module) -> nn.Module:
    """On the CPU, in evaluation mode, in float32 where it was in half precision."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"export_network takes a model, not a {type(model).__name__}")
    half = (torch.float16, torch.bfloat16)
    copied = copy_with(
        model, lambda x: x.to("cpu", torch.float32 if x.dtype in half else x.dtype, copy=True)
    )
    return copied.eval()


def _like(model: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tree_map_only(Tensor, lambda x: like_model(model, x.detach()), args)


def _try_out(model: nn.Module, inputs: Inputs) -> list[str]:
    """The names of the outputs; ValueError where the model does not take the example."""
    try:
        return name_outputs(model, inputs)
    except Exception as error:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs.tensors)
        raise ValueError(
            f"{type(model).__name__} does not take an input of shape {shapes}: {say(error)}"
        ) from error
