"""A model's forward as a graph of operators, by torch.fx; what it cannot follow is taken as a whole, with the reason."""

import copy
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from prunelab.operators import RULES

# numbers of channels that pruning changes, by the classes that have them
WIDTHS = ("in_channels", "out_channels", "in_features", "out_features", "num_features")
WIDE = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase)


class Unfollowed(Exception):
    """A forward that torch.fx cannot follow."""


class Trace(fx.GraphModule):
    """A traced model. opaque: modules taken as a whole, and why. widths: (module, attribute) that its code read."""

    opaque: dict[str, str]
    widths: set[tuple[str, str]]


def trace_forward(skeleton: nn.Module, inputs: int) -> Trace:
    """The traced model, in evaluation mode; Unfollowed where its own forward cannot be followed.

    inputs: how many arguments forward is given; the others have their defaults.
    """
    tracer = _Tracer()
    try:
        with _watch_widths(skeleton) as widths:
            graph = tracer.trace(skeleton, concrete_args=_defaults(skeleton, inputs))
    except Exception as error:  # whatever the model's own forward raises on a symbolic input
        raise Unfollowed(explain(error)) from error
    traced = Trace(skeleton, graph)
    traced.opaque, traced.widths = tracer.opaque, widths
    return traced.eval()


class _Tracer(fx.Tracer):
    """Takes modules with a rule, and those whose forward cannot be followed, as a whole."""

    proxy_buffer_attributes = True
    trace_asserts = True

    def __init__(self) -> None:
        super().__init__()
        self.opaque: dict[str, str] = {}  # module -> why its forward cannot be followed

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in RULES or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        last = next(iter(reversed(self.graph.nodes)), None)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:  # whatever this module's own forward raises on a symbolic input
            for node in list(reversed(self.graph.nodes)):
                if node is last:
                    break
                if node.op != "get_attr":  # fx hands these out again
                    self.graph.erase_node(node)
            name = self.path_of_module(m)
            self.opaque[name] = explain(error)
            return self.create_proxy("call_module", name, args, kwargs)


def explain(error: Exception) -> str:
    """What fx stumbled over: the line of the model's code, and fx's own first words."""
    torch_home = str(Path(torch.__file__).parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((torch_home, "<"))]
    here = [frame for frame in frames if Path(frame.filename) != Path(__file__) and frame.line]
    where = f"at `{here[-1].line}` (line {here[-1].lineno} of {Path(here[-1].filename).name}): " if here else ""
    return where + first_line(error)


def first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


@contextmanager
def _watch_widths(model: nn.Module) -> Iterator[set[tuple[str, str]]]:
    """Note which layers' widths the model's own code reads: fx sees plain numbers, which pruning would change."""
    names = {id(module): name for name, module in model.named_modules()}
    read: set[tuple[str, str]] = set()

    def getattribute(self: nn.Module, attribute: str) -> Any:
        if attribute in WIDTHS and id(self) in names:
            read.add((names[id(self)], attribute))
        return object.__getattribute__(self, attribute)

    for kind in WIDE:
        kind.__getattribute__ = getattribute  # type: ignore[method-assign,assignment]
    try:
        yield read
    finally:
        for kind in WIDE:
            del kind.__getattribute__


def reads_training(model: nn.Module) -> bool:
    """Whether the code of any module asks for `self.training`, so that training may do something else."""
    kinds = {kind for module in model.modules() for kind in type(module).__mro__}
    return any("training" in _names_in(kind) for kind in kinds if not kind.__module__.startswith("torch."))


def _names_in(kind: type) -> set[str]:
    """The attributes and variables that a class's methods name."""
    codes = [method.__code__ for method in vars(kind).values() if inspect.isfunction(method)]
    names: set[str] = set()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [constant for constant in code.co_consts if inspect.iscode(constant)]
    return names


def _defaults(model: nn.Module, given: int) -> dict[str, Any]:
    """The arguments of forward that are not given but have a default: `mask=None`, say."""
    parameters = list(inspect.signature(model.forward).parameters.values())[given:]
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def copy_with(model: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A deep copy of a model whose parameters and buffers are `change(tensor)` instead of copies."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        new = change(tensor).detach()
        memo[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new
    for module in model.modules():  # a weight that a hook computes, which deepcopy refuses
        computed = [v for v in vars(module).values() if isinstance(v, Tensor) and v.grad_fn is not None]
        memo.update({id(tensor): tensor.detach().clone() for tensor in computed})
    return copy.deepcopy(model, memo)
