"""The kinds of files: what each writes, and how it is read back, as anyone would."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunelab.export.conversion import need, say, to_onnx, to_program
from prunelab.export.inputs import INSTEAD, Inputs
from prunelab.export.runtime import Run, open_session
from prunelab.utils.checks import check_choice
from prunelab.utils.modules import copy_with
from prunelab.utils.tensors import load_tensors

SEEN = ("classes", "normalization", "ratios", "flops", "params")  # by people, in Netron


class OnnxFile:
    """A network as ONNX; what it says is in `metadata_props`."""

    ending = ".onnx"

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        self.proto, self.exporter = to_onnx(model, inputs)

    def write(self, path: str, about: Mapping[str, Any]) -> None:
        seen = {name: about[name] for name in SEEN if about.get(name) is not None}
        texts = {name: json.dumps(x, ensure_ascii=False) for name, x in seen.items()}
        need("onnx.helper").set_model_props(self.proto, {"prunelab": json.dumps(about), **texts})
        Path(path).write_bytes(self.proto.SerializeToString())

    def open(self, path: str) -> Run:
        session = open_session(path)
        return lambda *args: session(*tree_leaves(args))


class ProgramFile:
    """A network as torch.export's program; what it says is in the extra file prunelab.json."""

    ending, exporter = ".pt2", "torch.export"

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        try:
            self.program = to_program(model, inputs)
        except Exception as error:  # of many kinds
            name = type(model).__name__
            raise ValueError(
                f"torch.export cannot follow {name} ({say(error)}); {INSTEAD}"
            ) from error

    def write(self, path: str, about: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.export.save(self.program, buffer, extra_files={"prunelab.json": json.dumps(about)})
        Path(path).write_bytes(buffer.getvalue())

    def open(self, path: str) -> Run:
        program = torch.export.load(io.BytesIO(Path(path).read_bytes())).module()
        return lambda *args: find_tensors(program(*args))


class StateFile:
    """A network's tensors alone, as `safetensors.torch.load_file` reads them."""

    ending, exporter = ".safetensors", "safetensors"

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        self.model = model

    def write(self, path: str, about: Mapping[str, Any]) -> None:
        state = {name: x.contiguous().clone() for name, x in self.model.state_dict().items()}
        save_file(state, path, {"format": "pt", "prunelab": json.dumps(about)})

    def open(self, path: str) -> Run:
        empty = copy_with(self.model, torch.Tensor.clone)
        for x in empty.state_dict().values():  # which shares the memory of the copy
            x.zero_()
        load_tensors(empty, load_file(path))
        return lambda *args: find_tensors(empty(*args))


def find_tensors(output: Any) -> list[Tensor]:
    """Every tensor in what a network returned."""
    return [x for x in tree_leaves(output) if isinstance(x, Tensor)]


KINDS: dict[str, type[OnnxFile | ProgramFile | StateFile]] = {
    "onnx": OnnxFile,
    "torch.export": ProgramFile,
    "state_dict": StateFile,
}
FORMATS = tuple(KINDS)


def check_format(to: str) -> str:
    """`to`, if it is one of the formats and what it needs is installed; ValueError else."""
    if check_choice("format", to, FORMATS) == "onnx":
        need("onnx", "onnxscript", "onnxruntime")
    return to


def name_beside(path: Path, to: str) -> Path:
    """What a file is called that is written beside a network's own, of this path."""
    return path.with_name(f"{path.name}-state") if to == "state_dict" else path
