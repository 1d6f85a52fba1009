"""The oracle: a full-size network that must compute what the pruned one does."""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from prunelab.graph import ChannelGraph, Mix, trace_forward
from prunelab.pruning.plan import PruningPlan
from prunelab.pruning.surgery import alive_after, find_graph, prune
from prunelab.utils.modules import copy_with, like_model

if TYPE_CHECKING:
    import pandas as pd


def silence(model: nn.Module, plan: PruningPlan, *, graph: ChannelGraph | None = None) -> nn.Module:
    """A full-size copy whose layers read zero where the plan removes a map.

    It is what `prune` must compute. Zeroing the filters themselves is not the same: batch norm's
    shift would still come through. A norm whose mean is over channels (layer norm, group norm)
    takes it over those that stay, in both networks: with zeros in it, its mean would be another.
    The copy is then a traced one, in evaluation mode.

    Args:
        model: the network; it is left untouched.
        plan: of `make_plan`.
        graph: the trace of `model`, when at hand.

    Returns:
        A network of the size and with the outputs' shape of the one given.

    Raises:
        ValueError: the plan was made for another network.
    """
    graph = find_graph(model, plan, graph)
    channels, alive = graph.channels, alive_after(graph, plan)
    copy = copy_with(model, torch.clone)
    tensors = dict(copy.named_parameters()) | dict(copy.named_buffers())
    for layer in channels.layers.values():
        tensor, dim = channels.alias.get(layer.weight, layer.weight), 0 if layer.transposed else 1
        labels = channels.slices.get(tensor, {}).get(dim)
        if labels is not None:
            weight, gone = tensors[tensor], ~alive[channels.root[labels]]
            with torch.no_grad():
                weight.index_fill_(dim, gone.nonzero().squeeze(1).to(weight.device), 0)
    survivors = {}
    for name, mixed in channels.mixes.items():
        if not (left := alive[channels.root[mixed.labels]]).all():
            survivors[name] = mixed, left.nonzero().squeeze(1)
    removed = {}
    for name, (dim, labels) in channels.computed.items():
        if (gone := ~alive[channels.root[labels]]).any():
            removed[name] = dim, gone.nonzero().squeeze(1)
    return _Silenced(copy, plan, survivors, removed) if survivors or removed else copy


def mask(model: nn.Module, plan: PruningPlan, *, graph: ChannelGraph | None = None) -> nn.Module:
    """A full-size copy whose removed filters (weights and biases) are zero.

    That is often called pruning, but is not what `prune` computes: the batch norm behind a zeroed
    filter still gives its shift, and that leaks on.

    Args:
        model: the network; it is left untouched.
        plan: of `make_plan`.
        graph: the trace of `model`, when at hand.

    Returns:
        A network of the size of the one given.

    Raises:
        ValueError: the plan was made for another network.
    """
    graph = find_graph(model, plan, graph)
    channels, alive = graph.channels, alive_after(graph, plan)
    copy = copy_with(model, torch.clone)
    tensors = dict(copy.named_parameters()) | dict(copy.named_buffers())
    with torch.no_grad():
        for name, labels in channels.made.items():
            gone = ~alive[channels.root[labels]]
            if name not in graph.shapes or not gone.any():
                continue
            weight = tensors.get(channels.alias.get(graph.shapes[name].weight, ""))
            if weight is not None:
                graph.as_filters(name, weight)[gone.to(weight.device)] = 0
            if (bias := tensors.get(f"{name}.bias")) is not None:
                bias[gone.to(bias.device)] = 0
        for name, (own, _) in channels.weights.items():  # of which the code computes a weight
            gone = ~alive[channels.root[own]]
            tensors[name].index_fill_(0, gone.nonzero().squeeze(1).to(tensors[name].device), 0)
    return copy


class _Silenced(nn.Module):
    """A traced model that takes means over the channels that stay, and silences computed convs."""

    def __init__(self, model: nn.Module, plan: PruningPlan, survivors: Any, removed: Any) -> None:
        super().__init__()
        inputs = tuple(like_model(model, x) for x in plan.example_inputs())
        self.traced = trace_forward(model.eval(), inputs)
        self.survivors: dict[str, tuple[Mix, Tensor]] = survivors
        self.removed: dict[str, tuple[int, Tensor]] = removed

    def forward(self, *inputs: Tensor) -> Any:
        return _SilencedRun(self).run(*inputs)


