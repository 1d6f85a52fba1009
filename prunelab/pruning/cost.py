"""What a network costs before and after a plan: multiply-adds and parameters of its layers."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from prunelab.graph import ChannelGraph, Layer, check_graph
from prunelab.pruning.plan import PruningPlan
from prunelab.pruning.surgery import alive_after

if TYPE_CHECKING:
    import pandas as pd


def measure_cost(
    graph: ChannelGraph, plan: PruningPlan | None = None, *, shortcuts: bool = True
) -> "pd.DataFrame":
    """What each conv and linear layer costs, before and after a plan.

    Args:
        graph: of `trace`.
        plan: of `make_plan`; None: nothing goes.
        shortcuts: False leaves out projection shortcuts, as the paper's ResNet-34 rows evidently
            do.

    Returns:
        A row for each layer, in forward order; columns layer, paper_name, maps, flops
        (multiply-adds for one image, one multiply-add counted once, Li et al. 2017, §3; biases,
        batch norm and activations left out), params (weights and biases of these layers, batch norm
        left out), maps_after, flops_after, params_after.

    Raises:
        ValueError: the plan was made for another network.
    """
    import pandas as pd

    check_graph(graph, "measure_cost")
    left_out, left_in, groups, positions = widths_after(graph, plan)
    rows = []
    for name, layer in graph.shapes.items():
        if not shortcuts and layer.kind == "shortcut":
            continue
        before = _count_layer(layer, layer.n_in, layer.n_out, layer.groups, layer.positions)
        after = _count_layer(
            layer,
            left_in.get(name, layer.n_in),
            left_out.get(name, layer.n_out),
            groups.get(name, layer.groups),
            positions.get(name, layer.positions),
        )
        rows.append((name, layer.paper_name, *before, *after))
    names = ("maps", "flops", "params")
    return pd.DataFrame(
        rows, columns=["layer", "paper_name", *names, *(f"{name}_after" for name in names)]
    )


def measure_memory(graph: ChannelGraph, cost: "pd.DataFrame") -> "pd.DataFrame":
    """The cost of `measure_cost` with columns memory and memory_after: the bytes of a layer's maps.

    For one image, in 32-bit floats.
    """
    pixels = [4 * math.prod(graph.shapes[name].size) for name in cost["layer"]]
    after = cost["maps_after"] * pixels
    along = cost["layer"].isin(graph.channels.places)  # there, the channels are among the pixels
    fewer = after * cost["flops_after"] // cost["flops"]
    return cost.assign(memory=cost["maps"] * pixels, memory_after=after.mask(along, fewer))


def widths_after(graph: ChannelGraph, plan: PruningPlan | None) -> tuple[dict[str, int], ...]:
    """What is left of layers' outputs, inputs, groups and positions; of those not named, all."""
    if plan is None:
        return {}, {}, {}, {}
    channels, alive = graph.channels, alive_after(graph, plan)
    depthwise = [name for name in graph.shapes if channels.groups.get(name) == "go"]
    groups = {name: channels.reads[name] for name in depthwise if name in channels.reads}
    each = [graph.count(alive, labels) for labels in (channels.made, channels.reads, groups)]
    return *each, _positions_after(graph, alive)


def _positions_after(graph: ChannelGraph, alive: Tensor) -> dict[str, int]:
    """Of layers along places, which run for each channel by itself: where they still run."""
    after = {}
    for name, uses in graph.channels.places.items():
        labels = {i: own for i, (own, _) in enumerate(uses)}
        left = graph.count(alive, labels)
        gone = [n * (len(own) - left[i]) // len(own) for i, (own, n) in enumerate(uses)]
        after[name] = graph.shapes[name].positions - sum(gone)
    return after


def _count_layer(
    layer: Layer, n_in: int, n_out: int, groups: int, positions: int
) -> tuple[int, int, int]:
    """Maps, multiply-adds n_out · n_in · k² · h · w, and parameters n_out · n_in · k² + biases."""
    weights = n_out * (n_in // groups) * math.prod(layer.kernel)
    params = 0 if layer.kind == "filter" else weights + layer.bias * n_out
    return n_out, weights * positions, params


def total_cost(
    graph: ChannelGraph,
    plan: PruningPlan | Mapping[str, PruningPlan] | None = None,
    *,
    shortcuts: bool = True,
) -> "pd.DataFrame":
    """What the whole network costs, before and after.

    Args:
        graph: of `trace`.
        plan: of `make_plan`, or {name: plan} to compare, aligned and not, say.
        shortcuts: as in `measure_cost`.

    Returns:
        Rows `before` and `after`, or one for each name instead of `after`; columns flops
        (multiply-adds for one image), params (of conv and linear layers), params_all (of all).

    Raises:
        ValueError: a plan was made for another network.

    Example:
        >>> total_cost(graph, {"as asked": plan, "aligned": make_plan(graph, ratios, align=8)})
    """
    import pandas as pd

    check_graph(graph, "total_cost")
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
    left = dict(every)
    sliced: dict[tuple[str, int], Tensor] = {}
    for name, dims in graph.channels.slices.items():
        if name in every:
            sliced |= {(name, dim): labels for dim, labels in dims.items()}
    for (name, dim), width in graph.count(graph.alive(plan.keep), sliced).items():
        left[name] = left[name] // len(sliced[name, dim]) * width
    return left
