"""The network as a map: which layer's maps flow where, how wide layers are, and what is cut."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from prunelab.charts.layout import Cell, find_joins, list_cells, place_cells
from prunelab.charts.style import BLACK, BLUE, CHOSEN, COLOURS, GREEN, GREY, PURPLE, Chart
from prunelab.findings import described
from prunelab.graph import ChannelGraph
from prunelab.pruning import PruningPlan, measure_cost
from prunelab.utils.checks import check_choice

SHADES = {
    "saving": "removed, of all multiply-adds",
    "sensitivity": "accuracy lost by its cut (uncut: by half)",
    "stage": "stage",
}
PALE, DEEP, STAYS = "#b3d4ea", "#08519c", "#c4c4c4"
STAGES = [BLUE, GREEN, PURPLE, BLACK, GREY]
FORMS = {"add": "cross", "concat": "square", "multiply": "diamond", "input": "triangle-right"}
WHOLE_WIDTH = alt.Scale(domain=[0, 1])
ON_TOP: Any = {"orient": "top", "offset": 2, "titleOrient": "left", "gradientThickness": 10}
NARROWEST = 600  # pixels: no words overlap in a chart that is so wide or wider


def network(
    graph: ChannelGraph,
    plan: PruningPlan | None = None,
    *,
    colour: str = "saving",
    measured: pd.DataFrame | None = None,
    layer: str = "",
    fold: bool = True,
) -> Chart:
    """The network as a map: a block for each layer, as tall as its filters, with the cut drawn in.

    What goes together lights up under the pointer. Live: the parameter `pruned`, as
    `describe_network` gives it, moves the cut; `chosen` is the layer that is framed; a block that
    is clicked is in the selection `picked`.

    Args:
        graph: of `trace`.
        plan: of `make_plan`; None: nothing goes.
        colour: saving (multiply-adds removed there), sensitivity (accuracy lost), or stage.
        measured: of `measure_sensitivity`, for the colour sensitivity.
        layer: the one that is framed at first.
        fold: draw a block of layers that is repeated three times or more once, with the mean cut.

    Returns:
        Blocks from left to right, in rows as words are; where maps grow again (a U-Net), a row for
        each size of maps. A block's height grows with the root of its filters. A layer that is
        applied twice is drawn once.

    Raises:
        ValueError: no such colour, or sensitivity without `measured`.

    Example:
        >>> charts.network(graph, make_plan(graph, {"*": 0.5}))
    """
    check_choice("colour", colour, SHADES)
    cells = list_cells(graph, fold=fold)
    nodes, points = place_cells(graph, cells)
    shown = describe_network(graph, plan, colour=colour, measured=measured, fold=fold)
    height = float(nodes["end"].max())
    down = alt.Scale(domain=[0, height], reverse=True, nice=False)
    ways = alt.Chart(points).encode(
        x=_x("x"), y=_y("y").scale(down), detail="line:N", order="step:Q"
    )
    thin: Any = {"color": GREY, "strokeWidth": 1}
    lines = ways.transform_filter("datum.wraps == 0").mark_line(interpolate="monotone", **thin)
    wraps = ways.transform_filter("datum.wraps == 1").mark_line(strokeDash=[4, 3], **thin)
    frame = nodes.merge(_describe_cells(graph, cells), on="node")
    layers, joins = frame[frame["filters"] > 0], frame[frame["filters"] == 0]
    parts = [*_draw_stages(nodes), wraps, lines, _draw_joins(joins)]
    most = 0.0
    if colour == "saving":
        most = _largest_share(layers, graph)
    elif colour == "sensitivity" and measured is not None:
        most = float(measured["accuracy"].max())
    parts += [*_draw_blocks(layers, graph, colour, most), _name_layers(layers)]
    title = alt.Title(
        f"{type(graph.model).__name__}, as its maps flow",
        subtitle="height: √ of filters; orange: removed; grey: must stay, or no convolution",
    )
    chart = alt.layer(*parts).resolve_scale(color="independent", shape="independent")
    plain = alt.ViewBackground(stroke=None)
    said = described.network(measure_cost(graph, plan), type(graph.model).__name__)
    chart = chart.properties(width=900, height=height, title=title, view=plain, description=said)
    return chart.add_params(
        alt.param(name="pruned", value=shown),
        alt.param(name="chosen", value=graph.find(layer) if layer else ""),
    )


def describe_network(
    graph: ChannelGraph,
    plan: PruningPlan | None = None,
    *,
    colour: str = "saving",
    measured: pd.DataFrame | None = None,
    fold: bool = True,
) -> dict[str, dict[str, Any]]:
    """What of `network` follows a plan, for its live parameter.

    Args:
        graph: of `trace`.
        plan: of `make_plan`; None: nothing goes.
        colour: as there.
        measured: as there.
        fold: as there.

    Returns:
        {what: {block: value}}: kept (share of filters; of repeated blocks, the mean), filters and
        flops (before and after, in words), shade (what the colour says; None: not known).

    Raises:
        ValueError: sensitivity is wanted without `measured`.

    Example:
        >>> charts.describe_network(graph, plan)["kept"]["layer1.0.conv1"]
        0.5
    """
    if colour == "sensitivity" and measured is None:
        raise ValueError("the colour sensitivity needs measured=, of measure_sensitivity")
    cost = measure_cost(graph, plan).set_index("layer")
    names = {name: cell.name for name, cell in list_cells(graph, fold=fold).items()}
    cost = cost[cost.index.isin(names.keys())].copy()
    cost["kept"] = cost["maps_after"] / cost["maps"]
    cost["shade"] = (cost["flops"] - cost["flops_after"]) / max(cost["flops"].sum(), 1)
    if colour == "sensitivity" and measured is not None:
        cost["shade"] = pd.Series(_lost_accuracy(graph, measured, cost["kept"]))
    sums = cost.groupby(cost.index.map(names), sort=False).agg(
        {"kept": "mean", "shade": "mean", "maps": "sum", "maps_after": "sum", "flops": "sum"}
        | {"flops_after": "sum"}
    )
    shades = {name: round(float(shade), 6) for name, shade in sums["shade"].dropna().items()}
    counts, costs = sums[["maps_after", "maps"]], sums[["flops", "flops_after"]]
    return {
        "kept": sums["kept"].round(4).to_dict(),
        "filters": {name: f"{left} of {all}" for name, left, all in counts.itertuples()},
        "flops": {name: f"{before:,} → {after:,}" for name, before, after in costs.itertuples()},
        "shade": {name: shades.get(name) for name in sums.index},
    }


def _lost_accuracy(
    graph: ChannelGraph, measured: pd.DataFrame, kept: pd.Series
) -> dict[str, float]:
    """What each layer's cut alone costs, or half of its filters where it has none."""
    curves = {
        key: (curve["ratio"].to_numpy(), curve["accuracy"].to_numpy())
        for key, curve in measured.sort_values("ratio").groupby("layer")
    }
    lost = {}
    for group in graph.groups:
        for name in group.layers if group.prunable else ():
            curve = curves.get(group.leader, curves.get(group.stage))
            if curve is not None:
                ratio = 1 - kept.get(name, 1.0) or 0.5
                lost[name] = float(curve[1][0] - np.interp(ratio, *curve))
    return lost


