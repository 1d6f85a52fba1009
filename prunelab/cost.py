"""What a network costs: multiply-adds and parameters of its conv and linear layers, before and after a plan."""

import math

import pandas as pd

from prunelab.graph import ChannelGraph, Cut
from prunelab.plan import PruningPlan
from prunelab.tracing import Layer


def measure_cost(graph: ChannelGraph, plan: PruningPlan | None = None, *, shortcuts: bool = True) -> pd.DataFrame:
    """A row for each conv and linear layer, in forward order, before and after a plan (none: nothing goes).

    Columns: layer, paper_name, maps, flops, params, maps_after, flops_after, params_after.
    flops: multiply-adds for one image, one multiply-add counted once (Li et al. 2017, §3); biases, batch
        norm and activations left out. params: weights and biases of these layers, batch norm left out.
    shortcuts: False leaves out projection shortcuts, as the paper's ResNet-34 rows evidently do.
    Raises ValueError when the plan was made for another network.
    """
    cuts: dict[str, Cut] = {}
    if plan is not None:
        plan.check_graph(graph)
        cuts = graph.cuts(plan.keep)
    rows = []
    for layer in graph.shapes.values():
        if not shortcuts and layer.kind == "shortcut":
            continue
        cut = cuts.get(layer.name, Cut(None, None))
        n_out = layer.n_out if cut.outputs is None else len(cut.outputs)
        n_in = layer.n_in if cut.inputs is None else len(cut.inputs)
        rows.append(
            (
                layer.name,
                layer.paper_name,
                *_count(layer, layer.n_in, layer.n_out),
                *_count(layer, n_in, n_out),
            )
        )
    names = ("maps", "flops", "params")
    return pd.DataFrame(rows, columns=["layer", "paper_name", *names, *(f"{name}_after" for name in names)])


def _count(layer: Layer, n_in: int, n_out: int) -> tuple[int, int, int]:
    """Maps, multiply-adds and parameters: n_out · n_in · k² · h · w, and n_out · n_in · k² with biases."""
    per_group = 1 if layer.groups == layer.n_in else n_in // layer.groups
    weights = n_out * per_group * math.prod(layer.kernel)
    return n_out, weights * layer.positions, weights + layer.bias * n_out


def total_cost(graph: ChannelGraph, plan: PruningPlan | None = None, *, shortcuts: bool = True) -> pd.DataFrame:
    """Two rows, before and after: flops (multiply-adds), params (conv and linear), params_all (all of the model)."""
    cost = measure_cost(graph, plan, shortcuts=shortcuts)
    cuts = {} if plan is None else graph.cuts(plan.keep)
    counted = cost if shortcuts else measure_cost(graph, plan)
    gone = int((counted["params"] - counted["params_after"]).sum())
    for name, labels in graph.channels.follows.items():  # the norms' entries of removed maps
        kept = cuts[name].outputs if name in cuts else None
        values = sum(p.shape[0] > 1 for p in graph.model.get_submodule(name).parameters(recurse=False))
        gone += 0 if kept is None else values * (len(labels) - len(kept))
    every = sum(p.numel() for p in graph.model.parameters())
    rows = {
        when: {
            "flops": int(cost[f"flops{suffix}"].sum()),
            "params": int(cost[f"params{suffix}"].sum()),
            "params_all": left,
        }
        for when, suffix, left in (("before", "", every), ("after", "_after", every - gone))
    }
    return pd.DataFrame.from_dict(rows, orient="index")
