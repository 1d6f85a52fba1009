"""Optimizers of pruned models: state without the removed filters, and nothing left untrained."""

import copy
from collections import defaultdict
from typing import TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from prunelab.graph import ChannelGraph
from prunelab.pruning.surgery import alive_after, find_graph, keep_slices

Opt = TypeVar("Opt", bound=Optimizer)


def prune_optimizer(
    optimizer: Opt, model: nn.Module, small: nn.Module, *, graph: ChannelGraph | None = None
) -> Opt:
    """The optimizer that goes on with the pruned model where `optimizer` was with the whole one.

    Its state (momentum, moments, steps) is without the removed filters, so that training goes on as
    if they had never been there. A learning-rate schedule belongs to the old optimizer: make it
    anew with `last_epoch`.

    Args:
        optimizer: of any kind; it is left untouched.
        model: the one that `optimizer` trains.
        small: what `prune(model, plan)` made of it.
        graph: the trace of `model`, when at hand.

    Returns:
        A new optimizer of the same kind, with the same groups and settings.

    Raises:
        ValueError: a trained parameter is not in the optimizer, or its state has a shape of its
            own.

    Example:
        >>> small = prune(model, plan)
        >>> optimizer = prune_optimizer(optimizer, model, small)
    """
    check_optimizer(optimizer, model)
    plan = getattr(small, "pruning_plan", None)
    graph = find_graph(model, plan, graph)
    channels, alive = graph.channels, alive_after(graph, plan)  # type: ignore[arg-type]
    names = {id(tensor): name for name, tensor in model.named_parameters()}
    new = dict(small.named_parameters())

    def successor(parameter: Tensor) -> Tensor:
        """What is not of the model, a loss's weight say, stays."""
        return new[names[id(parameter)]] if id(parameter) in names else parameter

    def carry(parameter: Tensor, key: str, value: object) -> object:
        name = names.get(id(parameter), "")
        if not isinstance(value, Tensor) or value.numel() == 1 or not name:
            return copy.deepcopy(value)
        # size 1: a sum along that dimension, as in Adafactor
        fits = (size in (1, n) for size, n in zip(value.shape, parameter.shape, strict=False))
        if value.ndim != parameter.ndim or not all(fits):
            raise ValueError(
                f"{type(optimizer).__name__} keeps {key!r} of {name} in a shape of its own, which "
                "cannot be carried over; start a new optimizer for the pruned model"
            )
        dims = channels.slices.get(name, {}).items()
        wide = {dim: labels for dim, labels in dims if value.shape[dim] > 1}
        return keep_slices(value, wide, alive, channels.root).clone()

    carried = copy.copy(optimizer)
    carried.param_groups = [
        {**group, "params": [successor(p) for p in group["params"]]}
        for group in optimizer.param_groups
    ]
    carried.state = defaultdict(dict)
    for parameter, state in optimizer.state.items():
        own = {key: carry(parameter, key, value) for key, value in state.items()}
        carried.state[successor(parameter)] = own
    check_optimizer(carried, small)
    return carried


def check_optimizer(optimizer: Optimizer, model: nn.Module) -> None:
    """Check that an optimizer holds every parameter that the model trains.

    The usual slip: the model was pruned, and the optimizer still holds the parameters of the whole
    one, so that the new ones stand still.

    Args:
        optimizer: of any kind.
        model: the one to be trained.

    Raises:
        ValueError: some are missing; it names them.
    """
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    idle = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in held]
    if idle:
        more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
        raise ValueError(
            f"{', '.join(idle[:3])}{more} would not be trained: the optimizer does not hold them. "
            "After pruning, write optimizer = prune_optimizer(optimizer, model, small), or make a "
            "new one"
        )