def _x(name: str) -> alt.X:
    return alt.X(f"{name}:Q", scale=WHOLE_WIDTH, axis=None)


def _y(name: str) -> alt.Y:
    return alt.Y(f"{name}:Q", axis=None)


def _describe_cells(graph: ChannelGraph, cells: dict[str, Cell]) -> pd.DataFrame:
    """What is told of each cell whatever the plan."""
    groups = {name: group for group in graph.groups for name in group.layers}
    joins = find_joins(graph, cells)
    rows = []
    for cell in dict.fromkeys(cells.values()):
        layer = graph.shapes.get(cell.name)
        inside = [name for name in graph.shapes if name.startswith(f"{cell.name}.")]
        if layer is None and cell.name not in joins:  # what could not be followed
            inside = inside or list(graph.shapes)
        group = groups.get(cell.name)
        papers = [graph.shapes[name].paper_name for name in cell.members if name in graph.shapes]
        kind = layer.kind if layer else "module"
        if cell.name in joins:
            kind = cell.name.split()[0]
        role, fate = "", ""
        if layer is not None:
            role, fate = "a linear layer: it loses inputs", "stays"
        if group is not None:
            tied = len(group.layers) - 1
            leads = cell.name == group.leader
            role = f"leads {tied} tied to it" if leads else f"tied to {group.leader}"
            role = role if tied else "goes alone"
            fate = "can go" if group.prunable else f"stays: {group.reason}"
        rows.append(
            {
                "node": cell.name,
                "layer": inside[0] if inside and layer is None else cell.name,
                "paper": _name_all(papers),
                # no name of a module holds two dots
                "members": "..".join(["", *cell.members, *inside, ""]),
                "group": group.leader if group else cell.name,
                "role": role,
                "fate": fate,
                "stays": int(not (group and group.prunable)),  # as data of notebooks are CSV
                "kind": kind,
                "filters": layer.n_out if layer else int(kind == "module"),
                "of": graph.stage_of.get(cell.name, ""),
            }
        )
    return pd.DataFrame(rows)


