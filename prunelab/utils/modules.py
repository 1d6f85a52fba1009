"""Kinds of layers, and copies of modules."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def copy_with(model: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A deep copy of a model whose parameters and buffers are `change(tensor)`, not copies.

    Modes, hooks and attributes are those of the model; what cannot be copied (a lock, an open
    file, a random generator) is shared with it.
    """
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        new: Tensor = change(tensor).detach()
        if isinstance(tensor, nn.Parameter):
            new = nn.Parameter(new, tensor.requires_grad)
        memo[id(tensor)] = new
    with _CopiesComputed():
        try:
            copied: nn.Module = copy.deepcopy(model, dict(memo))
        except TypeError:
            for module in model.modules():
                _share_uncopyable(vars(module).values(), memo)
            copied = copy.deepcopy(model, memo)
    for module, own in zip(model.modules(), copied.modules(), strict=True):
        own.training = module.training
        if isinstance(module, fx.GraphModule):  # which copies its graph alone
            _complete(module, own, memo)
    return copied


class _CopiesComputed(TorchFunctionMode):
    """Copies tensors that were computed with gradients (maps that a forward keeps), without them.

    deepcopy refuses those.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            return args[0].detach().clone()
        return func(*args, **(kwargs or {}))


def _share_uncopyable(values: Iterable[Any], memo: dict[int, Any]) -> None:
    """Put into the memo of a deep copy, as they are, the values that cannot be copied."""
    for value in values:
        if isinstance(value, nn.Module | Tensor) or id(value) in memo:
            continue
        if _can_copy(value, memo):
            continue
        if isinstance(value, dict):
            _share_uncopyable(value.values(), memo)
        elif isinstance(value, list | tuple | set):
            _share_uncopyable(value, memo)
        if not _can_copy(value, memo):
            memo[id(value)] = value


def _can_copy(value: Any, memo: dict[int, Any]) -> bool:
    try:
        copy.deepcopy(value, dict(memo))
    except TypeError:
        return False
    return True


def _complete(old: fx.GraphModule, new: nn.Module, memo: dict[int, Any]) -> None:
    """Hooks and attributes of a traced module that its own copy left behind."""
    for name, value in vars(old).items():
        hooks = name.endswith("_hooks") and value and not vars(new).get(name)
        if hooks or (name not in vars(new) and not name.startswith("_")):
            vars(new)[name] = copy.deepcopy(value, memo)


def find_layout(tensor: Tensor) -> torch.memory_format:
    """The memory format of a tensor: channels_last only where it could not be another."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.ndim)
    if last is None or tensor.is_contiguous() or not tensor.is_contiguous(memory_format=last):
        return torch.contiguous_format
    return last


def find_place(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where a model's weights are and in which kind of float; ValueError where it has none."""
    tensors = [*model.parameters(), *model.buffers()]
    kinds = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    if any(tensor.is_meta for tensor in tensors):
        raise ValueError(
            f"the {type(model).__name__} is on the meta device, which has shapes and no weights: "
            "load some, or model.to_empty(device='cpu')"
        )
    device = tensors[0].device if tensors else torch.device("cpu")
    return device, kinds[0] if kinds else torch.float32


def widen(tensor: Tensor) -> Tensor:
    """In float32 where it is of a float with fewer bits, whose sums overflow."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def like_model(model: nn.Module, x: Tensor) -> Tensor:
    """A copy of an input, on the model's device and in its kind of float."""
    first = next(model.parameters(), x)
    return x.to(first.device, first.dtype if x.is_floating_point() else x.dtype, copy=True)
