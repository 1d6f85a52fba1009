"""One run of a model under torch.fx: every tensor carries its labels along, and every layer gets its number."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from warnings import warn

import torch
from torch import Tensor, fx, nn

from prunelab.channels import Call, Channels, Maps
from prunelab.operators import find_rule

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
# what may stand between a shortcut's conv and the addition
PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.Identity, nn.Dropout)


@dataclass(frozen=True)
class Layer:
    """A conv or linear layer as it was traced."""

    name: str  # qualified module name
    paper_name: str  # conv_1 …, shortcut_1 …, linear_1 …
    kind: str  # conv, shortcut or linear
    n_in: int
    n_out: int
    kernel: tuple[int, ...]
    groups: int
    bias: bool
    positions: int  # output pixels of one image, over all uses
    size: tuple[int, ...]  # of the output maps, () for linear


def walk(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Channels, dict[str, Layer]]:
    """What a run of the model tells of its channels, and its conv and linear layers in forward order."""
    try:
        skeleton = copy_with(model, lambda tensor: tensor).eval()
        traced = fx.symbolic_trace(skeleton)
    except Exception as error:  # whatever the model's own forward raises on a symbolic input
        raise ValueError(
            f"{type(model).__name__} cannot be traced: {_first_line(error)}. "
            "Its forward must not branch on values of tensors"
        ) from error
    runner = _Walk(traced)
    try:
        with torch.no_grad():
            runner.run(*(_like_model(model, x) for x in inputs))
    except Exception as error:  # whatever an operator raises on such an input
        given = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise ValueError(
            f"{type(model).__name__} does not take an input of shape {given}: {_first_line(error)}"
        ) from error
    runner.finish(skeleton)
    return runner.channels, _number(runner.uses, _find_shortcuts(traced))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def copy_with(model: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A deep copy of a model whose parameters and buffers are `change(tensor)` instead of copies."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        new = change(tensor).detach()
        memo[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new
    return copy.deepcopy(model, memo)


def _like_model(model: nn.Module, x: Tensor) -> Tensor:
    first = next(model.parameters(), x)
    return x.to(first.device, first.dtype if x.is_floating_point() else x.dtype, copy=True)


class _Walk(fx.Interpreter):
    """Run a traced model, and carry beside each tensor its labels."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.channels = Channels()
        self.uses: dict[str, tuple[nn.Module, torch.Size, int]] = {}  # layer -> module, output shape, uses
        self.by_hand: set[str] = set()  # modules whose tensors the model's own code reads
        self.beside: dict[fx.Node, Any] = {}  # node -> its value with Maps in place of tensors

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        given = fx.node.map_arg((n.args, n.kwargs), lambda node: self.beside[node])
        self.beside[n] = self._beside(n, value, *given)
        return value

    def _beside(self, n: fx.Node, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = [v for v in _flat(value) if isinstance(v, Tensor)]
        if n.op == "output":
            for maps in _flat(args):
                if isinstance(maps, Maps):
                    self.channels.refuse(maps.labels, "the model returns its maps, so its user reads them")
            return None
        if not tensors:
            self._refuse_counting(n, value)
            return value
        if n.op == "get_attr":
            self.by_hand.add(str(n.target).rpartition(".")[0])
        if n.op in ("placeholder", "get_attr"):
            what = "the model's input" if n.op == "placeholder" else f"a bare parameter ({n.target})"
            label = self.channels.fix(f"its maps are joined with {what}, which no filter made")
            return Maps(value.shape, label.reshape([1] * value.ndim))
        if n.op == "call_function" and n.target.__name__ == "getitem" and not isinstance(args[0], Maps):  # type: ignore[union-attr]
            return args[0][args[1]]  # one tensor of several
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        operator = type(module).__name__ if module is not None else getattr(n.target, "__name__", str(n.target))
        shapes = tuple(tensor.shape for tensor in tensors)
        name = str(n.target) if module is not None else n.name
        call = Call(operator, name, module, args, kwargs, shapes, self.channels)
        if isinstance(module, (*CONVS, nn.Linear)):
            self.uses[name] = (module, shapes[0], self.uses[name][2] + 1 if name in self.uses else 1)
        try:
            labels = find_rule(call)(call)
        except (AttributeError, IndexError, TypeError, RuntimeError) as error:  # used in a way its rule did not expect
            labels = call.refuse(f"used in a way that its rule does not know ({_first_line(error)})")
        if isinstance(value, Tensor):
            return Maps(value.shape, labels)
        return fx.node.map_aggregate(value, lambda v: _relabel(v, labels))

    def _refuse_counting(self, n: fx.Node, value: Any) -> None:
        """A number of maps that the model's own code works with would change when some of them go."""
        source, dim = n.args[0] if n.args else None, n.args[1] if len(n.args) > 1 else None
        name = getattr(n.target, "__name__", n.target)
        if name == "getitem" and isinstance(source, fx.Node) and (source.target == "size" or "shape" in source.args):
            source = source.args[0]
        elif name not in ("size", "numel"):
            return
        maps = self.beside.get(source) if isinstance(source, fx.Node) else None
        if not isinstance(maps, Maps) or not n.users or isinstance(value, torch.Size):
            return
        if name == "numel" or (isinstance(dim, int) and maps.labels.shape[dim] != 1):
            self.channels.refuse(maps.labels, f"the model's code works with the number of its maps ({n.name})")

    def finish(self, model: nn.Module) -> None:
        """Refuse the filters of layers whose tensors are used elsewhere too, and say what is not counted."""
        owners: dict[int, list[str]] = {}
        for name, module in model.named_modules():  # those that the run left out, too
            for tensor in module.parameters(recurse=False):
                owners.setdefault(id(tensor), []).append(name)
        shared = {name for names in owners.values() if len(names) > 1 for name in names}
        for table in (self.channels.made, self.channels.reads, self.channels.follows):
            for name, labels in table.items():
                if name in shared:
                    self.channels.refuse(labels, f"{name} shares a parameter with another module")
                if name in self.by_hand:
                    self.channels.refuse(labels, f"the model's code reads a tensor of {name} by itself")
        uncounted = [
            f"{type(module).__name__} ({name})"
            for name, module in self.module.named_modules()
            if name not in self.uses and any(p.ndim > 2 for p in module.parameters(recurse=False))
        ]
        if uncounted:
            warn(f"not counted in the cost, for want of a rule: {', '.join(uncounted)}", stacklevel=4)


def _relabel(value: Any, labels: Tensor) -> Any:  # several tensors of one refused operator: one label for all
    return Maps(value.shape, labels.reshape([1] * value.ndim)) if isinstance(value, Tensor) else value


def _flat(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    return [leaf for item in value for leaf in _flat(item)] if isinstance(value, list | tuple) else [value]


def _number(uses: Mapping[str, tuple[nn.Module, torch.Size, int]], shortcuts: set[str]) -> dict[str, Layer]:
    count = {"conv": 0, "shortcut": 0, "linear": 0}
    layers: dict[str, Layer] = {}
    for name, (module, shape, times) in uses.items():
        kind = "linear" if isinstance(module, nn.Linear) else "shortcut" if name in shortcuts else "conv"
        count[kind] += 1
        paper_name = f"{kind}_{count[kind]}"
        has_bias = module.bias is not None
        if isinstance(module, nn.Linear):
            positions = shape[:-1].numel() // (shape[0] if len(shape) > 1 else 1)
            sizes = (module.in_features, module.out_features, (), 1, has_bias, positions * times, ())
        else:
            assert isinstance(module, CONVS)
            size = tuple(shape[-len(module.kernel_size) :])
            positions = torch.Size(size).numel() * times
            sizes = (
                module.in_channels,
                module.out_channels,
                module.kernel_size,
                module.groups,
                has_bias,
                positions,
                size,
            )  # type: ignore[assignment]
        layers[name] = Layer(name, paper_name, kind, *sizes)
    return layers


def _find_shortcuts(traced: fx.GraphModule) -> set[str]:
    """The 1×1 convs that carry a block's input to its addition (Li et al. 2017, §3.3, Fig. 4)."""
    modules = dict(traced.named_modules())
    above: dict[fx.Node, int] = {}  # node -> bits of the nodes it comes from
    found: set[str] = set()
    for i, node in enumerate(traced.graph.nodes):
        above[node] = 1 << i
        for source in node.all_input_nodes:
            above[node] |= above[source]
        if (
            getattr(node.target, "__name__", node.target) not in ("add", "add_", "iadd")
            or len(node.all_input_nodes) != 2
        ):
            continue
        one, two = (_conv_behind(source, modules) for source in node.all_input_nodes)
        for short, long in ((one, two), (two, one)):
            if short is None or long is None or set(modules[str(short.target)].kernel_size) != {1}:
                continue
            fork, end = short.args[0], long.args[0]
            assert isinstance(fork, fx.Node)
            assert isinstance(end, fx.Node)
            if fork is not end and above[end] & above[fork] == above[fork]:
                found.add(str(short.target))
    return found


def _conv_behind(node: fx.Node, modules: Mapping[str, nn.Module]) -> fx.Node | None:
    while node.op == "call_module" and isinstance(modules[str(node.target)], PLAIN):
        node = node.args[0]  # type: ignore[assignment]
    return node if node.op == "call_module" and isinstance(modules[str(node.target)], CONVS) else None