def _name_all(papers: list[str]) -> str:
    if len(papers) < 2:
        return "".join(papers)
    return f"{papers[0]} … {papers[-1]}, {len(papers)} blocks as one"


def _draw_blocks(
    layers: pd.DataFrame, graph: ChannelGraph, colour: str, most: float
) -> list[alt.Chart]:
    """The blocks with their cuts, framed or lit. most: of what `colour` says; 0 for a stage."""
    together = alt.selection_point(
        name="together", fields=["group"], on="mouseover", clear="mouseout"
    )
    picked = alt.selection_point(name="picked", fields=["layer"], toggle=False, clear=False)
    base = alt.Chart(layers).transform_calculate(
        kept="isValid(pruned.kept[datum.node]) ? pruned.kept[datum.node] : 1",
        left="pruned.filters[datum.node]",
        flops="pruned.flops[datum.node]",
        shade="pruned.shade[datum.node]",
    )
    base = base.transform_calculate(
        cut="datum.bottom - (datum.bottom - datum.top) * datum.kept",
        tint="datum.shade || 0",  # a block whose colour is null would not be drawn
        told="isValid(datum.shade) ? format(datum.shade, '.2%') : 'not known'",
    )
    box = {"x": _x("x"), "x2": "x2:Q", "y": _y("top")}
    lit = alt.when(together).then(alt.value(1)).otherwise(alt.value(0.3))
    tips = [
        alt.Tooltip("paper:N", title="layer"),
        alt.Tooltip("layer:N", title="module"),
        alt.Tooltip("left:N", title="filters left"),
        alt.Tooltip("flops:N", title="multiply-adds"),
        alt.Tooltip("role:N", title="group"),
        alt.Tooltip("fate:N", title="its filters"),
    ]
    if not most:
        stages = alt.Scale(domain=graph.stages, range=STAGES)
        legend = alt.Legend(symbolType="square", **ON_TOP)
        tint = alt.Color("of:N", title=None, scale=stages, legend=legend)
        known = "true"
    else:
        scale = alt.Scale(type="sqrt", domain=[0, most], range=[PALE, DEEP], clamp=True)
        legend = alt.Legend(
            type="symbol", symbolType="square", format=".1~%", titleLimit=300, **ON_TOP
        )
        tint = alt.Color("tint:Q", title=SHADES[colour], scale=scale, legend=legend)
        tips.append(alt.Tooltip("told:N", title=SHADES[colour].partition(" (")[0]))
        known = "isValid(datum.shade)"
    frame = (
        base.transform_filter("indexof(datum.members, '..' + chosen + '..') >= 0")
        .mark_rect(filled=False, color=CHOSEN, strokeWidth=3)
        .encode(**box, y2="bottom:Q")
    )
    fill = alt.when(f"datum.stays == 1 || !({known})").then(alt.value(STAYS)).otherwise(tint)
    left = base.mark_rect().encode(
        **{**box, "y": _y("cut")}, y2="bottom:Q", color=fill, opacity=lit
    )
    gone = (
        base.transform_filter("datum.kept < 1")
        .mark_rect(color=COLOURS["removed"])
        .encode(**box, y2="cut:Q", opacity=lit)
    )
    easy = base.mark_rect(opacity=0, cursor="pointer").encode(**box, y2="bottom:Q", tooltip=tips)
    return [left, gone, frame, easy.add_params(together, picked)]


