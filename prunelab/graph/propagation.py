"""Labels carried through a traced model: beside each tensor go the labels of its channels."""

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, fx, nn

from prunelab.graph.calls import Call, Maps, leaves
from prunelab.graph.labels import Channels, Count
from prunelab.graph.operators import KNOWS_COUNTS, KNOWS_PARAMETERS, Rule, find_rule, spread
from prunelab.graph.tracing import ASIDE, LAYERS, WIDTHS, LayerCall, Trace, first_line

# what may be done with a number of channels so that it still follows them
COUNTING = (operator.mul, operator.floordiv, operator.getitem, operator.add)
COMPARISONS = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)
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


class Propagation:
    """Goes through a traced model, node by node, and gives each value its labels."""

    def __init__(self, traced: Trace, skeleton: nn.Module, channels: Channels) -> None:
        self.traced = traced
        self.skeleton = skeleton
        self.modules = dict(skeleton.named_modules())
        self.channels = channels
        # node -> its value with Maps and Counts in place of tensors and numbers
        self.beside: dict[fx.Node, Any] = {}
        self.used: dict[fx.Node, list[str]] = {}  # node -> layers that it applies

    def run(self) -> None:
        for node, value in self.traced.values.items():
            name = str(node.target)
            if node.op == "call_module" and name in self.traced.opaque:
                module, taken = self.skeleton.get_submodule(name), self.traced.opaque[name]
                note_layers(taken.calls, module, name, self.channels, taken.why)
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.beside.__getitem__)
            before = len(self.channels.uses)
            self.beside[node] = self._beside(node, value, args, kwargs)
            self.used[node] = self.channels.uses[before:]
        output = next(iter(reversed(self.traced.graph.nodes)))
        for maps in leaves(fx.node.map_arg(output.args, self.beside.__getitem__)):
            if isinstance(maps, Maps):
                why = "the model returns its maps, so its user reads them"
                self.channels.refuse(maps.labels, why)
        for (owner, attribute, _), labels in self.channels.counts.items():
            if (owner, attribute) in self.traced.plainly_read:
                name = f"{owner}.{attribute}".removeprefix(".")
                self.channels.refuse(labels, f"the model's code reads the number {name} by itself")

    def _beside(self, n: fx.Node, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = [v for v in leaves(value) if isinstance(v, Tensor)]
        if n.op == "get_attr" and not tensors:
            return self._count_attribute(str(n.target), value)
        if n.op in ("placeholder", "get_attr"):
            return fx.node.map_aggregate(value, lambda v: self._start(n, v))
        written = n.target is operator.setitem
        if not (tensors or written):
            return self._follow_number(n, value, args)
        if n.target is operator.getitem and not isinstance(args[0], Maps):
            return args[0][args[1]]  # one tensor of several
        name = str(n.target)
        module = self.skeleton.get_submodule(name) if n.op == "call_module" else None
        kind = type(module).__name__ if module is not None else getattr(n.target, "__name__", name)
        if kind == "getattr":  # x.T, say
            kind, args = str(args[1]), args[:1]
        args, kwargs = _as_torch_names(args, kwargs)
        shapes = (args[0].shape,) if written else tuple(tensor.shape for tensor in tensors)
        place = name if module is not None else n.name
        kind = kind.partition(".")[0]  # an operator's overload
        within = n.meta["within"]
        about = (kind, place, within, module, args, kwargs, shapes, self.channels)
        call = Call(*about, owner=self.modules.get(within))
        self.channels.called.update([name] if module is not None else [])
        return self._label(value, call, all(maps.bare for maps in call.maps))

    def _label(self, value: Any, call: Call, bare: bool) -> Any:
        """The value with Maps in place of its tensors, as the operator's rule has it."""
        if call.module is not None and call.name in self.traced.opaque:
            why = self.traced.opaque[call.name].why
            labels = call.refuse(f"whose forward cannot be followed, {why}")
            return fx.node.map_aggregate(value, lambda v: _relabel(v, labels, None, bare))
        rule = find_rule(call)
        counts = [c for c in leaves((call.args, call.kwargs)) if isinstance(c, Count)]
        if counts and rule not in KNOWS_COUNTS:
            self._refuse_counts(counts, call.where)
            args, kwargs = fx.node.map_aggregate((call.args, call.kwargs), _number_of)
            call = replace(call, args=args, kwargs=kwargs)
        if bare or rule not in KNOWS_PARAMETERS:
            args, kwargs = fx.node.map_aggregate((call.args, call.kwargs), self._as_weight)
            call = replace(call, args=args, kwargs=kwargs)
        labels = self._apply(rule, call)
        inputs, first = None, next((maps for maps in call.maps if maps.origin), None)
        origin = ("", None) if first is None else (first.origin, first.owner)
        if bare and any(maps.inputs is not None for maps in call.maps):
            args, kwargs = fx.node.map_aggregate((call.args, call.kwargs), self._only_inputs)
            again = replace(call, args=args, kwargs=kwargs, of_inputs=True)
            inputs = self._apply(rule, again)
        if isinstance(labels, list) or isinstance(inputs, list):  # of several tensors
            both = (
                own if isinstance(own, list) else [own] * len(value) for own in (labels, inputs)
            )
            triples = zip(value, *both, strict=True)
            return type(value)(_relabel(v, own, read, bare, origin) for v, own, read in triples)
        return fx.node.map_aggregate(value, lambda v: _relabel(v, labels, inputs, bare, origin))

    def _apply(self, rule: Rule, call: Call) -> Any:
        try:
            labels = rule(call)
        except FAULTS as error:
            why = f"used in a way that its rule does not know ({first_line(error)})"
            return call.refuse_all(why)
        several = labels if isinstance(labels, list) else [labels] * len(call.shapes)
        for own, shape in zip(several, call.shapes, strict=False):
            if own.ndim != len(shape) and own.numel() > 1:
                return call.refuse_all(f"whose rule gives {own.ndim} dimensions of {len(shape)}")
        return labels

    def _as_weight(self, maps: Any) -> Any:
        """A parameter or buffer that the code works on, with labels of its filters and inputs."""
        if not isinstance(maps, Maps) or not maps.source or not maps.is_wide:
            return maps
        own, read = self.channels.read_weight(maps.source, maps.shape)
        ndim = len(maps.shape)
        own, read = spread(own, ndim, 0), spread(read, ndim, 1)
        return replace(maps, labels=own, inputs=read, origin=maps.source)

    def _only_inputs(self, maps: Any) -> Any:
        """The same tensor, labelled by what a weight's filters read."""
        if not isinstance(maps, Maps):
            return maps
        inputs = maps.inputs
        if inputs is None:
            inputs = self.channels.new(1).reshape([1] * len(maps.shape))
        return replace(maps, labels=inputs, inputs=None)

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

    def _count_attribute(self, name: str, value: Any) -> Any:
        """A number that a module has as an attribute: it may turn out to be one of channels."""
        module, _, attribute = name.rpartition(".")
        if not isinstance(value, int):
            entries = enumerate(value)
            count = self._attribute_count
            return [count(module, attribute, i, n) if n in WIDTHS else n for i, n in entries]
        return self._attribute_count(module, attribute, None, value)

    def _attribute_count(self, module: str, attribute: str, place: int | None, value: int) -> Count:
        if attribute in ("out_channels", "out_features") and module in self.modules:
            layer = isinstance(self.modules[module], LAYERS)
        else:
            layer = False
        labels = self.channels.counts.get((module, attribute, place))
        if labels is None and layer:
            labels = self.channels.make(module, value)
        if labels is None or len(labels) != value:
            labels = self.channels.new(value)
        return Count(self.channels.count(module, attribute, labels, place), optional=True)

    def _follow_number(self, n: fx.Node, value: Any, args: tuple[Any, ...]) -> Any:
        """A number that the model's code works with; it follows the channels, if we know how."""
        name, source = getattr(n.target, "__name__", n.target), args[0] if args else None
        name = str(args[1]) if name == "getattr" else name
        where = f"{name} in {n.meta['within']}"
        if isinstance(source, Maps) and name == "shape":
            source = self._as_weight(source)
            return tuple(source.size(d) for d in range(len(source.shape)))
        if isinstance(source, Maps) and name in ("numel", "nelement", "len"):
            source = self._as_weight(source)
            sizes = [source.size(d) for d in range(1 if name == "len" else len(source.shape))]
            self._refuse_counts([size for size in sizes if isinstance(size, Count)], where)
        elif isinstance(source, Maps) and name not in ASIDE:
            why = f"its maps reach {where}, which makes a value of them"
            self.channels.refuse(source.labels, why)
            if source.source and source.is_wide:
                self.channels.by_hand.setdefault(source.source, where)
        if n.target is len:
            return value
        if any(isinstance(leaf, Count) for leaf in leaves(args)):
            return self._calculate(n.target, value, args, where)
        return value

    def _calculate(self, operation: Any, value: Any, args: tuple[Any, ...], where: str) -> Any:
        """A number made of numbers; those that it does not follow must stay as they are."""
        counts = [c for c in leaves(args) if isinstance(c, Count)]
        if operation in COMPARISONS and any(arg in (0, 0.0) for arg in args):
            return value  # at least one is left always
        if operation in (operator.eq, operator.ne) and len(counts) == len(args) == 2:
            a, b = counts
            if a.value == b.value and a.share == b.share and len(a.labels) == len(b.labels):
                self.channels.tie(a.labels, b.labels)  # so they stay as equal as they are
                return value
        whole = isinstance(args[0], Count) and args[0].share == 1
        if operation is operator.mod and whole and value == 0:
            parts = _number_of(args[1])
            self.channels.tie_along(args[0].labels.reshape(parts, -1), [0], where)
            self._refuse_counts(counts[1:], where)
            return value  # whole parts of so many go
        if operation in (operator.mul, operator.floordiv) and len(counts) == 2:
            last = operation is operator.floordiv
            fixed = counts[1] if last else min(counts, key=lambda c: (not c.optional, c.value))
            self._refuse_counts([fixed], where)
            args = tuple(arg.value if arg is fixed else arg for arg in args)
        if operation is operator.sub and len(counts) == len(args) == 2 and counts[1].optional:
            (a, b), first = counts, counts[1].value
            if a.share == b.share == 1 and first < a.value:
                self.channels.tie(b.labels, a.labels[:first])
                return Count(a.labels[first:], optional=True)
        if operation in COUNTING:
            try:
                return operation(*args)
            except TypeError:
                pass
        self._refuse_counts(counts, where)
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


def _relabel(
    value: Any,
    labels: Tensor,
    inputs: Tensor | None,
    bare: bool,
    origin: tuple[str, nn.Module | None] = ("", None),
) -> Any:
    if not isinstance(value, Tensor):
        return value
    if labels.ndim != value.ndim:
        labels = labels.reshape(-1)[:1].reshape([1] * value.ndim)
    if inputs is not None and inputs.ndim != value.ndim:
        inputs = inputs.reshape(-1)[:1].reshape([1] * value.ndim)
    name, owner = origin
    return Maps(value.shape, labels, bare=bare, inputs=inputs, origin=name, owner=owner)


def _number_of(value: Any) -> Any:
    return value.value if isinstance(value, Count) else value


def note_layers(
    calls: Sequence[LayerCall], module: nn.Module, name: str, channels: Channels, why: str
) -> None:
    """Note the layers of a module that cannot be followed; their filters must stay."""
    what = type(module).__name__ + (f" ({name})" if name else "")
    fixed = channels.fix(f"its maps are inside {what}, whose forward cannot be followed")
    for prefix, layer, given, made in calls:
        maps = Maps(given, fixed.reshape([1] * len(given)))
        call = Call(type(layer).__name__, prefix, what, layer, (maps,), {}, (made,), channels)
        find_rule(call)(call)
        channels.called.add(prefix)
        channels.refuse(
            channels.made[prefix],
            f"{prefix} is in {what}, whose forward cannot be followed, {why}. What is not straight "
            "code (branches on the values of tensors) belongs in a module of its own, without the "
            "layers",
        )
