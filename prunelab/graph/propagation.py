"""Labels carried through a traced model: beside each tensor go the labels of its channels."""

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from prunelab.graph.labels import Call, Channels, Count, Maps, leaves
from prunelab.graph.operators import KNOWS_COUNTS, KNOWS_PARAMETERS, find_rule, spread
from prunelab.graph.shapes import run_module
from prunelab.graph.tracer import SHAPE, Trace, first_line
from prunelab.utils.modules import CONVS

# what may be done with a number of channels so that it still follows them
COUNTING = (operator.mul, operator.floordiv, operator.getitem, operator.add)
# what a rule may raise when a call is not as it expects
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
TORCH_NAMES = {"axis": "dim", "axes": "dim", "keepdims": "keepdim"}


class Propagation(fx.Interpreter):
    """Run a traced model, and carry beside each tensor its labels."""

    def __init__(self, traced: Trace, skeleton: nn.Module, channels: Channels) -> None:
        super().__init__(traced)
        self.skeleton = skeleton
        self.channels = channels
        self.opaque = traced.opaque
        channels.widths_read |= traced.widths
        # node -> its value with Maps and Counts in place of tensors and numbers
        self.beside: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        name = str(n.target)
        if n.op == "call_module" and name in self.opaque:
            module, why = self.fetch_attr(name), self.opaque[name]
            with record_layers(module, name, self.channels, why):
                value = super().run_node(n)
        else:
            value = super().run_node(n)
        args, kwargs = fx.node.map_arg((n.args, n.kwargs), lambda node: self.beside[node])
        self.beside[n] = self._beside(n, value, args, kwargs)
        return value

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        return run_module(self.fetch_attr(target), args, kwargs)

    def _beside(self, n: fx.Node, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = [v for v in leaves(value) if isinstance(v, Tensor)]
        if n.op == "output":
            for maps in leaves(args):
                if isinstance(maps, Maps):
                    why = "the model returns its maps, so its user reads them"
                    self.channels.refuse(maps.labels, why)
            return None
        if n.op in ("placeholder", "get_attr") and tensors:
            return fx.node.map_aggregate(value, lambda v: self._start(n, v))
        if isinstance(n.target, type):  # a named tuple or a data class of the model's own
            return self._follow_structure(n, value, args, kwargs)
        if not tensors:
            return self._follow_number(n, value, args)
        if n.target is operator.getitem and not isinstance(args[0], Maps):
            return args[0][args[1]]  # one tensor of several
        name = str(n.target)
        module = self.fetch_attr(name) if n.op == "call_module" else None
        kind = type(module).__name__ if module is not None else getattr(n.target, "__name__", name)
        if kind == "getattr":  # x.T, say
            kind, args = str(args[1]), args[:1]
        args, kwargs = _as_torch_names(args, kwargs)
        shapes = tuple(tensor.shape for tensor in tensors)
        place = name if module is not None else n.name
        call = Call(kind, place, self._within(n), module, args, kwargs, shapes, self.channels)
        self.channels.called.update([name] if module is not None else [])
        return self._label(value, call, all(maps.bare for maps in call.maps))

    def _label(self, value: Any, call: Call, bare: bool) -> Any:
        """The value with Maps in place of its tensors, as the operator's rule has it."""
        if call.module is not None and call.name in self.opaque:
            labels = call.refuse(f"whose forward cannot be followed, {self.opaque[call.name]}")
            return fx.node.map_aggregate(value, lambda v: _relabel(v, labels, bare))
        rule = find_rule(call)
        counts = [c for c in _with_slices(call.args, call.kwargs) if isinstance(c, Count)]
        if counts and rule not in KNOWS_COUNTS:
            self._refuse_counts(counts, call.where)
            args, kwargs = fx.node.map_aggregate((call.args, call.kwargs), _number_of)
            call = replace(call, args=args, kwargs=kwargs)
        if rule not in KNOWS_PARAMETERS:
            wide = (maps for maps in call.maps if maps.source and is_wide(maps.shape))
            self.channels.by_hand.update({maps.source: call.where for maps in wide})
        try:
            labels = rule(call)
        except FAULTS as error:
            labels = call.refuse(f"used in a way that its rule does not know ({first_line(error)})")
        module = call.module
        if module is not None and (module._forward_hooks or module._forward_pre_hooks):
            labels = self._refuse_hooked(call, labels)
        if isinstance(labels, list):  # of several tensors
            pairs = zip(value, labels, strict=True)
            return type(value)(Maps(v.shape, own, bare=bare) for v, own in pairs)
        return fx.node.map_aggregate(value, lambda v: _relabel(v, labels, bare))

    def _refuse_hooked(self, call: Call, labels: Any) -> Tensor:
        why = (
            f"{call.where} has a hook (weight norm is one of old), whose work cannot be followed; "
            "remove it to prune"
        )
        touched = [labels, self.channels.made.get(call.name), [maps.labels for maps in call.maps]]
        for own in leaves(touched):
            if own is not None:
                self.channels.refuse(own, why)
        return labels if isinstance(labels, Tensor) else call.refuse("which has a hook")

    def _follow_structure(
        self, n: fx.Node, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if isinstance(value, tuple):
            return n.target(*args, **kwargs)  # type: ignore[operator]
        for maps in leaves((args, kwargs)):
            if isinstance(maps, Maps):
                kind = type(value).__name__
                why = f"the model puts its maps into a {kind}, so its user reads them"
                self.channels.refuse(maps.labels, why)
        return value

    def _within(self, n: fx.Node) -> str:
        inner = [path for path in n.meta.get("nn_module_stack", {}) if path and path != n.target]
        return inner[-1] if inner else f"{type(self.skeleton).__name__}.forward"

    def _start(self, n: fx.Node, value: Any) -> Any:
        """An input, or a parameter or buffer that the model's code takes by itself."""
        if not isinstance(value, Tensor):
            return value
        name, channels, single = str(n.target), self.channels, [1] * value.ndim
        if n.op == "placeholder":
            why = "its maps are joined with the model's input, which no filter made"
            return Maps(value.shape, channels.fix(why).reshape(single))
        known = name in channels.alias
        owner = self.skeleton.get_submodule(name.rpartition(".")[0]) if known else None
        if n.users:
            channels.called.add(name)
        wide = [d for d, size in enumerate(value.shape) if size > 1]
        if known and len(wide) == 1:  # a vector has a label for each entry
            dims = channels.slices.setdefault(channels.alias[name], {})
            if wide[0] not in dims:
                channels.slice(name, wide[0], channels.new(value.shape[wide[0]]))
            return Maps(value.shape, spread(dims[wide[0]], value.ndim, wide[0]), name, owner, True)
        what = name if known else "a tensor that the model's code holds (register it as a buffer)"
        fixed = channels.fix(f"its maps are joined with {what}, which no filter made")
        return Maps(value.shape, fixed.reshape(single), name if known else "", owner, bare=True)

    def _follow_number(self, n: fx.Node, value: Any, args: tuple[Any, ...]) -> Any:
        """A number that the model's code works with; it follows the channels, if we know how."""
        name, source = getattr(n.target, "__name__", n.target), args[0] if args else None
        name = str(args[1]) if name == "getattr" else name
        where = f"{name} in {self._within(n)}"
        if isinstance(source, Maps) and name in ("size", "shape"):
            if source.source and is_wide(source.shape):  # the width of a layer, by its weight
                self.channels.by_hand.setdefault(source.source, where)
            sizes = tuple(source.size(d) for d in range(len(source.shape)))
            dim: Any = args[1] if name == "size" and len(args) > 1 else n.kwargs.get("dim")
            return sizes if dim is None else sizes[dim]
        if isinstance(source, Maps) and name in ("numel", "nelement", "len"):
            if name != "len" or (source.shape and source.varies(0)):
                self._refuse_counts([Count(source.labels.reshape(-1))], where)
            if source.source:
                self.channels.by_hand.setdefault(source.source, where)
        elif isinstance(source, Maps) and name not in SHAPE:
            why = f"its maps reach {where}, which makes a value of them"
            self.channels.refuse(source.labels, why)
        if n.target is len:
            return value
        if n.target in COUNTING:
            try:
                return n.target(*args)
            except TypeError:
                pass
        self._refuse_counts([c for c in _with_slices(args) if isinstance(c, Count)], where)
        return value

    def _refuse_counts(self, counts: list[Count], where: str) -> None:
        for count in counts:
            why = f"the model's code works with the number of its maps ({where})"
            self.channels.refuse(count.labels, why)


def _as_torch_names(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments by torch's own names (`axis` is `dim`), and the tensor they are about in front."""
    kwargs = {TORCH_NAMES.get(name, name): value for name, value in kwargs.items()}
    return ((kwargs.pop("input"),), kwargs) if not args and "input" in kwargs else (args, kwargs)


def _relabel(value: Any, labels: Tensor, bare: bool) -> Any:
    if not isinstance(value, Tensor):
        return value
    if labels.ndim != value.ndim:
        labels = labels.reshape(-1)[:1].reshape([1] * value.ndim)
    return Maps(value.shape, labels, bare=bare)


def is_wide(shape: torch.Size) -> bool:
    """Whether a tensor extends along several dimensions."""
    return sum(size > 1 for size in shape) > 1


def _number_of(value: Any) -> Any:
    return value.value if isinstance(value, Count) else value


def _with_slices(*values: Any) -> list[Any]:
    found = []
    for leaf in leaves(values):
        found += [leaf.start, leaf.stop, leaf.step] if isinstance(leaf, slice) else [leaf]
    return found


@contextmanager
def record_layers(module: nn.Module, name: str, channels: Channels, why: str) -> Iterator[None]:
    """While a module runs that cannot be followed, note its layers, whose filters must stay."""
    what = type(module).__name__ + (f" ({name})" if name else "")

    def note(prefix: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            fixed = channels.fix(f"its maps are inside {what}, whose forward cannot be followed")
            maps = Maps(args[0].shape, fixed.reshape([1] * args[0].ndim))
            kind = type(layer).__name__
            call = Call(kind, prefix, what, layer, (maps,), {}, (out.shape,), channels)
            find_rule(call)(call)
            channels.called.add(prefix)
            channels.refuse(
                channels.made[prefix],
                f"{prefix} is in {what}, whose forward cannot be followed, {why}. What is not "
                "straight code (branches on values, loops over tensors, assignment to parts) "
                "belongs in a module of its own, without the layers",
            )

        return hook

    kinds = (*CONVS, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
    handles = []
    for child, layer in module.named_modules():
        if isinstance(layer, kinds):
            prefix = f"{name}.{child}".strip(".")
            handles.append(layer.register_forward_hook(note(prefix)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
