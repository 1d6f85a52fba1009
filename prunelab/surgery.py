"""Taking filters out: new, smaller models whose tensors and attributes agree."""

import torch
from torch import Tensor, nn

from prunelab.graph import ChannelGraph, trace
from prunelab.plan import PruningPlan
from prunelab.tracing import copy_with


def prune(model: nn.Module, plan: PruningPlan, *, graph: ChannelGraph | None = None) -> nn.Module:
    """A smaller copy of the model, with only the filters that the plan keeps; the one given is untouched.

    Every removed filter takes along its feature map, the batch-norm entries and the kernels that read it
    (Li et al. 2017, Fig. 1). `out_channels`, `num_features`, … agree with the tensors. The new model knows
    its plan, so it can be traced and pruned again in the original numbers.

    graph: the trace of `model`, when at hand; saves tracing it again.
    Raises ValueError when the plan was made for another network, or keeps filters that are gone.

    >>> small = prune(model, make_plan(trace(model, x), {"*": 0.3}))
    """
    graph, alive = find_alive(model, plan, graph)
    channels, tensors = graph.channels, dict(model.named_parameters()) | dict(model.named_buffers())
    pieces = {}
    for name, dims in channels.slices.items():
        left = keep_slices(tensors[name].detach(), dims, alive, channels.root)
        if left.shape != tensors[name].shape:
            pieces[id(tensors[name])] = left
    pruned = copy_with(model, lambda tensor: pieces[id(tensor)] if id(tensor) in pieces else tensor.clone())
    for (module, attribute, place), labels in channels.counts.items():
        _set_count(pruned.get_submodule(module), attribute, place, int(alive[channels.root[labels]].sum()))
    pruned.pruning_plan = plan  # type: ignore[assignment]
    return pruned


def find_alive(model: nn.Module, plan: PruningPlan, graph: ChannelGraph | None) -> tuple[ChannelGraph, Tensor]:
    """The trace of a model, and which of its labels a plan leaves; ValueError when they do not fit."""
    if not isinstance(model, nn.Module) or not isinstance(plan, PruningPlan):
        raise ValueError(
            f"prune takes a model and a plan of make_plan, not {type(model).__name__} and {type(plan).__name__}"
        )
    if graph is None:
        graph = trace(model, tuple(torch.zeros(shape) for shape in plan.input_shapes))
    plan.check_graph(graph)
    return graph, graph.alive(plan.keep)


def keep_slices(tensor: Tensor, dims: dict[int, Tensor], alive: Tensor, root: Tensor) -> Tensor:
    """A tensor without the slices whose labels are gone."""
    for dim, labels in dims.items():
        mask = alive[root[labels]]
        if not mask.all():
            tensor = tensor.index_select(dim, mask.nonzero().squeeze(1).to(tensor.device))
    return tensor


def _set_count(module: nn.Module, attribute: str, place: int | None, value: int) -> None:
    if place is None:
        setattr(module, attribute, value)
    else:  # one entry of several, as of LayerNorm's normalized_shape
        entries = list(getattr(module, attribute))
        entries[place] = value
        setattr(module, attribute, type(getattr(module, attribute))(entries))
