"""One run of a model under torch.fx: every tensor carries its labels along, and every layer gets its number."""

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from warnings import warn

import torch
from torch import Tensor, fx, nn

from prunelab import rearranging  # noqa: F401  (its rules)
from prunelab.channels import Call, Channels, Count, Layer, Maps, leaves
from prunelab.numbering import CONVS, find_shortcuts, number_layers
from prunelab.operators import KNOWS_COUNTS, KNOWS_PARAMETERS, find_rule
from prunelab.symbolic import (
    SHAPE,
    Trace,
    Unfollowed,
    copy_with,
    first_line,
    like_model,
    reads_training,
    run_module,
    trace_forward,
)

# what may be done with a number of channels so that it still follows them
COUNTING = (operator.mul, operator.floordiv, operator.getitem, operator.add)


def walk(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Channels, dict[str, Layer]]:
    """What a run of the model tells of its channels, and its conv and linear layers in forward order.

    What only training runs (auxiliary heads) is followed too, so that a pruned model can be trained.
    """
    skeleton = copy_with(model, lambda tensor: tensor if isinstance(tensor, nn.Parameter) else tensor.clone()).eval()
    channels = Channels(skeleton, len(inputs[0]) if inputs[0].ndim else 1)
    given = tuple(like_model(model, x) for x in inputs)
    try:
        traced = trace_forward(skeleton, given)
        with _told(skeleton, given):
            _Walk(traced, skeleton, channels).run(*given)
        shortcuts = find_shortcuts(traced)
    except Unfollowed as error:
        _follow_opaque(skeleton, given, channels, str(error))
        shortcuts = set()
    layers = dict(channels.layers)
    idle = [name for name, _ in skeleton.named_parameters() if not channels.called & _owners(name)]
    if idle or reads_training(skeleton):
        _follow_training(skeleton, given, channels)
    _refuse_unfinished(channels)
    _refuse_unknown(skeleton, channels)
    _warn_of_uncounted(skeleton, channels)
    return channels, number_layers(layers, shortcuts)


def _owners(tensor: str) -> set[str]:
    """The tensor and the modules it is in, by qualified name."""
    parts = tensor.split(".")
    return {".".join(parts[:i]) for i in range(1, len(parts) + 1)}


def _follow_training(skeleton: nn.Module, inputs: tuple[Tensor, ...], channels: Channels) -> None:
    """Follow what the model's code does in training only."""
    try:
        traced = trace_forward(skeleton.train(), inputs)
        with _told(skeleton, inputs):
            _Walk(traced, skeleton, channels).run(*inputs)
    except (Unfollowed, ValueError) as error:
        warn(
            f"what {type(skeleton).__name__} does in training only could not be followed ({error}); if that needs a "
            "number of maps that pruning changes, the pruned model can be evaluated but not trained",
            stacklevel=5,
        )