class _SilencedRun(fx.Interpreter):
    def __init__(self, silenced: _Silenced) -> None:
        super().__init__(silenced.traced)
        self.silenced = silenced

    def run_node(self, n: fx.Node) -> Any:
        name = str(n.target) if n.op == "call_module" else n.name
        if name in self.silenced.removed:
            dim, gone = self.silenced.removed[name]
            args, kwargs = self._fetch(n)
            heard = args[0].index_fill(dim, gone.to(args[0].device), 0)
            return getattr(self, n.op)(n.target, (heard, *args[1:]), kwargs)
        if name not in self.silenced.survivors:
            return super().run_node(n)
        mixed, keep = self.silenced.survivors[name]
        args, kwargs = self._fetch(n)
        x: Tensor = args[0]
        keep = keep.to(x.device)
        few = x.index_select(mixed.dim, keep)
        if mixed.alone:
            out = getattr(self, n.op)(n.target, (few, *args[1:]), kwargs)
        elif n.op == "call_module":
            out = _norm_module(self.fetch_attr(str(n.target)), few, mixed.dim, keep)
        else:
            out = _norm_function(n.target, few, keep, args[1:], kwargs)
        return out if mixed.shrinks else torch.zeros_like(x).index_copy(mixed.dim, keep, out)

    def _fetch(self, n: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a node, what it works on in front."""
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if args:
            return args, kwargs
        return (kwargs["input"],), {name: kwargs[name] for name in kwargs if name != "input"}


def _norm_module(norm: Any, x: Tensor, dim: int, keep: Tensor) -> Tensor:
    """What a norm makes of the channels that stay, with its entries for them."""
    over_groups = isinstance(norm, nn.GroupNorm)
    place = 0 if over_groups else dim - x.ndim + len(norm.normalized_shape)
    weight, bias = (
        None if tensor is None else tensor.index_select(place, keep)
        for tensor in (norm.weight, getattr(norm, "bias", None))
    )
    if over_groups:
        return F.group_norm(x, norm.num_groups, weight, bias, norm.eps)
    shape = list(x.shape[x.ndim - len(norm.normalized_shape) :])
    if isinstance(norm, nn.RMSNorm):
        return F.rms_norm(x, shape, weight, norm.eps)
    return F.layer_norm(x, shape, weight, bias, norm.eps)


def _norm_function(
    norm: Any, x: Tensor, keep: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """The same for a norm that the model's code calls; of layer norm, over the last dimension."""

    def thin(value: Any) -> Any:
        return value.index_select(0, keep) if isinstance(value, Tensor) else value

    shape = args[0] if args else kwargs.pop("normalized_shape", None) or kwargs.pop("num_groups")
    few = shape if isinstance(shape, int) else [x.shape[-1]]
    thinned = {name: thin(value) for name, value in kwargs.items()}
    return norm(x, few, *map(thin, args[1:]), **thinned)


def compare_with_silenced(
    model: nn.Module,
    plan: PruningPlan,
    images: Tensor,
    *,
    masked: bool = False,
    graph: ChannelGraph | None = None,
) -> "pd.DataFrame":
    """How far the pruned network is from the silenced one, which is what removing means.

    Args:
        model: the network; it is left untouched.
        plan: of `make_plan`.
        images: (n, 3, h, w), normalised.
        masked: also a row for the network whose filters are only zero (`mask`).
        graph: the trace of `model`, when at hand.

    Returns:
        A row for each network; columns network (`removed` or `masked`), max_difference (the
        largest absolute difference of the logits), max_output (the largest logit of the silenced
        network), changed (images whose predicted class differs), images.

    Raises:
        ValueError: the plan was made for another network.
    """
    import pandas as pd

    graph = find_graph(model, plan, graph)
    networks = {"removed": prune(model, plan, graph=graph)}
    if masked:
        networks["masked"] = mask(model, plan, graph=graph)
    rows, images = [], like_model(model, images)
    with torch.inference_mode():
        truth = silence(model, plan, graph=graph).eval()(images)
        for name, network in networks.items():
            logits = network.eval()(images)
            row = {
                "network": name,
                "max_difference": float((logits - truth).abs().max()),
                "max_output": float(truth.abs().max()),
                "changed": int((logits.argmax(1) != truth.argmax(1)).sum()),
                "images": len(images),
            }
            rows.append(row)
    return pd.DataFrame(rows)
