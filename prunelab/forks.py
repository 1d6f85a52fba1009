"""One network and many plans: what comes before the first pruned layer runs once, and the rest once for each plan."""

import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from prunelab.graph import ChannelGraph, Group, trace
from prunelab.numbering import CONVS, NORMS
from prunelab.plan import PruningPlan
from prunelab.surgery import keep_slices, prune, set_count
from prunelab.symbolic import copy_with, like_model, trace_forward
from prunelab.winograd import WinogradConv, suits_winograd

# what treats each map by itself, in evaluation mode
EACH_MAP = {
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Tanh,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Dropout2d, *NORMS,
    F.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, F.hardswish, torch.relu, F.max_pool2d, F.avg_pool2d, "relu",
}  # fmt: skip
# what makes a tensor of its own, never a view of another
FRESH = {
    *CONVS, *NORMS, nn.ConvTranspose2d, nn.Linear, nn.LayerNorm, nn.GroupNorm, operator.add, operator.mul, operator.sub,
    torch.add, torch.mul, torch.cat, F.conv2d, F.linear, F.avg_pool2d, F.adaptive_avg_pool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Hardsigmoid, torch.sigmoid, F.gelu,
}  # fmt: skip
# operators that write to their first argument, besides methods and functions with a name that ends in _
IN_PLACE = ("setitem", "iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor")


@dataclass(frozen=True, eq=False)
class Fork:
    """Plans that prune the same layers: where in the forward the network begins and ceases to differ, and what does."""

    pause: int = 0  # the whole network has run up to this node when the plans take over
    start: int = 0  # the first node that they run by themselves
    end: int = 0  # the one after the last that they change
    tensors: tuple[str, ...] = ()  # those that get smaller
    modules: tuple[str, ...] = ()  # those that run and change
    alive: tuple[Tensor, ...] = ()  # for each plan, which labels are left
    maps: fx.Node | None = None  # what a plan reads only in part is made here, by the whole network …
    labels: Tensor | None = None  # … and has these labels
    reader: fx.Node | None = None  # the convolution that alone reads it, just before `start`
    copied: bool = False  # whether what it makes is written to in place
    plans: tuple[PruningPlan, ...] = ()  # instead of all that: plans that share nothing, and run from the first node

    def only(self, plans: Sequence[int]) -> "Fork":
        """The fork of some of the plans."""
        alive = tuple(self.alive[i] for i in plans if self.alive)
        return replace(self, alive=alive, plans=tuple(self.plans[i] for i in plans if self.plans))


