"""Kinds of layers, and copies of modules."""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def copy_with(model: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A deep copy of a model whose parameters and buffers are `change(tensor)`, not copies."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        new: Tensor = change(tensor).detach()
        if isinstance(tensor, nn.Parameter):
            new = nn.Parameter(new, tensor.requires_grad)
        memo[id(tensor)] = new
    for module in model.modules():  # a weight that a hook computes, which deepcopy refuses
        for value in vars(module).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)


def like_model(model: nn.Module, x: Tensor) -> Tensor:
    """A copy of an input, on the model's device and in its kind of float."""
    first = next(model.parameters(), x)
    return x.to(first.device, first.dtype if x.is_floating_point() else x.dtype, copy=True)
