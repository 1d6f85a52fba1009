"""What can be told from a model's code without following it, and where following it stopped."""

import inspect
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn


class Unfollowed(Exception):
    """Code whose effect on other inputs cannot be known from one run."""


def explain(error: Exception) -> str:
    """What fx stumbled over: the line of the model's code, and fx's own first words."""
    foreign = (str(Path(torch.__file__).parent), "<", str(Path(__file__).parent))
    where = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.line and not frame.filename.startswith(foreign):
            where = f"at `{frame.line}` (line {frame.lineno} of {Path(frame.filename).name}): "
    return where + first_line(error)


def first_line(error: Exception) -> str:
    """What an error says first, or its kind."""
    return (str(error) or type(error).__name__).splitlines()[0]


def reads_training(model: nn.Module) -> bool:
    """Whether the code of any module asks for `self.training`: then training may differ."""
    kinds = {kind for module in model.modules() for kind in type(module).__mro__}
    own = [vars(kind) for kind in kinds if not kind.__module__.startswith("torch.")]
    return any("training" in _names_in(names) for names in (*own, *map(vars, model.modules())))


def _names_in(attributes: Mapping[str, Any]) -> set[str]:
    """The attributes and variables that functions among these name."""
    codes = [function.__code__ for function in attributes.values() if inspect.isfunction(function)]
    names: set[str] = set()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [constant for constant in code.co_consts if inspect.iscode(constant)]
    return names