def _largest_share(layers: pd.DataFrame, graph: ChannelGraph) -> float:
    """The most of the network's multiply-adds that a layer has of those that can be pruned."""
    cost = measure_cost(graph).set_index("layer")["flops"]
    free = layers.loc[layers["stays"] == 0, "node"]
    return float(cost.reindex(free).max() / cost.sum()) if len(free) else 1.0


def _draw_joins(joins: pd.DataFrame) -> alt.Chart:
    kinds = [kind for kind in dict.fromkeys(joins["kind"]) if kind not in ("input", "output")]
    scale = alt.Scale(domain=kinds, range=[FORMS.get(kind, "circle") for kind in kinds])
    legend = alt.Legend(symbolFillColor=GREY, symbolStrokeWidth=0, **ON_TOP)
    shape = alt.Shape("kind:N", scale=scale, legend=legend if kinds else None, title=None)
    return (
        alt.Chart(joins)
        .mark_point(filled=True, color=GREY, opacity=1, size=45)
        .encode(
            x=_x("middle"),
            y=_y("y"),
            shape=shape,
            tooltip=[alt.Tooltip("node:N", title="join"), alt.Tooltip("stage:N", title="maps")],
        )
    )


def _draw_stages(nodes: pd.DataFrame) -> list[alt.Chart]:
    """A field behind each run of cells with maps of one size, that size above it; repeats."""
    ordered = nodes.sort_values(["row", "middle"])
    rim = (nodes["x2"] - nodes["x"]).max() / 4
    ordered = ordered.assign(x=ordered["x"] - rim, x2=ordered["x2"] + rim)
    span = {"start": ("start", "first"), "end": ("end", "first")}
    span |= {"x": ("x", "min"), "x2": ("x2", "max")}
    new = (ordered[["row", "stage"]] != ordered[["row", "stage"]].shift()).any(axis=1)
    stages = ordered.groupby(new.cumsum()).agg(words=("stage", "first"), **span)
    room = NARROWEST * (stages["x2"] - stages["x"]) > 6 * stages["words"].str.len()
    stages["words"] = stages["words"].where(room, "")
    # where rows are sizes, lines come to both ends of one
    down = not nodes["row"].is_monotonic_increasing
    stages["at"] = (stages["x"] + stages["x2"]) / 2 if down else stages["x"]
    blocks = ordered[ordered["times"] > 1].groupby("block").agg(words=("times", "first"), **span)
    blocks["words"] = "× " + blocks["words"].astype(str)
    box = {"x": _x("x"), "y": _y("start"), "x2": "x2:Q", "y2": "end:Q"}
    above: Any = {"baseline": "bottom", "dy": -2}
    words = alt.Chart(stages).mark_text(align="center" if down else "left", **above)
    times = alt.Chart(blocks).mark_text(align="right", dx=-7, fontWeight="bold", **above)
    return [
        alt.Chart(stages).mark_rect(color="#888888", opacity=0.12).encode(**box),
        alt.Chart(blocks).mark_rect(color="#888888", opacity=0.16, cornerRadius=4).encode(**box),
        words.encode(x=_x("at"), y=_y("start"), text="words:N"),
        times.encode(x=_x("x2"), y=_y("start"), text="words:N"),
    ]


def _name_layers(layers: pd.DataFrame) -> alt.Chart:
    """The paper's numbers below the blocks, where there is room."""
    names = layers["paper"].str.replace("conv_", "").str.replace("shortcut_", "s")
    named = layers.assign(words=names.str.replace("linear_", "fc ")).sort_values("middle")
    named = named[named["times"] == 1]
    ends: dict[tuple[int, float], float] = {}
    fits = []
    for row, bottom, middle, words in zip(
        named["row"], named["bottom"] + named["top"], named["middle"], named["words"], strict=True
    ):
        half = (3 * len(words) + 3) / NARROWEST
        fits.append(middle - half >= ends.get((row, bottom), 0))
        if fits[-1]:
            ends[row, bottom] = middle + half
    base = alt.Chart(named[fits]).encode(x=_x("middle"), y=_y("bottom"))
    return base.mark_text(baseline="top", dy=3, fontSize=9).encode(text="words:N")
