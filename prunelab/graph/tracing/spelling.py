"""How torch.fx writes a call, and what a tensor may be asked without a trace of it."""

import operator
from typing import Any

from torch import Tensor, fx

from prunelab.graph.tracing.numbers import ARITHMETIC

# what may be asked of a tensor without looking inside, and without a trace of it
ASIDE = {
    *("dim", "ndim", "ndimension", "element_size", "device", "dtype", "layout", "requires_grad"),
    *("is_contiguous", "get_device", "is_cuda", "is_meta", "is_floating_point", "is_complex"),
    *("is_leaf", "is_sparse", "is_quantized", "is_nested", "grad", "grad_fn", "names", "stride"),
    *("storage_offset", "is_inference", "__repr__", "__format__", "is_cpu", "is_mps", "is_xla"),
    *("is_tensor", "is_signed", "is_conj", "is_neg", "is_same_size", "__dir__", "is_shared"),
    *(
        "retain_grad",
        "register_hook",
        "record_stream",
        "has_names",
        "can_cast",
        "result_type",
        "is_grad_enabled",
        "is_autocast_enabled",
        "type",
        "_has_compatible_shallow_copy_type",
    ),
}
# what gives the same numbers, somewhere else or of another kind
CASTS = {"to", "type", "float", "double", "half", "bfloat16", "cpu", "cuda", "contiguous", "clone"}
CASTS |= {"detach", "data", "requires_grad_"}
NUMBERS = {"numel", "nelement", "len"}  # of a shape
OPERATORS = {"getitem", "setitem", "eq", "and", "or", "xor", "invert", "floordiv", "iadd", "isub"}
OPERATORS |= {"imul", "ifloordiv", "imod", "iand", "ior", "ixor", "lshift", "rshift"}
# what holds of numbers that are finite
OF_FINITE = {("any", "isnan"): False, ("any", "isinf"): False, ("all", "isfinite"): True}


def spell(func: Any, args: tuple[Any, ...]) -> tuple[str, Any, tuple[Any, ...]]:
    """A call as torch.fx would write it."""
    name = getattr(func, "__name__", str(func))
    if name == "__get__":  # x.T, say
        return "call_function", getattr, (args[0], func.__self__.__name__)
    if name == "__len__":
        return "call_function", len, args
    bare = name.strip("_")
    if name.startswith("__") and bare in OPERATORS:
        return "call_function", getattr(operator, f"{bare}_", getattr(operator, bare, None)), args
    for spelled in (bare.removeprefix("r"), bare.removeprefix("r").replace("div", "truediv")):
        if name.startswith("__r") and spelled in ARITHMETIC:
            return "call_function", getattr(operator, spelled), args[::-1]
    if getattr(Tensor, name, None) is func or getattr(func, "__module__", "") == "torch._tensor":
        return "call_method", name, args
    return "call_function", func, args


def before_casts(node: fx.Node) -> fx.Node:
    """The node whose numbers a node gives, cast or moved perhaps."""
    while node.args and isinstance(node.args[0], fx.Node):
        name = node.args[1] if node.target is getattr else node.target
        if name not in CASTS:
            break
        node = node.args[0]
    return node


def holds_if_finite(node: fx.Node) -> bool | None:
    """The answer of a node that asks nothing but whether all numbers are finite; None of others."""
    inner = node.args[0] if len(node.args) == 1 and not node.kwargs else None
    if not isinstance(inner, fx.Node):
        return None
    outer_name, name = (getattr(n.target, "__name__", n.target) for n in (node, inner))
    return OF_FINITE.get((str(outer_name), str(name)))
