"""What shape a module gives: of a plain layer by torch's formulas, without running it."""

from typing import Any

from torch import Tensor, nn

from prunelab.utils.modules import CONVS, NORMS

# what leaves a shape as it is
SAME_SHAPE = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.Identity)


def run_module(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a module gives; of a plain layer, which takes time and tells but a shape, zeros."""
    shape = _shape_after(module, args[0]) if len(args) == 1 and not kwargs else None
    if shape is None:
        return module(*args, **kwargs)
    if shape == tuple(args[0].shape) and not isinstance(module, CONVS):
        same = isinstance(module, nn.Identity) or getattr(module, "inplace", False)
        return args[0] if same else args[0].detach()  # another tensor, of the same numbers
    return args[0].new_zeros(shape)


def _shape_after(module: nn.Module, x: Any) -> tuple[int, ...] | None:
    """The shape that a plain layer gives, by torch's formulas; None where only a run tells."""
    plain = isinstance(x, Tensor) and type(module) in (*CONVS, *NORMS, *SAME_SHAPE, nn.Linear)
    if not plain or module._forward_pre_hooks or module._forward_hooks:
        return None
    if isinstance(module, nn.Linear):
        fits = x.ndim and x.shape[-1] == module.in_features
        return (*x.shape[:-1], module.out_features) if fits else None
    if isinstance(module, SAME_SHAPE):
        return tuple(x.shape)
    if isinstance(module, NORMS):
        return tuple(x.shape) if x.ndim > 2 and x.shape[1] == module.num_features else None
    assert isinstance(module, CONVS)
    dims = len(module.kernel_size)
    if x.ndim != dims + 2 or x.shape[1] != module.in_channels or isinstance(module.padding, str):
        return None
    sizes = []
    for d in range(dims):
        reach = module.dilation[d] * (module.kernel_size[d] - 1) + 1
        spare = x.shape[2 + d] + 2 * module.padding[d] - reach
        if spare < 0:
            return None
        sizes.append(spare // module.stride[d] + 1)
    return (x.shape[0], module.out_channels, *sizes)