class ForkedNetwork:
    """A network that computes the logits of many pruned versions of itself, batch by batch.

    The whole network runs once over a batch. Where a plan first changes a layer, what runs from there on is the
    pruned network: the modules that `prune` would make, with what came before taken as it is. In evaluation mode,
    in channels_last, with batch norms folded into the convolutions before them.

    stack: of how many plans the unchanged rest of the network runs as one batch (a GPU likes large ones).
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph, *, stack: int = 1) -> None:
        inputs = tuple(torch.zeros(shape) for shape in graph.input_shapes)
        self.stack = stack
        self.device = next(model.parameters()).device
        self.plain = copy_with(model, lambda tensor: tensor).eval()  # shares the tensors, and has a mode of its own
        self.format = torch.channels_last
        self.model = fold_norms(model, inputs).to(memory_format=self.format)
        self.graph = trace(self.model, inputs)
        self.run = _Run(trace_forward(self.model, tuple(like_model(self.model, x) for x in inputs)))
        self.run.faster = {
            name: WinogradConv(conv, layer.size[0])
            for name, layer in self.graph.shapes.items()
            if suits_winograd(conv := self.model.get_submodule(layer.weight.rpartition(".")[0]), layer.size)
        }
        self.tensors = dict(self.model.named_parameters()) | dict(self.model.named_buffers())

    def fork(self, groups: Sequence[Group], plans: Sequence[PruningPlan]) -> Fork:
        """A fork for plans that prune these groups alone."""
        channels, nodes = self.graph.channels, self.run.nodes
        own = torch.cat([self.graph.group_of(group.leader).units for group in groups])
        changed = {n for n, dims in channels.slices.items() if any(self._hits(labels, own) for labels in dims.values())}
        tensors = {name for name, first in channels.alias.items() if first in changed}
        counting = {module for (module, _, _), labels in channels.counts.items() if self._hits(labels, own)}
        modules = {name.rpartition(".")[0] for name in tensors} | counting
        at = [i for i, n in enumerate(nodes) if n.target in (modules if n.op == "call_module" else tensors)]
        if counting - {str(node.target) for node in nodes if node.op == "call_module"}:  # read by a forward's own code
            return Fork(plans=tuple(plans))
        fork = Fork(at[0], at[0], at[-1] + 1, alive=tuple(self.graph.alive(plan.keep) for plan in plans))
        if len(groups) == 1 and len(groups[0].layers) == 1:
            fork = self._skip_producer(fork, at, channels.made[groups[0].leader])
        written = {source for i in range(fork.start, len(nodes)) for source in self.run.writes(i, fork.start)}
        if written - {fork.reader, fork.maps}:  # the plans would spoil it for one another
            return Fork(plans=tuple(plans))
        rest = [i for i in at if i >= fork.start]
        called = {str(nodes[i].target) for i in rest if nodes[i].op == "call_module"}
        read = {str(nodes[i].target) for i in rest}
        return replace(
            fork,
            tensors=tuple(name for name in tensors if name in read or name.rpartition(".")[0] in called),
            modules=tuple(called),
            copied=fork.reader in written,
        )

    def _hits(self, labels: Tensor, own: Tensor) -> bool:
        return bool(torch.isin(self.graph.channels.root[labels], own).any())

    def _skip_producer(self, fork: Fork, at: Sequence[int], labels: Tensor) -> Fork:
        """Start after a lone convolution, and what treats each of its maps by itself, where nothing else reads them.

        Of such maps a pruned network has some, and they are those of the whole network: so they are selected.
        """
        nodes = self.run.nodes
        node, chain = nodes[at[0]], [at[0]]
        if node.op != "call_module" or self.run.kind(node) not in CONVS:
            return fork
        while len(node.users) == 1:
            follower = next(iter(node.users))
            if self.run.kind(follower) not in EACH_MAP or len(follower.all_input_nodes) != 1:
                break
            node = follower
            chain.append(nodes.index(node))
        last = chain[-1]
        early = any(i < last and i not in chain for i in at)  # a parameter's own node may come early
        if early or not node.users:
            return fork
        fork = replace(fork, pause=last + 1, start=last + 1, maps=node, labels=labels)
        reader = next(iter(node.users))
        conv = self.run.kind(reader) in CONVS and self.run.module.get_submodule(str(reader.target))
        once = sum(n.target == reader.target for n in nodes) == 1
        if not conv or conv.groups != 1 or not once or len(node.users) > 1:
            return fork
        place = nodes.index(reader)
        return replace(fork, pause=place, start=place + 1, reader=reader)

    @torch.no_grad()
    def check(self, images: Tensor) -> Tensor:
        """The logits of the model as it was given; ValueError where running it piece by piece gives others."""
        worst = self._differ(images)
        if not worst <= 0.01 and self.format == torch.channels_last:  # `view` and the like may want the usual format
            self.format = torch.contiguous_format
            self.model.to(memory_format=self.format)
            worst = self._differ(images)
        if not worst <= 0.01:  # rounding, in TF32 too, stays far below
            raise ValueError(
                f"{type(self.plain).__name__} gives other outputs when its operators are run one by one (by {worst:.1%} "
                "of the largest): does it draw at random, keep state, or branch on the number of images?"
            )
        return self.plain(images)

    def _differ(self, images: Tensor) -> float:
        """How far the whole network is from the model as it was given, in fractions of the largest output."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(1)  # not where the trace was: what it drew is a constant in it
            truth = self.plain(images)
            try:
                (_, _, ours) = next(self.logits(images, []))
            except RuntimeError:
                if self.format == torch.contiguous_format:
                    raise
                return float("inf")
        if not isinstance(truth, Tensor):
            return 0.0  # no logits: said by who asked
        return float((truth - ours).abs().max() / truth.abs().max().clamp(min=1e-30))

    @torch.no_grad()
    def logits(self, images: Tensor, forks: Sequence[Fork]) -> Iterator[tuple[int, int, Tensor]]:
        """(fork, plan, logits (n, classes)) for each plan of each fork, by their numbers; (-1, 0, …) for the whole.

        images: (n, 3, h, w), normalised, on the model's device. Between two answers nothing is kept but what the
        whole network holds at that place, and `stack` plans' maps.
        """
        env: dict[fx.Node, Any] = {}
        images = images.contiguous(memory_format=self.format)
        self.run.begin(images)
        place = 0
        for number in sorted(range(len(forks)), key=lambda i: forks[i].pause):
            fork = forks[number]
            for i, plan in enumerate(fork.plans):
                yield number, i, prune(self.model, plan, graph=self.graph)(images)
            self.run.go(env, place, fork.pause, {})
            place = fork.pause
            versions = [value._version for value in env.values() if isinstance(value, Tensor)]
            heads = self._run_heads(env, fork)
            for first in range(0, len(fork.alive), self.stack):
                some = [next(heads) for _ in range(min(self.stack, len(fork.alive) - first))]
                yield from ((number, plan, out) for plan, out in self._run_tails(fork, some, len(images)))
            if versions != [value._version for value in env.values() if isinstance(value, Tensor)]:
                raise RuntimeError(
                    f"{type(self.plain).__name__} writes in place to what other plans need; please report it"
                )
        yield -1, 0, self.run.go(env, place, len(self.run.nodes), {})

    def _run_heads(self, env: dict[fx.Node, Any], fork: Fork) -> Iterator[tuple[int, dict[fx.Node, Any]]]:
        """(plan, values) when each plan has run what it changes. From the smallest network on: the next ones' maps
        are among others those that it has read, and what a convolution makes of the others is added.
        """
        read, made = torch.zeros(0, dtype=torch.bool), None  # which maps have been read, and what was made of them
        for plan in reversed(range(len(fork.alive))):
            own = dict(env)
            if fork.maps is not None and fork.labels is not None:
                left = fork.alive[plan][self.graph.channels.root[fork.labels]]
                if fork.reader is None:
                    own[fork.maps] = _select_maps(env[fork.maps], left, self.format)
                else:
                    if made is None or bool((read & ~left).any()):
                        read, made = torch.zeros_like(left), None
                    made = self._read(own.pop(fork.maps), fork.reader, left & ~read, made)
                    read, own[fork.reader] = left, made
            if fork.copied and fork.reader is not None:
                own[fork.reader] = own[fork.reader].clone()
            self.run.go(own, fork.start, fork.end, self._parts(fork, fork.alive[plan]))
            yield plan, own

    def _read(self, maps: Tensor, reader: fx.Node, some: Tensor, before: Tensor | None) -> Tensor:
        """What a convolution makes of some of its maps, added to what it made of others before."""
        if before is not None and not some.any():
            return before
        conv: Any = self.model.get_submodule(str(reader.target))
        weight = conv.weight[:, some.to(self.device)]
        if weight.ndim == 4:
            weight = weight.contiguous(memory_format=self.format)
        made = conv._conv_forward(_select_maps(maps, some, self.format), weight, conv.bias if before is None else None)
        return made if before is None else made.add_(before)

    def _run_tails(
        self, fork: Fork, heads: Sequence[tuple[int, dict[fx.Node, Any]]], n: int
    ) -> Iterator[tuple[int, Tensor]]:
        """(plan, logits), the rest of the network; of several plans in one batch, where their maps are alike."""
        stop = len(self.run.nodes)
        together = _stack([own for _, own in heads], n) if len(heads) > 1 else None
        if together is not None:
            yield from zip((plan for plan, _ in heads), self.run.go(together, fork.end, stop, {}).split(n), strict=True)
            return
        for plan, own in heads:
            yield plan, self.run.go(own, fork.end, stop, {})

    def _parts(self, fork: Fork, alive: Tensor) -> dict[str, Any]:
        """{name: what is left of it} for the modules and tensors that a plan changes; the rest is shared."""
        channels = self.graph.channels
        parts: dict[str, Any] = {}
        pieces: dict[int, Tensor] = {}
        for name in fork.tensors:
            tensor = self.tensors[channels.alias[name]]
            left = keep_slices(tensor.detach(), channels.slices[channels.alias[name]], alive, channels.root)
            left = left.contiguous(memory_format=self.format) if left.ndim == 4 else left
            parts[name] = pieces[id(tensor)] = left
        for name in fork.modules:
            parts[name] = copy_with(self.model.get_submodule(name), lambda tensor: pieces.get(id(tensor), tensor))
        for (module, attribute, entry), labels in channels.counts.items():
            if module in parts:
                set_count(parts[module], attribute, entry, int(alive[channels.root[labels]].sum()))
        return parts


