"""Prefix sharing: many pruned versions of one network run over a batch together.

What comes before the first pruned layer, the prefix, runs once for all of them; the rest branches
off, once for each plan.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from prunelab.graph import ChannelGraph, Group, trace, trace_forward
from prunelab.measure.prefix.folding import fold_norms
from prunelab.measure.prefix.interpreter import (
    PartialRun,
    Values,
    count_writes,
    select_maps,
    stack_runs,
)
from prunelab.measure.prefix.winograd import WinogradConv, suits_winograd
from prunelab.pruning import PruningPlan, keep_slices, prune, set_count
from prunelab.training import check_finite
from prunelab.utils.modules import CONVS, NORMS, copy_with, find_place, like_model

# what treats each map by itself, in evaluation mode
EACH_MAP: set[Any] = {*NORMS, nn.Identity, nn.Dropout, nn.Dropout2d}
EACH_MAP |= {nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish}
EACH_MAP |= {nn.Sigmoid, nn.Tanh, F.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, F.hardswish}
EACH_MAP |= {torch.relu, "relu"}
EACH_MAP |= {nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, F.max_pool2d, F.avg_pool2d}

ROUNDING = 0.01  # of the largest logit; in TF32, too, rounding stays far below


@dataclass(frozen=True, eq=False)
class Branch:
    """Plans that prune the same layers, and where and how the network differs by them."""

    pause: int = 0  # the whole network has run up to this node when the plans take over
    start: int = 0  # the first node that they run by themselves
    end: int = 0  # the one after the last that they change
    tensors: tuple[str, ...] = ()  # those that get smaller
    modules: tuple[str, ...] = ()  # those that run and change
    alive: tuple[Tensor, ...] = ()  # for each plan, which labels are left
    maps: fx.Node | None = None  # the whole network makes here what a plan reads only in part
    labels: Tensor | None = None  # of these maps
    reader: fx.Node | None = None  # the convolution that alone reads them, just before `start`
    copied: bool = False  # whether what it makes is written to in place
    plans: tuple[PruningPlan, ...] = ()  # instead of all that: each shares nothing, and runs whole

    def only(self, plans: Sequence[int]) -> "Branch":
        """The branch of some of the plans."""
        alive = tuple(self.alive[i] for i in plans if self.alive)
        return replace(self, alive=alive, plans=tuple(self.plans[i] for i in plans if self.plans))


class PrefixSharing:
    """A network that computes the logits of many pruned versions of itself, batch by batch.

    The whole network runs once over a batch. Where a plan first changes a layer, what runs from
    there on is the pruned network: the modules that `prune` would make, with what came before taken
    as it is. In evaluation mode, in channels_last, with batch norms folded into the convolutions
    before them.

    stack: of how many plans the unchanged rest of the network runs as one batch (a GPU likes large
    ones).
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph, *, stack: int = 1) -> None:
        inputs = tuple(torch.zeros(shape) for shape in graph.input_shapes)
        self.stack = stack
        self.device, self.kind = find_place(model)
        # shares the tensors, and has a mode of its own
        self.plain = copy_with(model, lambda tensor: tensor).eval()
        self.format = torch.channels_last
        self.model = fold_norms(model, inputs).to(memory_format=self.format)
        self.graph = trace(self.model, inputs)
        examples = tuple(like_model(self.model, x) for x in inputs)
        self.run = PartialRun(trace_forward(self.model, examples))
        for name, layer in self.graph.shapes.items():
            conv = self.model.get_submodule(layer.weight.rpartition(".")[0])
            if suits_winograd(conv, layer.size):
                self.run.faster[name] = WinogradConv(conv, layer.size[0])
        self.tensors = dict(self.model.named_parameters()) | dict(self.model.named_buffers())

    def branch(self, groups: Sequence[Group], plans: Sequence[PruningPlan]) -> Branch:
        """A branch for plans that prune these groups alone."""
        nodes = self.run.nodes
        tensors, counting = self._find_changed(groups)
        if counting - {str(node.target) for node in nodes if node.op == "call_module"}:
            return Branch(plans=tuple(plans))  # a count is read by a forward's own code
        modules = {name.rpartition(".")[0] for name in tensors} | counting
        at = []
        for i, node in enumerate(nodes):
            if node.target in (modules if node.op == "call_module" else tensors):
                at.append(i)
        alive = tuple(self.graph.alive(plan.keep) for plan in plans)
        branch = Branch(at[0], at[0], at[-1] + 1, alive=alive)
        if len(groups) == 1 and len(groups[0].layers) == 1:
            branch = self._skip_producer(branch, at, self.graph.channels.made[groups[0].leader])
        written: set[fx.Node] = set()
        for i in range(branch.start, len(nodes)):
            written.update(self.run.writes(i, branch.start))
        if written - {branch.reader, branch.maps}:  # the plans would spoil it for one another
            return Branch(plans=tuple(plans))
        rest = [nodes[i] for i in at if i >= branch.start]
        read = {str(node.target) for node in rest}
        called = {str(node.target) for node in rest if node.op == "call_module"}
        smaller = [n for n in tensors if n in read or n.rpartition(".")[0] in called]
        copied = branch.reader in written
        return replace(branch, tensors=tuple(smaller), modules=tuple(called), copied=copied)

    def _find_changed(self, groups: Sequence[Group]) -> tuple[set[str], set[str]]:
        """The tensors that get smaller with these groups, and the modules that count channels."""
        channels = self.graph.channels
        own = torch.cat([self.graph.group_of(group.leader).units for group in groups])

        def hits(labels: Tensor) -> bool:
            return bool(torch.isin(channels.root[labels], own).any())

        sliced = channels.slices.items()
        changed = {name for name, dims in sliced if any(map(hits, dims.values()))}
        tensors = {name for name, first in channels.alias.items() if first in changed}
        counting = {module for (module, _, _), labels in channels.counts.items() if hits(labels)}
        return tensors, counting

    def _skip_producer(self, branch: Branch, at: Sequence[int], labels: Tensor) -> Branch:
        """Start after a lone convolution and what treats each of its maps by itself.

        Where nothing else reads them. Of such maps a pruned network has some, and they are those of
        the whole network: so they are selected.
        """
        nodes = self.run.nodes
        node, chain = nodes[at[0]], [at[0]]
        if node.op != "call_module" or self.run.kind(node) not in CONVS:
            return branch
        while len(node.users) == 1:
            follower = next(iter(node.users))
            if self.run.kind(follower) not in EACH_MAP or len(follower.all_input_nodes) != 1:
                break
            node = follower
            chain.append(nodes.index(node))
        last = chain[-1]
        # a parameter's own node may come early
        if not node.users or any(i < last and i not in chain for i in at):
            return branch
        branch = replace(branch, pause=last + 1, start=last + 1, maps=node, labels=labels)
        reader = next(iter(node.users))
        conv = self.run.kind(reader) in CONVS and self.run.module.get_submodule(str(reader.target))
        once = sum(n.target == reader.target for n in nodes) == 1
        if not conv or conv.groups != 1 or not once or len(node.users) > 1:
            return branch
        place = nodes.index(reader)
        return replace(branch, pause=place, start=place + 1, reader=reader)

    @torch.no_grad()
    def check(self, images: Tensor) -> Tensor:
        """The logits of the model as it was given.

        ValueError where running it piece by piece gives others.
        """
        worst = self._differ(images)
        if not worst <= ROUNDING and self.format == torch.channels_last:
            self.format = torch.contiguous_format  # `view` and the like may want it
            self.model.to(memory_format=self.format)
            worst = self._differ(images)
        if not worst <= ROUNDING:
            raise ValueError(
                f"{type(self.plain).__name__} gives other outputs when its operators are run one "
                f"by one (by {worst:.1%} of the largest): does it draw at random, keep state, or "
                "branch on the number of images?"
            )
        return self.plain(images)

    def _differ(self, images: Tensor) -> float:
        """How far the whole network is from the model given, in fractions of the largest output."""
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
        if bool(truth.isnan().any()):
            check_finite(float("nan"), type(self.plain).__name__)
        return float((truth - ours).abs().max() / truth.abs().max().clamp(min=1e-30))

    @torch.no_grad()
    def logits(
        self, images: Tensor, branches: Sequence[Branch]
    ) -> Iterator[tuple[int, int, Tensor]]:
        """(branch, plan, logits (n, classes)) for each plan of each branch, by their numbers.

        Last comes (-1, 0, …) of the whole network. images: (n, 3, h, w), normalised, on the model's
        device. Between two results nothing is kept but what the whole network holds at that place,
        and `stack` plans' maps.
        """
        env: Values = {}
        images = images.contiguous(memory_format=self.format)
        self.run.begin(images)
        place = 0
        for number in sorted(range(len(branches)), key=lambda i: branches[i].pause):
            branch = branches[number]
            for i, plan in enumerate(branch.plans):
                yield number, i, prune(self.model, plan, graph=self.graph)(images)
            self.run.go(env, place, branch.pause, {})
            place = branch.pause
            versions = count_writes(env)
            heads = self._run_heads(env, branch)
            for first in range(0, len(branch.alive), self.stack):
                some = [next(heads) for _ in range(min(self.stack, len(branch.alive) - first))]
                for i, made in self._run_tails(branch, some, len(images)):
                    yield number, i, made
            if versions != count_writes(env):
                raise RuntimeError(
                    f"{type(self.plain).__name__} writes in place to what other plans need; please "
                    "report it"
                )
        yield -1, 0, self.run.go(env, place, len(self.run.nodes), {})

    def _run_heads(self, env: Values, branch: Branch) -> Iterator[tuple[int, Values]]:
        """(plan, values) when each plan has run what it changes.

        From the smallest network on: the next ones' maps are among others those that it has read,
        and what a convolution makes of the others is added.
        """
        read, made = torch.zeros(0, dtype=torch.bool), None  # maps so far, and what came of them
        for plan in reversed(range(len(branch.alive))):
            own = dict(env)
            if branch.maps is not None and branch.labels is not None:
                left = branch.alive[plan][self.graph.channels.root[branch.labels]]
                if branch.reader is None:
                    own[branch.maps] = select_maps(env[branch.maps], left, self.format)
                else:
                    if made is None or bool((read & ~left).any()):
                        read, made = torch.zeros_like(left), None
                    made = self._read(own.pop(branch.maps), branch.reader, left & ~read, made)
                    read, own[branch.reader] = left, made
            if branch.copied and branch.reader is not None:
                own[branch.reader] = own[branch.reader].clone()
            self.run.go(own, branch.start, branch.end, self._parts(branch, branch.alive[plan]))
            yield plan, own

    def _read(self, maps: Tensor, reader: fx.Node, some: Tensor, before: Tensor | None) -> Tensor:
        """What a convolution makes of some of its maps, added to what it made of others before."""
        if before is not None and not some.any():
            return before
        conv: Any = self.model.get_submodule(str(reader.target))
        weight = conv.weight[:, some.to(self.device)]
        if weight.ndim == 4:
            weight = weight.contiguous(memory_format=self.format)
        selected = select_maps(maps, some, self.format)
        if before is None:
            return conv._conv_forward(selected, weight, conv.bias)
        return conv._conv_forward(selected, weight, None).add_(before)

    def _run_tails(
        self, branch: Branch, heads: Sequence[tuple[int, Values]], n: int
    ) -> Iterator[tuple[int, Tensor]]:
        """(plan, logits): the rest of the network; plans whose maps are alike run as one batch."""
        stop = len(self.run.nodes)
        together = stack_runs([own for _, own in heads], n) if len(heads) > 1 else None
        if together is not None:
            made = self.run.go(together, branch.end, stop, {}).split(n)
            yield from zip((plan for plan, _ in heads), made, strict=True)
            return
        for plan, own in heads:
            yield plan, self.run.go(own, branch.end, stop, {})

    def _parts(self, branch: Branch, alive: Tensor) -> dict[str, Any]:
        """{name: what is left of it} for what a plan changes; the rest is shared."""
        channels = self.graph.channels
        parts: dict[str, Any] = {}
        pieces: dict[int, Tensor] = {}
        for name in branch.tensors:
            first = channels.alias[name]
            tensor = self.tensors[first]
            left = keep_slices(tensor.detach(), channels.slices[first], alive, channels.root)
            left = left.contiguous(memory_format=self.format) if left.ndim == 4 else left
            parts[name] = pieces[id(tensor)] = left
        for name in branch.modules:
            module = self.model.get_submodule(name)
            parts[name] = copy_with(module, lambda tensor: pieces.get(id(tensor), tensor))
        for (name, attribute, entry), labels in channels.counts.items():
            if name in parts:
                set_count(parts[name], attribute, entry, int(alive[channels.root[labels]].sum()))
        return parts