@contextmanager
def _told(model: nn.Module, inputs: tuple[Tensor, ...]) -> Iterator[None]:
    """Nothing random moves and no gradients are kept; whatever an operator raises becomes a sentence."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            yield
        except Exception as error:
            given = ", ".join(str(tuple(x.shape)) for x in inputs)
            raise ValueError(
                f"{type(model).__name__} does not take an input of shape {given}: {first_line(error)}"
            ) from error


class _Walk(fx.Interpreter):
    """Run a traced model, and carry beside each tensor its labels."""

    def __init__(self, traced: Trace, skeleton: nn.Module, channels: Channels) -> None:
        super().__init__(traced)
        self.skeleton = skeleton
        self.channels = channels
        self.opaque = traced.opaque
        channels.widths_read |= traced.widths
        self.beside: dict[fx.Node, Any] = {}  # node -> its value with Maps and Counts in place of tensors and numbers

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "call_module" and str(n.target) in self.opaque:
            with _record(self.fetch_attr(str(n.target)), str(n.target), self.channels, self.opaque[str(n.target)]):
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
                    self.channels.refuse(maps.labels, "the model returns its maps, so its user reads them")
            return None
        if n.op in ("placeholder", "get_attr") and tensors:
            return fx.node.map_aggregate(value, lambda v: self._start(n, v) if isinstance(v, Tensor) else v)
        if isinstance(n.target, type):  # a named tuple or a data class of the model's own
            return self._follow_structure(n, value, args, kwargs)
        if not tensors:
            return self._follow_number(n, value, args)
        if n.op == "call_function" and n.target is operator.getitem and not isinstance(args[0], Maps):
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
        counts = (
            [] if rule in KNOWS_COUNTS else [c for c in _with_slices(call.args, call.kwargs) if isinstance(c, Count)]
        )
        if counts:
            self._refuse_counts(counts, call.where)
            args, kwargs = fx.node.map_aggregate((call.args, call.kwargs), _number_of)
            call = replace(call, args=args, kwargs=kwargs)
        if rule not in KNOWS_PARAMETERS:
            self.channels.by_hand.update({m.source: call.where for m in call.maps if m.source and _wide(m.shape)})
        try:
            labels = rule(call)
        except (
            ArithmeticError,
            AssertionError,
            LookupError,
            AttributeError,
            TypeError,
            ValueError,
            RuntimeError,
        ) as error:
            labels = call.refuse(f"used in a way that its rule does not know ({first_line(error)})")
        if call.module is not None and (call.module._forward_hooks or call.module._forward_pre_hooks):
            labels = self._refuse_hooked(call, labels)
        if isinstance(labels, list):  # of several tensors
            return type(value)(Maps(v.shape, own, bare=bare) for v, own in zip(value, labels, strict=True))
        return fx.node.map_aggregate(value, lambda v: _relabel(v, labels, bare))

    def _refuse_hooked(self, call: Call, labels: Any) -> Tensor:
        why = f"{call.where} has a hook (weight norm is one of old), whose work cannot be followed; remove it to prune"
        for own in [labels, self.channels.made.get(call.name), *(maps.labels for maps in call.maps)]:
            for each in own if isinstance(own, list) else [own]:
                if each is not None:
                    self.channels.refuse(each, why)
        return labels if isinstance(labels, Tensor) else call.refuse("which has a hook")

    def _follow_structure(self, n: fx.Node, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(value, tuple):
            return n.target(*args, **kwargs)  # type: ignore[operator]
        for maps in leaves((args, kwargs)):
            if isinstance(maps, Maps):
                why = f"the model puts its maps into a {type(value).__name__}, so its user reads them"
                self.channels.refuse(maps.labels, why)
        return value

    def _within(self, n: fx.Node) -> str:
        inner = [path for path in n.meta.get("nn_module_stack", {}) if path and path != n.target]
        return inner[-1] if inner else f"{type(self.skeleton).__name__}.forward"

    def _start(self, n: fx.Node, value: Tensor) -> Any:
        """An input, or a parameter or buffer that the model's code takes by itself."""
        name = str(n.target)
        if n.op == "placeholder":
            fixed = self.channels.fix("its maps are joined with the model's input, which no filter made")
            return Maps(value.shape, fixed.reshape([1] * value.ndim))
        known = name in self.channels.alias
        owner = self.skeleton.get_submodule(name.rpartition(".")[0]) if known else None
        if n.users:
            self.channels.called.add(name)
        if known and sum(size > 1 for size in value.shape) == 1:  # a vector has a label for each entry
            dim = next(d for d, size in enumerate(value.shape) if size > 1)
            dims = self.channels.slices.setdefault(self.channels.alias[name], {})
            if dim not in dims:
                self.channels.slice(name, dim, self.channels.new(value.shape[dim]))
            labels = dims[dim].reshape([-1 if d == dim else 1 for d in range(value.ndim)])
            return Maps(value.shape, labels, name, owner, bare=True)
        what = name if known else "a tensor that the model's code holds (register it as a buffer)"
        fixed = self.channels.fix(f"its maps are joined with {what}, which no filter made")
        return Maps(value.shape, fixed.reshape([1] * value.ndim), name if known else "", owner, bare=True)

    def _follow_number(self, n: fx.Node, value: Any, args: tuple[Any, ...]) -> Any:
        """A number that the model's code works with: one that follows the channels, if we know how."""
        name, source = getattr(n.target, "__name__", n.target), args[0] if args else None
        name = str(args[1]) if name == "getattr" else name
        where = f"{name} in {self._within(n)}"
        if isinstance(source, Maps) and name in ("size", "shape"):
            if source.source and _wide(source.shape):  # the width of a layer, by its weight
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
            self.channels.refuse(source.labels, f"its maps reach {where}, which makes a value of them")
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
            self.channels.refuse(count.labels, f"the model's code works with the number of its maps ({where})")


