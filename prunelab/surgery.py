"""Taking filters out: new, smaller models whose tensors and attributes agree."""

import copy
from collections import defaultdict
from typing import TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from prunelab.graph import ChannelGraph, trace
from prunelab.plan import PruningPlan
from prunelab.symbolic import copy_with
from prunelab.training import check_optimizer

Opt = TypeVar("Opt", bound=Optimizer)


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
        set_count(pruned.get_submodule(module), attribute, place, int(alive[channels.root[labels]].sum()))
    pruned.pruning_plan = plan  # type: ignore[assignment]
    return pruned


def find_alive(model: nn.Module, plan: PruningPlan, graph: ChannelGraph | None) -> tuple[ChannelGraph, Tensor]:
    """The trace of a model, and which of its labels a plan leaves; ValueError when they do not fit."""
    if not isinstance(model, nn.Module) or not isinstance(plan, PruningPlan):
        raise ValueError(
            f"prune takes a model and a plan of make_plan, not {type(model).__name__} and {type(plan).__name__}"
        )
    if graph is None:
        graph = trace(model, plan.example_inputs())
    plan.check_graph(graph)
    return graph, graph.alive(plan.keep)


def keep_slices(tensor: Tensor, dims: dict[int, Tensor], alive: Tensor, root: Tensor) -> Tensor:
    """A tensor without the slices whose labels are gone."""
    for dim, labels in dims.items():
        mask = alive[root[labels]]
        if not mask.all():
            tensor = tensor.index_select(dim, mask.nonzero().squeeze(1).to(tensor.device))
    return tensor


def set_count(module: nn.Module, attribute: str, place: int | None, value: int) -> None:
    if place is None:
        setattr(module, attribute, value)
    else:  # one entry of several, as of LayerNorm's normalized_shape
        entries = list(getattr(module, attribute))
        entries[place] = value
        setattr(module, attribute, type(getattr(module, attribute))(entries))


def prune_optimizer(optimizer: Opt, model: nn.Module, small: nn.Module, *, graph: ChannelGraph | None = None) -> Opt:
    """The optimizer that goes on with the pruned model where `optimizer` was with the whole one.

    A new one of the same kind, with the same groups and settings; its state (momentum, moments, steps) without
    the removed filters, so that training goes on as if they had never been there. The one given is untouched.

    model: the one that `optimizer` trains. small: what `prune(model, plan)` made of it.
    A learning-rate schedule belongs to the old optimizer: make it anew with `last_epoch`.
    Raises ValueError where a trained parameter is not in the optimizer, or its state has a shape of its own.

    >>> small = prune(model, plan)
    >>> optimizer = prune_optimizer(optimizer, model, small)
    """
    check_optimizer(optimizer, model)
    graph, alive = find_alive(model, getattr(small, "pruning_plan", None), graph)  # type: ignore[arg-type]
    names = {id(tensor): name for name, tensor in model.named_parameters()}
    new = dict(small.named_parameters())

    def successor(parameter: Tensor) -> Tensor:  # what is not of the model, a loss's weight say, stays
        return new[names[id(parameter)]] if id(parameter) in names else parameter

    def carry(parameter: Tensor, key: str, value: object) -> object:
        name = names.get(id(parameter), "")
        if not isinstance(value, Tensor) or value.numel() == 1 or not name:
            return copy.deepcopy(value)
        fits = zip(value.shape, parameter.shape, strict=False)  # size 1: a sum along that dimension, as in Adafactor
        if value.ndim != parameter.ndim or any(size not in (1, whole) for size, whole in fits):
            raise ValueError(
                f"{type(optimizer).__name__} keeps {key!r} of {name} in a shape of its own, which cannot be carried "
                "over; start a new optimizer for the pruned model"
            )
        dims = {d: labels for d, labels in graph.channels.slices.get(name, {}).items() if value.shape[d] > 1}
        return keep_slices(value, dims, alive, graph.channels.root).clone()

    carried = copy.copy(optimizer)
    carried.param_groups = [{**g, "params": [successor(p) for p in g["params"]]} for g in optimizer.param_groups]
    carried.state = defaultdict(dict)
    for parameter, state in optimizer.state.items():
        carried.state[successor(parameter)] = {key: carry(parameter, key, value) for key, value in state.items()}
    check_optimizer(carried, small)
    return carried
