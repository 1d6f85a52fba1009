"""What a network costs: multiply-adds and parameters of its conv and linear layers, before and after a plan."""

import math
from collections.abc import Mapping

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
    left_out, left_in, groups = widths_after(graph, plan)
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


def measure_memory(graph: ChannelGraph, cost: pd.DataFrame) -> pd.DataFrame:
    """The cost of `measure_cost` with two more columns: memory and memory_after, the bytes of a layer's maps.

    For one image, in 32-bit floats.
    """
    pixels = [4 * math.prod(graph.shapes[name].size) for name in cost["layer"]]
    return cost.assign(memory=cost["maps"] * pixels, memory_after=cost["maps_after"] * pixels)


def widths_after(graph: ChannelGraph, plan: PruningPlan | None) -> tuple[dict[str, int], ...]:
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


def total_cost(
    graph: ChannelGraph,
    plan: PruningPlan | Mapping[str, PruningPlan] | None = None,
    *,
    shortcuts: bool = True,
) -> pd.DataFrame:
    """Two rows, before and after: flops (multiply-adds), params (conv and linear), params_all (all of the model).

    plan: one, or {name: plan} to compare, aligned and not, say: then a row for each name instead of `after`.

    >>> total_cost(graph, {"as asked": plan, "aligned": make_plan(graph, ratios, align=8)})
    """
    plans = dict(plan) if isinstance(plan, Mapping) else {"after": plan}
    every = {name: tensor.numel() for name, tensor in graph.model.named_parameters()}
    rows = {}
    for name, one in {"before": None, **plans}.items():
        cost = measure_cost(graph, one, shortcuts=shortcuts)
        left = every if one is None else every | _params_after(graph, one, every)
        rows[name] = {
            "flops": int(cost["flops_after"].sum()),
            "params": int(cost["params_after"].sum()),
            "params_all": sum(left.values()),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _params_after(graph: ChannelGraph, plan: PruningPlan, every: dict[str, int]) -> dict[str, int]:
    channels, left = graph.channels, dict(every)
    sliced = {(name, dim): own for name, dims in channels.slices.items() if name in left for dim, own in dims.items()}
    for (name, dim), width in graph.count(graph.alive(plan.keep), sliced).items():
        left[name] = left[name] // len(sliced[name, dim]) * width
    return left
