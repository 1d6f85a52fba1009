"""One run of a model, written down: every operator that its code calls becomes a node of a graph.

The model really runs, so its code may do whatever Python can: loop, branch on shapes, keep maps in
lists, ask for types. Convolutions and other plain layers give zeros of the right shape.
"""

import operator
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from prunelab.graph.calls import leaves
from prunelab.graph.operators import RULES
from prunelab.graph.tracing.code import Unfollowed, explain
from prunelab.graph.tracing.numbers import Float, Int, Number, Sizes, plain
from prunelab.graph.tracing.shapes import run_module
from prunelab.graph.tracing.spelling import ASIDE, NUMBERS, before_casts, holds_if_finite, spell
from prunelab.utils.modules import CONVS

LAYERS = (*CONVS, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
WIDTHS = range(2, 1 << 16)  # what may be a number of channels
# numbers that are never of channels
GEOMETRY = {"kernel_size", "stride", "padding", "dilation", "output_padding", "inplace"}
SAME_TENSOR = {torch.ops.aten.detach.default, torch.ops.aten.alias.default}
LOOKS = "a branch on the values of a tensor"


class LayerCall(NamedTuple):
    """A layer that ran inside a module which cannot be followed."""

    name: str
    layer: nn.Module
    given: torch.Size
    made: torch.Size


class Opaque(NamedTuple):
    """A module that was taken as a whole."""

    why: str
    calls: list[LayerCall]


class Recorder(TorchFunctionMode):
    """Writes a run of a model down as a torch.fx graph.

    Attributes:
        graph: what was written.
        values: {node: what it gave, tensors as their shapes on the meta device}.
        opaque: {module taken as a whole: why, and its layers}.
        plainly_read: (module, attribute) whose number some code got as it is.
    """

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.root = root
        self.graph = fx.Graph()
        self.values: dict[fx.Node, Any] = {}
        self.opaque: dict[str, Opaque] = {}
        self.plainly_read: set[tuple[str, str]] = set()
        self.paths: dict[int, str] = {}
        for name, module in root.named_modules():
            self.paths.setdefault(id(module), name)
        self.names: dict[int, str] = {}
        for name, tensor in (*root.named_parameters(), *root.named_buffers()):
            self.names.setdefault(id(tensor), name)
        self.nodes: dict[int, fx.Node] = {}  # of tensors and numbers, by their id
        self.attributes: dict[str, fx.Node] = {}
        self.inside: set[fx.Node] = set()  # nodes that depend on what is in the inputs
        self.kept: list[Any] = []  # so that no id comes twice
        self.within = [f"{type(root).__name__}.forward"]
        self.thread: int | None = None
        self.busy = False
        self.unseen = ""  # an operator called out of sight; compiled code has words of its own
        self.plainly = False  # the numbers that modules have are given as they are

    # -- while it runs ---------------------------------------------------------------------------

    @property
    def listening(self) -> bool:
        return self.thread == threading.get_ident() and not self.busy

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        before, self.busy = self.busy, True
        try:
            yield
        finally:
            self.busy = before

    @contextmanager
    def running(self) -> Iterator[None]:
        """Listen to this thread: torch's functions, modules' calls, numbers that modules have."""
        call = nn.Module.__call__

        def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if not self.listening or id(module) not in self.paths or module is self.root:
                return call(module, *args, **kwargs)
            return self._call_module(module, args, kwargs)

        def getattribute(module: nn.Module, name: str) -> Any:
            value = object.__getattribute__(module, name)
            if type(value) not in (int, list, tuple) or self.thread != threading.get_ident():
                return value
            if self.plainly and id(module) in self.paths:
                self.plainly_read.add((self.paths[id(module)], name))
            followed = self.listening and not self.plainly
            return self._follow_attribute(module, name, value) if followed else value

        self.thread = threading.get_ident()
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(nn.Module, "__call__", called))
            nn.Module.__getattribute__ = getattribute  # type: ignore[method-assign,assignment]
            stack.callback(delattr, nn.Module, "__getattribute__")
            stack.enter_context(_Unseen(self))
            stack.enter_context(self)
            stack.callback(setattr, self, "thread", None)
            yield

    def place(self, x: Tensor, name: str) -> Tensor:
        """An input of the model."""
        node = self.graph.placeholder(name)
        self.values[node] = _outline(x)
        self.inside.add(node)
        return self._keep(node, x)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.listening:
            return func(*args, **kwargs)
        with self._quiet():
            value = func(*plain(args), **plain(kwargs))
        if getattr(func, "__name__", "") == "__set__":
            return self._follow_assignment(func.__self__.__name__, *args)  # type: ignore[attr-defined]
        op, target, args = spell(func, args)
        name = str(args[1]) if target is getattr else getattr(target, "__name__", target)
        given = leaves((args, kwargs))
        tensors = [leaf for leaf in given if isinstance(leaf, Tensor)]
        if name in ("shape", "size") and tensors:
            return self._follow_sizes(tensors[0], args, kwargs, value)
        made = any(isinstance(leaf, Tensor) for leaf in leaves(value))
        if (name in ASIDE and not made) or not (tensors or made):
            return value
        asks = not made and value is not None and name not in NUMBERS
        inside = any(self._node(leaf) in self.inside for leaf in tensors)
        if asks and inside and not (name == "item" and type(value) is float):
            # a guard against NaN and infinity: finite numbers, pruned or not, go one way only
            if name in ("__bool__", "item") and value is holds_if_finite(self._node(tensors[0])):
                return value
            raise Unfollowed(LOOKS)
        node = self._note(op, target, args, kwargs, value)
        if made:
            return self._keep(node, value)
        if name == "item" and inside:
            return self._number(value, lambda: node, inside=True)
        if name in NUMBERS and name != "len":
            return self._number(value, lambda: node)
        return value

    def _follow_assignment(self, attribute: str, x: Tensor, value: Any) -> None:
        """An attribute of a tensor was set; its data, to another tensor."""
        if attribute in ASIDE:
            return
        name = self.names.get(id(x))
        if attribute != "data":
            raise Unfollowed(f"the code sets the {attribute} of a tensor")
        if name is None:
            self.nodes[id(x)] = self._node(value)
            self.kept.append(x)
        elif before_casts(self._node(value)) is not self._node(x):
            raise Unfollowed(f"the code sets the data of {name}")

    def _follow_sizes(self, x: Tensor, args: Any, kwargs: Any, value: Any) -> Any:
        with self._quiet():
            sizes = tuple(x.shape)
        node = self._node(x)
        shape: list[fx.Node] = []  # made where a size is used

        def size(dim: int) -> Callable[[], fx.Node]:
            def make() -> fx.Node:
                if not shape or shape[0] not in self.values:  # not yet, or taken back
                    shape[:] = [self._note("call_function", getattr, (node, "shape"), {}, sizes)]
                return self._note(
                    "call_function", operator.getitem, (shape[0], dim), {}, sizes[dim]
                )

            return make

        if isinstance(value, tuple):
            return Sizes(self._number(n, size(d)) for d, n in enumerate(sizes))
        dim = args[1] if len(args) > 1 else kwargs["dim"]
        return self._number(value, size(plain(dim) % len(sizes)))

    def _follow_attribute(self, module: nn.Module, name: str, value: Any) -> Any:
        """A number that a module has, or several: of channels perhaps."""
        path = self.paths.get(id(module))
        if path is None or name in GEOMETRY or name.startswith("_") or name not in vars(module):
            return value
        target = f"{path}.{name}".removeprefix(".")
        if isinstance(value, int):
            node = lambda: self._attribute(target, value)  # noqa: E731
            return self._number(value, node) if value in WIDTHS else value

        def entry(i: int) -> Any:
            def make() -> fx.Node:
                args = self._attribute(target, value), i
                return self._note("call_function", operator.getitem, args, {}, value[i])

            return self._number(value[i], make) if value[i] in WIDTHS else value[i]

        if not value or any(type(n) is not int for n in value):
            return value
        return type(value)(map(entry, range(len(value))))

    def compute(self, operation: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """The result of an operation on numbers."""
        if not all(isinstance(arg, int | float) for arg in args):
            return NotImplemented
        value = operation(*plain(args))
        if not self.listening:
            return value
        inside = any(isinstance(arg, Number) and arg.inside for arg in args)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if inside and not is_number:
            raise Unfollowed(LOOKS)
        node = self._note("call_function", operation, args, {}, value)
        return self._number(value, lambda: node, inside=inside) if is_number else value

    def ask(self, kind: Callable[[Any], Any], number: Number) -> Any:
        """A number's value as plain Python wants it."""
        if self.listening and kind not in (str, repr):  # of which messages are made
            if number.inside:
                raise Unfollowed(LOOKS)
            self._note("call_function", kind, (number,), {}, number.value)
        return kind(number.value)

    # -- modules ---------------------------------------------------------------------------------

    def _call_module(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        name = self.paths[id(module)]
        compiled = module._modules.get("_orig_mod")
        if compiled is not None:
            return compiled(*args, **kwargs)
        if _is_leaf(module):
            if not (module._forward_hooks or module._forward_pre_hooks):
                return self._run_leaf(module, name, args, kwargs)
            # what hooks do is the model's own code too
            vars(module)["forward"] = lambda *a, **k: self._run_leaf(module, name, a, k)
            try:
                return module._call_impl(*args, **kwargs)
            finally:
                del vars(module)["forward"]
        self.within.append(name)
        try:
            return self.follow(lambda: module._call_impl(*args, **kwargs))
        except Exception as error:  # whatever its own forward raises, or nobody can follow
            if getattr(error, "raised_anyway", False):
                raise
            calls: list[LayerCall] = []
            value = self.run_whole(module, name, args, kwargs, calls)
            self.opaque[name] = Opaque(explain(error), calls)
            node = self._note("call_module", name, args, kwargs, value, self.within[-2])
            return self._keep(node, value)
        finally:
            self.within.pop()

    def follow(self, run: Callable[[], Any]) -> Any:
        """What a module's code gives; what it wrote down is taken back where that fails.

        Code that wants plain numbers from its module's attributes gets them the second time.
        """
        last = next(iter(reversed(self.graph.nodes)), None)
        before = dict(self.nodes), dict(self.attributes), self.plainly
        for plainly in (False, True):
            self.plainly = self.plainly or plainly
            try:
                return run()
            except Exception as error:
                self._forget(last)
                self.nodes, self.attributes = dict(before[0]), dict(before[1])
                unseen, self.unseen = self.unseen, ""
                if unseen:
                    raise Unfollowed(unseen) from error
                again = not plainly and not before[2]
                if isinstance(error, Unfollowed) or getattr(error, "raised_anyway", not again):
                    raise
            finally:
                self.plainly = before[2]
        raise AssertionError

    def _run_leaf(self, module: nn.Module, name: str, args: Any, kwargs: Any) -> Any:
        own = vars(module).pop("forward", None)
        before, self.plainly = self.plainly, False  # a layer's own code knows its widths
        with self._quiet():
            value = run_module(module, plain(args), plain(kwargs))
        self.plainly = before
        if own:
            vars(module)["forward"] = own
        return self._keep(self._note("call_module", name, args, kwargs, value), value)

    def run_whole(
        self, module: nn.Module, name: str, args: Any, kwargs: Any, calls: list[LayerCall]
    ) -> Any:
        """What a module gives, unwatched but for its layers."""

        def note(prefix: str) -> Callable[..., None]:
            def hook(layer: nn.Module, given: tuple[Any, ...], made: Tensor) -> None:
                calls.append(LayerCall(prefix, layer, given[0].shape, made.shape))

            return hook

        with ExitStack() as stack:
            for child, layer in module.named_modules():
                if isinstance(layer, LAYERS):
                    hook = note(f"{name}.{child}".strip("."))
                    stack.callback(layer.register_forward_hook(hook).remove)
            stack.enter_context(self._quiet())
            before, self.plainly = self.plainly, True
            stack.callback(setattr, self, "plainly", before)
            try:
                return module._call_impl(*plain(args), **plain(kwargs))
            except Exception as error:
                error.raised_anyway = True  # type: ignore[attr-defined]
                raise

    # -- the graph -------------------------------------------------------------------------------

    def _note(
        self, op: str, target: Any, args: Any, kwargs: Any, value: Any, within: str = ""
    ) -> fx.Node:
        args, kwargs = fx.node.map_aggregate((args, kwargs), self._argument)
        node = self.graph.create_node(op, target, args, kwargs)
        node.meta["within"] = within or self.within[-1]
        if any(source in self.inside for source in node.all_input_nodes):
            self.inside.add(node)
        with self._quiet():
            self.values[node] = fx.node.map_aggregate(value, _outline)
        return node

    def finish(self, value: Any) -> None:
        """Write down what the model returns."""
        self.graph.output(fx.node.map_aggregate(value, self._returned))

    def _returned(self, value: Any) -> Any:
        """A leaf of what comes out; of a data class, or another object, what it holds."""
        if isinstance(value, Tensor | Number | nn.Module | type) or not hasattr(value, "__dict__"):
            return self._argument(value)
        return fx.node.map_aggregate(vars(value), self._returned)

    def close(self) -> None:
        """Let go of the run's tensors: the numbers that are left of it know the recorder."""
        self.kept.clear()
        self.nodes.clear()

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._node(value)
        if isinstance(value, Number):
            return self._node(value) if value.follower is self else value.value
        return value

    def _node(self, value: Any) -> fx.Node:
        if isinstance(value, fx.Node):
            return value
        if id(value) in self.names:
            return self._attribute(self.names[id(value)], value)
        if id(value) not in self.nodes:
            if isinstance(value, Number):
                self.nodes[id(value)] = value.make()
            else:  # one that the model's code holds
                name = f"_tensor_constant{len(self.attributes)}"
                setattr(self.root, name, value)
                self.nodes[id(value)] = self._attribute(name, value)
            self.kept.append(value)
        return self.nodes[id(value)]

    def _attribute(self, name: str, value: Any) -> fx.Node:
        if name not in self.attributes:
            self.attributes[name] = self._note("get_attr", name, (), {}, value)
        return self.attributes[name]

    def _number(self, value: Any, make: Callable[[], fx.Node], *, inside: bool = False) -> Any:
        kind = Int if isinstance(value, int) else Float
        return kind(value, self, make, inside=inside)

    def _keep(self, node: fx.Node, value: Any) -> Any:
        """Remember which node gave a tensor, or several."""
        if isinstance(value, Tensor):
            self.kept.append(value)
            self.nodes[id(value)] = node
        elif isinstance(value, tuple | list | dict):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                if any(isinstance(leaf, Tensor) for leaf in leaves(item)):
                    part = self._note("call_function", operator.getitem, (node, key), {}, item)
                    self._keep(part, item)
        return value

    def rename(self, x: Tensor, same: Tensor) -> Tensor:
        """Another object that is the same tensor."""
        return self._keep(self._node(x), same)

    def _forget(self, last: fx.Node | None) -> None:
        """Take back what came after a node."""
        for node in reversed(self.graph.nodes):
            if node is last:
                break
            self.graph.erase_node(node)
            self.values.pop(node, None)
            self.inside.discard(node)


class _Unseen(TorchDispatchMode):
    """Stops at operators that torch's functions did not show: those of compiled code, say."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # else torch would load its compiler for this class
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = func(*args, **(kwargs or {}))
        if not self.recorder.listening:
            return value
        if func is torch.ops.aten.lift_fresh.default:  # of what the code made of plain numbers
            return value
        if func in SAME_TENSOR:
            return self.recorder.rename(args[0], value)
        self.recorder.unseen = f"{func} is called out of sight, by compiled code say"
        raise Unfollowed(self.recorder.unseen)


def _is_leaf(module: nn.Module) -> bool:
    """Whether a module is one operator: it has a rule, or is torch's own.

    Not where something computes its weight (weight norm, a mask): that is code to follow.
    """
    if "parametrizations" in module._modules or isinstance(vars(module).get("weight"), Tensor):
        return False
    if "forward" in vars(module):  # one that was put in place of its class's
        return False
    kind = type(module)
    ruled = next((base for base in kind.__mro__ if base in RULES), None)
    if isinstance(module, torch.jit.ScriptModule) or kind is ruled:
        return True
    if ruled is not None and all(  # another name for it
        getattr(kind, name, None) is getattr(ruled, name, None)
        for name in ("forward", "_conv_forward")
    ):
        return True
    if f"{kind.__module__}.{kind.__qualname__}" in RULES:
        return True
    own = kind.__module__.startswith("torch.nn.modules")
    return own and not isinstance(module, nn.Sequential)


def _outline(value: Any) -> Any:
    """What is remembered of a value: of a tensor, the shape."""
    if isinstance(value, Tensor):
        return torch.empty(value.shape, device="meta", dtype=value.dtype)
    return value.value if isinstance(value, Number) else value
