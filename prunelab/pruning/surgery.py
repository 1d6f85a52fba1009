"""Taking filters out: new, smaller models whose tensors and attributes agree."""

import copy
import weakref
from dataclasses import replace

import torch
from torch import Tensor, nn

from prunelab.graph import ChannelGraph, Channels, check_graph, trace
from prunelab.pruning.plan import PruningPlan, check_widths
from prunelab.utils.modules import copy_with, find_layout


def prune(model: nn.Module, plan: PruningPlan, *, graph: ChannelGraph | None = None) -> nn.Module:
    """A smaller copy of the model, with only the filters that the plan keeps.

    Every removed filter takes along its feature map, the batch-norm entries and the kernels that
    read it (Li et al. 2017, Fig. 1). `out_channels`, `num_features`, … agree with the tensors. The
    new model knows its plan, so it can be traced and pruned again in the original numbers.

    Args:
        model: the network; it is left untouched.
        plan: of `make_plan`.
        graph: the trace of `model`, or of a copy of it. By default that from which the plan was
            made; a new one where the model is another, or its modules or their shapes were changed
            since.

    Returns:
        A plain nn.Module of the same class.

    Raises:
        ValueError: the plan or the graph was made for another network, or the plan keeps filters
            that are gone.

    Example:
        >>> small = prune(model, make_plan(trace(model, x), {"*": 0.3}))
    """
    graph = find_graph(model, plan, graph)
    channels, alive = graph.channels, alive_after(graph, plan)
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    pieces = {}
    for name, dims in channels.slices.items():
        left = keep_slices(tensors[name].detach(), dims, alive, channels.root)
        if left.shape != tensors[name].shape:
            pieces[id(tensors[name])] = left
    _shorten(channels, tensors, pieces, alive)
    pruned = copy_with(model, lambda t: pieces[id(t)] if id(t) in pieces else t.clone())
    for (module, attribute, place), labels in channels.counts.items():
        count = int(alive[channels.root[labels]].sum())
        set_count(pruned.get_submodule(module), attribute, place, count)
    _slice_held(graph, pruned, alive)
    pruned.pruning_plan = replace(plan)  # type: ignore[assignment]
    return pruned


def _slice_held(graph: ChannelGraph, pruned: nn.Module, alive: Tensor) -> None:
    """Weights that a hook computes and the module holds, of masks and weight norm of old."""
    channels, modules = graph.channels, dict(pruned.named_modules())
    for name, layer in graph.shapes.items():
        held = vars(modules[name]).get("weight") if name in modules else None
        if not isinstance(held, Tensor):
            continue
        made, came = channels.made[name], channels.reads.get(name)
        if came is None:
            continue
        own = came.reshape(layer.groups, -1)[0]  # of each group
        new = made.reshape(layer.groups, -1)[0]
        dims = {0: came, 1: new} if layer.transposed else {0: made, 1: own}
        if channels.groups.get(name) == "go":
            dims = {0: came if layer.transposed else made}
        modules[name].__dict__["weight"] = keep_slices(held.detach(), dims, alive, channels.root)


def _shorten(
    channels: Channels, tensors: dict[str, Tensor], pieces: dict[int, Tensor], alive: Tensor
) -> None:
    """Lengths of weight norm that are left make of the vectors that are left the same numbers."""
    for name, (vectors, dim) in channels.lengths.items():
        whole, lengths = tensors[vectors].detach(), tensors[name]
        left = pieces.get(id(tensors[vectors]))
        if left is None:
            continue
        own = {dim: channels.slices[channels.alias[vectors]][dim]}
        same = keep_slices(whole, own, alive, channels.root)
        others = [d for d in range(whole.ndim) if d != dim]
        norm = torch.linalg.vector_norm
        ratio = norm(left, dim=others, keepdim=True) / norm(same, dim=others, keepdim=True)
        pieces[id(lengths)] = pieces.get(id(lengths), lengths.detach()) * ratio


def remember(plan: PruningPlan, graph: ChannelGraph) -> PruningPlan:
    """The plan, with the trace that it was made from: what `prune` need not trace again.

    It keeps no model alive.
    """
    seen = copy.copy(graph)
    seen.model = None  # type: ignore[assignment]
    object.__setattr__(plan, "_traced", (weakref.ref(graph.model), seen))  # not one of its fields
    return plan


def find_graph(model: nn.Module, plan: object, graph: ChannelGraph | None) -> ChannelGraph:
    """The trace of a model: the one given, that of its plan, or a new one.

    ValueError where the one given is that of another network.
    """
    if not isinstance(model, nn.Module) or not isinstance(plan, PruningPlan):
        given = f"{type(model).__name__} and {type(plan).__name__}"
        raise ValueError(f"prune takes a model and a plan of make_plan, not {given}")
    if graph is not None:
        check_graph(graph, "prune")
        if change := graph.find_change(model):
            raise ValueError(
                f"this graph was made for another network: {change}; pass "
                "graph=trace(model, example_input), or leave graph out"
            )
        return graph
    traced, seen = getattr(plan, "_traced", (lambda: None, None))
    if seen is None or traced() is not model or seen.find_change(model):
        return trace(model, plan.example_inputs())
    found: ChannelGraph = copy.copy(seen)
    found.model = model
    return found


def alive_after(graph: ChannelGraph, plan: PruningPlan) -> Tensor:
    """Which labels of a graph a plan leaves (bool, one for each).

    ValueError unless the model is the one that the plan was made for, pruned no further.
    """
    check_widths(plan.widths, graph.widths, type(graph.model).__name__)
    for name, kept in plan.keep.items():
        lost = sorted(set(kept) - set(graph.numbers[name].tolist()))
        if lost:
            raise ValueError(
                f"the plan keeps filters {lost[:5]} of {name}, which were already removed"
            )
    return graph.alive(plan.keep)


def keep_slices(tensor: Tensor, dims: dict[int, Tensor], alive: Tensor, root: Tensor) -> Tensor:
    """A tensor without the slices whose labels are gone, in the same memory format."""
    layout = find_layout(tensor)
    for dim, labels in dims.items():
        mask = alive[root[labels]]
        if not mask.all():
            tensor = tensor.index_select(dim, mask.nonzero().squeeze(1).to(tensor.device))
    return tensor.contiguous(memory_format=layout)


def set_count(module: nn.Module, attribute: str, place: int | None, value: int) -> None:
    """Set a number of channels that a module has as an attribute, or as one entry of it."""
    if place is None:
        setattr(module, attribute, value)
    else:  # one of several, as of LayerNorm's normalized_shape
        entries = list(getattr(module, attribute))
        entries[place] = value
        setattr(module, attribute, type(getattr(module, attribute))(entries))
