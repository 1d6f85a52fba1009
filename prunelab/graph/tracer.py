"""A model's forward as a graph of operators, by torch.fx.

What it cannot follow is taken as a whole, with the reason.
"""

import inspect
import operator
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from prunelab.graph.labels import leaves
from prunelab.graph.operators import RULES
from prunelab.graph.shapes import run_module

# numbers of channels that pruning changes, by the classes that have them
WIDTHS = ("in_channels", "out_channels", "in_features", "out_features", "num_features")
WIDE = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase)
# what may be asked of a tensor without looking inside
SHAPE = {
    *("shape", "size", "dim", "ndim", "ndimension", "numel", "nelement", "len", "element_size"),
    *("device", "dtype", "layout", "requires_grad", "is_contiguous", "get_device"),
    *("is_cuda", "is_meta", "is_floating_point", "is_complex"),
}
MAKERS = ("zeros", "ones", "full", "empty", "rand", "randn")
# fx and we put hooks into torch's classes while a model is traced
_ONE_AT_A_TIME = threading.RLock()


class Unfollowed(Exception):
    """A forward that torch.fx cannot follow."""


class Trace(fx.GraphModule):
    """A traced model.

    Attributes:
        opaque: {module taken as a whole: why}.
        widths: (module, attribute) that its code read.
    """

    opaque: dict[str, str]
    widths: set[tuple[str, str]]


def trace_forward(skeleton: nn.Module, inputs: tuple[Tensor, ...]) -> Trace:
    """The traced model, in evaluation mode; Unfollowed where its own forward cannot be followed.

    `inputs` are the first arguments of forward; the others have their defaults.
    """
    tracer = _Tracer(inputs)
    try:
        with (
            _ONE_AT_A_TIME,
            _watch_widths(skeleton, tracer) as widths,
            _patched(tracer),
            torch.no_grad(),
            torch.random.fork_rng(devices=[]),
        ):
            graph = tracer.trace(skeleton, concrete_args=_defaults(skeleton, len(inputs)))
    except Exception as error:  # whatever the model's own forward raises on a symbolic input
        raise Unfollowed(explain(error)) from error
    traced = Trace(skeleton, graph)
    traced.opaque, traced.widths = tracer.opaque, widths
    return traced.eval()


class _Tracer(fx.Tracer):
    """Takes modules with a rule, and those whose forward cannot be followed, as a whole.

    Where the code asks for a length, loops over a tuple, or branches on a shape, the answer is that
    of the inputs.
    """

    proxy_buffer_attributes = True

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.inputs = inputs
        self.opaque: dict[str, str] = {}  # module -> why its forward cannot be followed
        self.values: dict[fx.Node, Any] = {}  # of the nodes so far, once one has been asked for
        # modules and parameters are then what they are, not what fx puts in their place
        self.evaluating = False

    def to_bool(self, obj: fx.Proxy) -> bool:
        value = self.value(obj)
        if isinstance(value, Tensor) or self._looks_inside(obj.node):
            raise fx.proxy.TraceError("a branch on the values of a tensor")
        return bool(value)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        return iter([obj[i] for i in range(len(self.value(obj)))])  # type: ignore[index]

    def length(self, obj: fx.Proxy) -> int:
        self.create_proxy("call_function", len, (obj,), {})  # for the walk to see that it was asked
        return len(self.value(obj))

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self.evaluating:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def value(self, obj: fx.Proxy) -> Any:
        """What a node gives for the inputs."""
        self.evaluating = True
        try:
            return self._evaluate(obj.node)
        finally:
            self.evaluating = False

    def _evaluate(self, wanted: fx.Node) -> Any:
        given = iter(self.inputs)
        for node in self.graph.nodes:
            if node in self.values:
                continue
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.values.__getitem__)
            if node.op == "placeholder":
                value = next(given, args[0] if args else None)
            elif node.op == "get_attr":
                value = operator.attrgetter(node.target)(self.root)
            elif node.op == "call_module":
                value = run_module(self.root.get_submodule(node.target), args, kwargs)
            elif node.op == "call_method":
                value = getattr(args[0], node.target)(*args[1:], **kwargs)
            else:
                value = node.target(*args, **kwargs)
            self.values[node] = value
        return self.values[wanted]

    def _looks_inside(self, node: fx.Node) -> bool:
        """Whether a number comes from what is in a tensor, not from its shape."""
        name = getattr(node.target, "__name__", node.target)
        if node.target is getattr:
            name = str(node.args[1])
        if any(isinstance(self.values[source], Tensor) for source in node.all_input_nodes):
            return name not in SHAPE
        return any(self._looks_inside(source) for source in node.all_input_nodes)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in RULES or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.evaluating:
            return forward(*args, **kwargs)
        last = next(iter(reversed(self.graph.nodes)), None)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:  # whatever this module's own forward raises on a symbolic input
            for node in list(reversed(self.graph.nodes)):
                if node is last:
                    break
                if node.op != "get_attr":  # fx hands these out again
                    self.graph.erase_node(node)
                self.values.pop(node, None)
            name = self.path_of_module(m)
            self.opaque[name] = explain(error)
            return self.create_proxy("call_module", name, args, kwargs)


@contextmanager
def _patched(tracer: _Tracer) -> Iterator[None]:
    """What fx itself refuses: `len` of a tensor, and tensors made in sizes that it follows."""

    def follow(make: Callable[..., Any]) -> Callable[..., Any]:
        def maker(*args: Any, **kwargs: Any) -> Any:
            if any(isinstance(size, fx.Proxy) for size in leaves(args)):
                return tracer.create_proxy("call_function", make, args, kwargs)
            return make(*args, **kwargs)

        return maker

    makers = {name: getattr(torch, name) for name in MAKERS}
    refuse = fx.Proxy.__len__
    fx.Proxy.__len__ = lambda self: tracer.length(self)  # type: ignore[method-assign]
    for name, make in makers.items():
        setattr(torch, name, follow(make))
    try:
        yield
    finally:
        fx.Proxy.__len__ = refuse  # type: ignore[method-assign]
        for name, make in makers.items():
            setattr(torch, name, make)


def explain(error: Exception) -> str:
    """What fx stumbled over: the line of the model's code, and fx's own first words."""
    foreign = (str(Path(torch.__file__).parent), "<", __file__)
    where = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.line and not frame.filename.startswith(foreign):
            where = f"at `{frame.line}` (line {frame.lineno} of {Path(frame.filename).name}): "
    return where + first_line(error)


def first_line(error: Exception) -> str:
    """What an error says first, or its kind."""
    return (str(error) or type(error).__name__).splitlines()[0]


@contextmanager
def _watch_widths(model: nn.Module, tracer: _Tracer) -> Iterator[set[tuple[str, str]]]:
    """Note which layers' widths the model's own code reads.

    Of these fx sees plain numbers, which pruning would change.
    """
    names = {id(module): name for name, module in model.named_modules()}
    read: set[tuple[str, str]] = set()

    def getattribute(self: nn.Module, attribute: str) -> Any:
        if attribute in WIDTHS and id(self) in names and not tracer.evaluating:
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


def _defaults(model: nn.Module, given: int) -> dict[str, Any]:
    """The arguments of forward that are not given but have a default: `mask=None`, say."""
    parameters = list(inspect.signature(model.forward).parameters.values())[given:]
    return {p.name: p.default for p in parameters if p.default is not p.empty}
