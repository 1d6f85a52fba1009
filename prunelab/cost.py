"""What a network costs: multiply-adds and parameters of its conv and linear layers, before and after a plan."""

import math

import pandas as pd

from prunelab.channels import Layer
from prunelab.graph import ChannelGraph
from prunelab.plan import PruningPlan


def measure_cost(graph: ChannelGraph, plan: PruningPlan | None = None, *, shortcuts: bool = True) -> pd.DataFrame:
    """A row for each conv and linear layer, in forward order, before and after a plan (none: nothing goes).

    Columns: layer, paper_name, maps, flops, params, maps_after, flops_after, params_after.
    flops: multiply-adds for one image, one multiply-add counted once (Li et al. 2017, §3); biases, batch
        norm and activations left out. params: weights and biases of these layers, batch norm left out.
    shortcuts: False leaves out projection shortcuts, as the paper's ResNet-34 rows evidently do.
    Raises ValueError when the plan was made for another network.
    """
    left_out, left_in, groups = _widths_after(graph, plan)
    rows = []
    for name, layer in graph.shapes.items():
        if not shortcuts and layer.kind == "shortcut":
            continue
        before = _count(layer, layer.n_in, layer.n_out, layer.groups)
        after = _count(
            layer, left_in.get(name, layer.n_in), left_out.get(name, layer.n_out), groups.get(name, layer.groups)
        )
        rows.append((name, layer.paper_name, *before, *after))
    names = ("maps", "flops", "params")
    return pd.DataFrame(rows, columns=["layer", "paper_name", *names, *(f"{name}_after" for name in names)])


def _widths_after(graph: ChannelGraph, plan: PruningPlan | None) -> tuple[dict[str, int], ...]:
    """What is left of each layer's filters, input channels and groups; of those not named, all."""
    if plan is None:
        return {}, {}, {}
    plan.check_graph(graph)
    channels, alive = graph.channels, graph.alive(plan.keep)
    groups = {name: labels for (name, attribute, _), labels in channels.counts.items() if attribute == "groups"}
    return tuple(graph.count(alive, labels) for labels in (channels.made, channels.reads, groups))


def _count(layer: Layer, n_in: int, n_out: int, groups: int) -> tuple[int, int, int]:
    """Maps, multiply-adds and parameters: n_out · n_in · k² · h · w, and n_out · n_in · k² with biases."""
    weights = n_out * (n_in // groups) * math.prod(layer.kernel)
    return n_out, weights * layer.positions, weights + layer.bias * n_out


def total_cost(graph: ChannelGraph, plan: PruningPlan | None = None, *, shortcuts: bool = True) -> pd.DataFrame:
    """Two rows, before and after: flops (multiply-adds), params (conv and linear), params_all (all of the model)."""
    cost = measure_cost(graph, plan, shortcuts=shortcuts)
    every = {name: tensor.numel() for name, tensor in graph.model.named_parameters()}
    left = every if plan is None else every | _params_after(graph, plan, every)
    rows = {
        when: {
            "flops": int(cost[f"flops{suffix}"].sum()),
            "params": int(cost[f"params{suffix}"].sum()),
            "params_all": sum(parameters.values()),
        }
        for when, suffix, parameters in (("before", "", every), ("after", "_after", left))
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _params_after(graph: ChannelGraph, plan: PruningPlan, every: dict[str, int]) -> dict[str, int]:
    alive, left = graph.alive(plan.keep), dict(every)
    for name, dims in graph.channels.slices.items():
        for labels in dims.values() if name in left else ():
            left[name] = left[name] // len(labels) * int(alive[graph.channels.root[labels]].sum())
    return left
