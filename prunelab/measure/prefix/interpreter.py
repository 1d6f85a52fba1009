"""A traced network run piece by piece, with parts of it replaced, and the values that it makes."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from prunelab.utils.modules import CONVS, NORMS

# what makes a tensor of its own, never a view of another
FRESH: set[Any] = {*CONVS, nn.ConvTranspose2d, F.conv2d, nn.Linear, F.linear}
FRESH |= {*NORMS, nn.LayerNorm, nn.GroupNorm}
FRESH |= {operator.add, operator.mul, operator.sub, torch.add, torch.mul, torch.cat}
FRESH |= {"add", "mul", "sub", "div"}
FRESH |= {nn.AvgPool2d, nn.AdaptiveAvgPool2d, F.avg_pool2d, F.adaptive_avg_pool2d}
FRESH |= {nn.SiLU, nn.GELU, nn.Sigmoid, nn.Hardsigmoid, torch.sigmoid, F.gelu}
# what writes to its first argument, besides methods and functions with a name that ends in _
IN_PLACE = {"setitem", "iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"}
IN_PLACE |= {"iand", "ior", "ixor"}
Values = dict[fx.Node, Any]  # what the nodes of a run made


class PartialRun(fx.Interpreter):
    """Runs pieces of a traced network on values that it is given."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.nodes = list(traced.graph.nodes)
        self.parts: dict[str, Any] = {}
        self.faster: dict[str, Any] = {}  # what computes the same as a module of the network

    def begin(self, *inputs: Tensor) -> None:
        """Take the inputs of a new run."""
        self.args_iter = iter(self.module.graph.process_inputs(*inputs))  # type: ignore[union-attr,operator]

    def go(self, env: Values, start: int, stop: int, parts: dict[str, Any]) -> Any:
        """Run nodes `start` to `stop`, with parts in place of what the network has.

        Values that are not needed any more leave `env`. Returns what the last node made.
        """
        self.env, self.parts = env, parts
        out = None
        for node in self.nodes[start:stop]:
            out = env[node] = self.run_node(node)
            for dead in self.user_to_last_uses.get(node, ()):
                env.pop(dead, None)
        return out

    def fetch_attr(self, target: str) -> Any:
        for own in (self.parts, self.faster):
            if target in own:
                return own[target]
        return super().fetch_attr(target)

    def kind(self, node: fx.Node) -> Any:
        """The class of the module that a node runs, or the function or method itself."""
        if node.op == "call_module":
            return type(self.module.get_submodule(str(node.target)))
        return node.target

    def writes(self, i: int, start: int) -> list[fx.Node]:
        """What was made before node `start` and node `i` may write to in place.

        By itself, or through a view.
        """
        node = self.nodes[i]
        found, todo = [], list(node.all_input_nodes[:1]) if self._is_in_place(node) else []
        fx.node.map_arg(node.kwargs.get("out"), todo.append)
        while todo:
            source = todo.pop()
            if self.nodes.index(source) < start:
                found.append(source)
            elif self.kind(source) not in FRESH:  # perhaps a view of what went in
                todo += source.all_input_nodes
        return found

    def _is_in_place(self, node: fx.Node) -> bool:
        """Whether a node writes to its first argument."""
        target = node.target
        if node.op == "call_module":
            return getattr(self.module.get_submodule(str(target)), "inplace", False)
        if node.op not in ("call_function", "call_method"):
            return False
        name = target if isinstance(target, str) else getattr(target, "__name__", "")
        flagged = node.kwargs.get("inplace") or any(flag is True for flag in node.args)
        return name.endswith("_") or name in IN_PLACE or bool(flagged)


def count_writes(env: Values) -> list[int]:
    """A count for each tensor, which grows when it is written to."""
    return [value._version for value in env.values() if isinstance(value, Tensor)]


def select_maps(maps: Tensor, some: Tensor, memory_format: torch.memory_format) -> Tensor:
    """(n, channels, h, w) -> (n, some, h, w), in the same memory format."""
    index = some.nonzero().squeeze(1).to(maps.device)
    if memory_format == torch.contiguous_format:
        return maps.index_select(1, index)
    # in channels_last, a plain selection would not stay in it
    return maps.movedim(1, -1).index_select(-1, index).movedim(-1, 1)


def stack_runs(runs: Sequence[Values], n: int) -> Values | None:
    """The values of several runs over n images as those of one; None where they do not fit."""
    together: Values = {}
    for node, first in runs[0].items():
        values = [run[node] for run in runs]
        if node.op == "get_attr":
            together[node] = first
            continue
        for value in values:
            if not isinstance(value, Tensor) or value.shape != first.shape:
                return None
        if first.ndim == 0 or len(first) != n:
            return None
        together[node] = torch.cat(values)
    return together