class _Run(fx.Interpreter):
    """Runs pieces of a traced network on values that it is given."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.nodes = list(traced.graph.nodes)
        self.parts: dict[str, Any] = {}
        self.faster: dict[str, Any] = {}  # what computes the same as a module of the network

    def begin(self, *inputs: Tensor) -> None:
        self.args_iter = iter(self.module.graph.process_inputs(*inputs))  # type: ignore[union-attr,operator]

    def go(self, env: dict[fx.Node, Any], start: int, stop: int, parts: dict[str, Any]) -> Any:
        """Run nodes `start` to `stop`, with parts in place of what the network has; values not needed any more go."""
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
        return type(self.module.get_submodule(str(node.target))) if node.op == "call_module" else node.target

    def writes(self, i: int, start: int) -> list[fx.Node]:
        """What was made before node `start` and node `i` may write to in place, by itself or through a view."""
        node = self.nodes[i]
        if node.op == "call_module":
            in_place = getattr(self.module.get_submodule(str(node.target)), "inplace", False)
        else:
            name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
            flagged = node.kwargs.get("inplace") or any(flag is True for flag in node.args)
            in_place = node.op in ("call_function", "call_method") and (
                name.endswith("_") or name in IN_PLACE or flagged
            )
        found, todo = [], list(node.all_input_nodes[:1]) if in_place else []
        fx.node.map_arg(node.kwargs.get("out"), todo.append)
        while todo:
            source = todo.pop()
            if self.nodes.index(source) < start:
                found.append(source)
            elif self.kind(source) not in FRESH:  # perhaps a view of what went in
                todo += source.all_input_nodes
        return found


def _select_maps(maps: Tensor, some: Tensor, memory_format: torch.memory_format) -> Tensor:
    """(n, channels, h, w) -> (n, some, h, w), in the same format; in channels_last, a plain selection would not be."""
    index = some.nonzero().squeeze(1).to(maps.device)
    if memory_format == torch.contiguous_format:
        return maps.index_select(1, index)
    return maps.movedim(1, -1).index_select(-1, index).movedim(-1, 1)


def _stack(branches: Sequence[dict[fx.Node, Any]], n: int) -> dict[fx.Node, Any] | None:
    """The values of several runs as those of one over all their images; None where they do not go together."""
    together = {}
    for node, first in branches[0].items():
        values = [branch[node] for branch in branches]
        if node.op == "get_attr":
            together[node] = first
        elif all(isinstance(v, Tensor) and v.shape == first.shape and v.ndim and len(v) == n for v in values):
            together[node] = torch.cat(values)
        else:
            return None
    return together


def fold_norms(model: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """A copy in evaluation mode that computes the same with fewer operators.

    A batch norm that alone reads a convolution is folded into it (weights times γ/σ), and becomes an identity.
    """
    folded = copy_with(model, torch.clone).eval()
    traced = trace_forward(folded, tuple(like_model(folded, x) for x in inputs))
    uses = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    for node in traced.graph.nodes:
        source = node.args[0] if node.args else None
        if not (isinstance(source, fx.Node) and node.op == source.op == "call_module" and len(source.users) == 1):
            continue
        norm, conv = (folded.get_submodule(str(n.target)) for n in (node, source))
        hooked = any(m._forward_hooks or m._forward_pre_hooks for m in (norm, conv))
        once = uses[node.target] == uses[source.target] == 1
        if type(norm) in NORMS and type(conv) in CONVS and norm.running_mean is not None and once and not hooked:
            _replace(folded, str(source.target), fuse_conv_bn_eval(conv, norm))  # type: ignore[type-var,arg-type]
            _replace(folded, str(node.target), nn.Identity())
    return folded


def _replace(model: nn.Module, name: str, new: nn.Module) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, new)