def _as_torch_names(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments by torch's own names (`axis` is `dim`), and the tensor they are about in front."""
    kwargs = {{"axis": "dim", "axes": "dim", "keepdims": "keepdim"}.get(name, name): v for name, v in kwargs.items()}
    return ((kwargs.pop("input"),), kwargs) if not args and "input" in kwargs else (args, kwargs)


def _relabel(value: Any, labels: Tensor, bare: bool) -> Any:
    if not isinstance(value, Tensor):
        return value
    fits = labels.ndim == value.ndim
    return Maps(value.shape, labels if fits else labels.reshape(-1)[:1].reshape([1] * value.ndim), bare=bare)


def _wide(shape: torch.Size) -> bool:
    return sum(size > 1 for size in shape) > 1


def _number_of(value: Any) -> Any:
    return value.value if isinstance(value, Count) else value


def _with_slices(*values: Any) -> list[Any]:
    found = []
    for leaf in leaves(values):
        found += [leaf.start, leaf.stop, leaf.step] if isinstance(leaf, slice) else [leaf]
    return found


@contextmanager
def _record(module: nn.Module, name: str, channels: Channels, why: str) -> Iterator[None]:
    """While a module runs that cannot be followed, note its layers, and that their filters must stay."""
    what = type(module).__name__ + (f" ({name})" if name else "")

    def note(prefix: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            fixed = channels.fix(f"its maps are inside {what}, whose forward cannot be followed")
            maps = Maps(args[0].shape, fixed.reshape([1] * args[0].ndim))
            call = Call(type(layer).__name__, prefix, what, layer, (maps,), {}, (out.shape,), channels)
            find_rule(call)(call)
            channels.called.add(prefix)
            channels.refuse(
                channels.made[prefix],
                f"{prefix} is in {what}, whose forward cannot be followed, {why}. What is not straight code (branches "
                "on values, loops over tensors, assignment to parts) belongs in a module of its own, without the layers",
            )

        return hook

    kinds = (*CONVS, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
    inner = [(f"{name}.{child}".strip("."), m) for child, m in module.named_modules() if isinstance(m, kinds)]
    handles = [m.register_forward_hook(note(prefix)) for prefix, m in inner]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _follow_opaque(skeleton: nn.Module, inputs: tuple[Tensor, ...], channels: Channels, why: str) -> None:
    channels.called.update(name for name, _ in skeleton.named_parameters())
    with _told(skeleton, inputs), _record(skeleton, "", channels, why):
        skeleton(*inputs)


def _refuse_unknown(skeleton: nn.Module, channels: Channels) -> None:
    """Refuse the filters whose tensors are used in a way that no rule has seen."""
    owners: dict[str, list[str]] = {}
    for module_name, module in skeleton.named_modules():  # one that has two names counts once
        for name in (*module._parameters, *module._buffers):
            full = f"{module_name}.{name}".removeprefix(".")
            owners.setdefault(channels.alias.get(full, full), []).append(full)
    for tensor, dims in list(channels.slices.items()):
        why = ""
        idle = [name for name in owners.get(tensor, []) if not channels.called & _owners(name)]
        if tensor not in owners:
            why = f"{tensor} is not a parameter or buffer: something computes it (weight norm, say)"
            del channels.slices[tensor]
        elif idle:
            why = f"{tensor} is also {', '.join(idle)}, which shares a parameter with another module and does not run"
        elif tensor in channels.by_hand:
            why = f"the model's code reads {tensor} by itself, in {channels.by_hand[tensor]}"
        for labels in dims.values() if why else ():
            channels.refuse(labels, why)


def _refuse_unfinished(channels: Channels) -> None:
    """Refuse the filters of layers whose rule gave up, and of those whose widths the model's code reads."""
    for name, layer in channels.layers.items():
        sliced = channels.slices.get(channels.alias.get(layer.weight, layer.weight), {})
        if not sliced:
            channels.refuse(channels.made[name], f"{name} is used in a way that its rule does not know")
    for name, attribute in channels.widths_read:
        labels = channels.counts.get((name, attribute, None))
        if labels is not None:
            channels.refuse(labels, f"the model's code reads {name}.{attribute}, which pruning would change")


def _warn_of_uncounted(skeleton: nn.Module, channels: Channels) -> None:
    """Say which matrices the run multiplied with that are in no layer of the cost."""
    counted = {layer.weight for layer in channels.layers.values()}
    tables = {name for name, module in skeleton.named_modules() if isinstance(module, nn.Embedding | nn.LayerNorm)}
    missing = [
        name
        for name, tensor in skeleton.named_parameters()
        if _wide(tensor.shape)
        and name not in counted
        and (name in channels.by_hand or _owners(name) & channels.called - {name} - tables)
    ]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        warn(f"not counted in the cost, for want of a rule: {', '.join(missing[:3])}{more}", stacklevel=4)
