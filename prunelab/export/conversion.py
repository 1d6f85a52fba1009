"""A network as a program of torch.export, and as ONNX."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import MappingKey, tree_flatten_with_path

from prunelab.export.inputs import INSTEAD, Inputs

DYNAMO = "torch.onnx"
TORCHSCRIPT = "torch.onnx (torchscript)"  # the older exporter, which runs the network once
MOST_BYTES = 2**31  # of an ONNX file


def to_program(model: nn.Module, inputs: Inputs) -> Any:
    """The model as torch.export's ExportedProgram."""
    shapes = ({0: torch.export.Dim("batch")},) if inputs.dynamic else None
    with _quiet():
        return torch.export.export(model, inputs.args, dynamic_shapes=shapes)


def to_onnx(model: nn.Module, inputs: Inputs) -> tuple[Any, str]:
    """The model as an ONNX ModelProto, and the exporter that made it.

    ValueError where neither can, or the file would be too large.
    """
    need("onnx", "onnxscript")
    tensors = (*model.parameters(), *model.buffers())
    if sum(x.numel() * x.element_size() for x in tensors) >= MOST_BYTES:
        raise ValueError(
            f"an ONNX file holds 2 GB, and {type(model).__name__} is larger; use to='torch.export'"
        )
    names: dict[str, Any] = {
        "input_names": name_inputs(inputs),
        "output_names": name_outputs(model, inputs),
    }
    try:
        return _by_dynamo(model, inputs, names), DYNAMO
    except Exception as error:  # of many kinds
        why = error
    try:
        return _by_torchscript(model, inputs, names), TORCHSCRIPT
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__} cannot be written as ONNX ({say(why)}); {INSTEAD}"
        ) from error


def _by_dynamo(model: nn.Module, inputs: Inputs, names: dict[str, Any]) -> Any:
    program = to_program(model, inputs)
    shapes = ({0: "batch"},) if inputs.dynamic else None  # what the dimension is called
    with _quiet():
        made = torch.onnx.export(
            program, dynamo=True, verbose=False, dynamic_shapes=shapes, **names
        )
    return made.model_proto  # type: ignore[union-attr]


def _by_torchscript(model: nn.Module, inputs: Inputs, names: dict[str, Any]) -> Any:
    every = [name for some in names.values() for name in some]
    axes = {name: {0: "batch"} for name in every} if inputs.dynamic else None
    buffer: Any = io.BytesIO()
    with _quiet():
        torch.onnx.export(model, inputs.args, buffer, dynamo=False, dynamic_axes=axes, **names)
    return need("onnx").load_model_from_string(buffer.getvalue())


def name_inputs(inputs: Inputs) -> list[str]:
    """`images`, or `input_0` … of several."""
    count = len(inputs.tensors)
    return ["images"] if count == 1 else [f"input_{i}" for i in range(count)]


@torch.no_grad()
def name_outputs(model: nn.Module, inputs: Inputs) -> list[str]:
    """`logits` of one tensor, the keys of a dict, else `output_0` …"""
    output = model(*inputs.args)
    if isinstance(output, Tensor):
        return ["logits"]
    paths, _ = tree_flatten_with_path(output)
    last = [path[-1] for path, x in paths if isinstance(x, Tensor)]
    keys = [str(key.key) for key in last if isinstance(key, MappingKey)]
    return keys if len(set(keys)) == len(last) else [f"output_{i}" for i in range(len(last))]


def need(*packages: str) -> Any:
    """Packages that not everyone has; the first is given. ValueError says how to get them."""
    try:
        modules = [import_module(package) for package in packages]
    except ImportError as error:
        raise ValueError(
            f"the package {error.name} is missing: pip install onnx onnxscript onnxruntime "
            "(prunelab[onnx] has them)"
        ) from error
    return modules[0]


def say(error: BaseException) -> str:
    """The first line of the reason of an error."""
    text = str(error.__cause__ or error).strip()
    return text.partition("\n")[0] or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Without gradients, warnings, and the graphs that torch.export prints as it gives up."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        yield
