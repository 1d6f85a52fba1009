"""Taking filters out: new, smaller models whose tensors and attributes agree."""

import torch
from torch import Tensor, nn

from prunelab.graph import ChannelGraph, Cut, trace
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
    cuts = _find_cuts(model, plan, graph)
    pieces: dict[int, Tensor] = {}
    for name, cut in cuts.items():
        for tensor, dims in _slices(model.get_submodule(name), cut):
            small = tensor.detach()
            for dim, index in dims:
                small = small.index_select(dim, index.to(tensor.device))
            if dims:
                pieces[id(tensor)] = small
    pruned = copy_with(model, lambda tensor: pieces[id(tensor)] if id(tensor) in pieces else tensor.clone())
    for name, cut in cuts.items():
        _set_attributes(pruned.get_submodule(name), cut)
    pruned.pruning_plan = plan  # type: ignore[assignment]
    return pruned


def silence(model: nn.Module, plan: PruningPlan, *, graph: ChannelGraph | None = None) -> nn.Module:
    """A full-size copy whose layers read zero where the plan removes a map: what `prune` must compute.

    The oracle of this project. Zeroing the filters themselves is not the same: batch norm's shift would
    still come through.
    """
    cuts = _find_cuts(model, plan, graph)
    copy = copy_with(model, torch.clone)
    for name, cut in cuts.items():
        module = copy.get_submodule(name)
        if cut.inputs is not None and isinstance(module.weight, Tensor):
            gone = torch.ones(module.weight.shape[1], dtype=torch.bool, device=module.weight.device)
            gone[cut.inputs.to(gone.device)] = False
            with torch.no_grad():
                module.weight[:, gone] = 0
    return copy


def _find_cuts(model: nn.Module, plan: PruningPlan, graph: ChannelGraph | None) -> dict[str, Cut]:
    if not isinstance(model, nn.Module) or not isinstance(plan, PruningPlan):
        raise ValueError(
            f"prune takes a model and a plan of make_plan, not {type(model).__name__} and {type(plan).__name__}"
        )
    if graph is None:
        graph = trace(model, tuple(torch.zeros(shape) for shape in plan.input_shapes))
    plan.check_graph(graph)
    return graph.cuts(plan.keep)


def _slices(module: nn.Module, cut: Cut) -> list[tuple[Tensor, list[tuple[int, Tensor]]]]:
    """(tensor, [(dimension, positions that stay)]) for each tensor of a module that shrinks."""
    depthwise = getattr(module, "groups", 1) > 1
    found = []
    for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        dims = [(0, cut.outputs)] if tensor.ndim > 0 else []
        if name == "weight" and tensor.ndim > 1 and not depthwise:
            dims.append((1, cut.inputs))
        found.append((tensor, [(dim, index) for dim, index in dims if index is not None]))
    return found


def _set_attributes(module: nn.Module, cut: Cut) -> None:
    names = {
        ("out_channels", "out_features", "num_features", "num_parameters"): cut.outputs,
        ("in_channels", "in_features"): cut.inputs,
    }
    if getattr(module, "groups", 1) > 1:
        names["in_channels", "groups"] = cut.outputs
    for attributes, index in names.items():
        for attribute in attributes:
            if index is not None and hasattr(module, attribute):
                setattr(module, attribute, len(index))
