"""Charts of filters: sorted norms, the cut of one layer, the first layer's weights as images."""

import io
import math
from collections.abc import Collection
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from prunelab.charts.style import (
    CHOSEN,
    COLOURS,
    FORMS,
    GREY,
    PERCENT,
    RAMP,
    TINY,
    Chart,
    Picture,
    lay_panels,
    percent_tip,
    picture,
    tell_apart,
)
from prunelab.findings import describe_correlation, described

FATES = {"kept": "kept", "removed": "removed", "fixed": "must stay"}
POINTS = 20  # of a line in `norm_lines`, about; more would not be seen
HALF = 0.5  # of the largest score: an axis whose lines all stay above it does not start at 0
PANEL = 240, 170  # pixels of a panel of `steepness`
# from a point to its number, in pixels, best first: close by, then farther away
SIDES = [(1, -1), (1, 0), (0, -1), (1, 1), (0, 1), (-1, -1), (-1, 0), (-1, 1)]
BESIDE = [(right * x, below * y) for x, y in ((10, 9), (17, 15)) for right, below in SIDES]
TO_POINT, TO_NUMBER = (10, 9), (13, 11)  # at which a number meets neither
PASSES = 3  # in which all numbers are placed
COLUMNS, GAP = 24, 6  # filters in a row of `filter_images`, pixels between two


def filter_norms(ranked: pd.DataFrame, *, columns: int = 3) -> alt.FacetChart:
    """Sorted filter scores, a line for each conv and a panel for each stage, as in Fig. 2(a).

    Args:
        ranked: of `rank_filters`.
        columns: panels in a row.

    Returns:
        Each filter's share of its layer's largest score against its rank, coloured by its fate.

    Example:
        >>> charts.filter_norms(rank_filters(graph, plan))
    """
    shown = ["paper_name", "stage", "filter", "rank", "share"]
    frame = ranked[shown].astype({"share": float}).round(3)
    frame["fate"] = ranked["fate"].map(FATES)
    shares = _frame_shares(frame["share"], "score / largest score")
    base = alt.Chart(frame).encode(
        x=alt.X("rank:Q", title="rank / filters of the layer", axis=PERCENT),
        y=alt.Y("share:Q", **shares),
        detail="paper_name:N",
        tooltip=["paper_name:N", "filter:Q", alt.Tooltip("share:Q", format=".3f"), "fate:N"],
    )
    lines = base.mark_line(strokeWidth=0.5, color=GREY)
    domain, legend = list(FATES.values()), alt.Legend(orient="top")
    scale = alt.Scale(domain=domain, range=[COLOURS[fate] for fate in FATES])
    forms = alt.Scale(domain=domain, range=FORMS[: len(domain)])
    points = base.mark_point(filled=True, size=22, opacity=1).encode(
        color=alt.Color("fate:N", scale=scale, title="filters", legend=legend),
        shape=alt.Shape("fate:N", scale=forms, title="filters", legend=legend),
        order=alt.Order("fate:N", sort="ascending"),
    )
    title = alt.Title(
        "Sorted filter scores, one line for each conv", subtitle="the smallest go first"
    )
    chart = alt.layer(lines, points).properties(width=260, height=190)
    stages = alt.Facet("stage:N", title=None)
    panels = lay_panels(chart, stages, frame["stage"].nunique(), columns)
    return panels.properties(title=title, description=described.filter_norms(ranked))


def norm_lines(ranked: pd.DataFrame, layer: str = "") -> Chart:
    """Sorted filter scores of every layer in one chart, as Fig. 2(a) has them for norms.

    Live: the parameter `chosen` is the layer drawn bold; a line that is clicked is in the selection
    `picked`.

    Args:
        ranked: of `rank_filters`.
        layer: the one that is drawn bold at first.

    Returns:
        A line for each conv, coloured front to back.

    Example:
        >>> charts.norm_lines(rank_filters(graph), "conv1")
    """
    layers = list(dict.fromkeys(ranked["layer"]))
    sizes = ranked.groupby("layer")["rank"].transform("size")
    step = (sizes / POINTS).clip(lower=1).round().astype(int)
    place = ranked.groupby("layer").cumcount()
    drawn = (place % step == 0) | (ranked["rank"] == 1)
    frame = ranked.loc[drawn, ["layer", "rank", "share"]].astype({"share": float})
    depth = {name: i + 1 for i, name in enumerate(layers)}
    frame = frame.assign(depth=frame["layer"].map(depth)).round(3)

    base = alt.Chart(frame).encode(
        x=alt.X("rank:Q", title="filters, largest first", axis=PERCENT),
        y=alt.Y("share:Q", **_frame_shares(frame["share"], "score / largest of the layer")),
        detail="layer:N",
        tooltip=["layer:N", alt.Tooltip("depth:Q", title="conv, front to back")],
    )
    colour = alt.Color(
        "depth:Q",
        title="conv, front to back",
        scale=alt.Scale(domain=np.linspace(1, len(layers), len(RAMP)).tolist(), range=RAMP),
        legend=alt.Legend(
            type="symbol", tickMinStep=1, orient="bottom", columns=8, symbolOpacity=1
        ),
    )
    lines = base.mark_line(strokeWidth=1).encode(color=colour)
    bold = base.mark_line(color=CHOSEN, strokeWidth=3.5).transform_filter("datum.layer == chosen")
    picked = alt.selection_point(name="picked", fields=["layer"], toggle=False, clear=False)
    easy = base.mark_line(opacity=0, strokeWidth=9).add_params(picked)  # wide, to be hit
    subtitle = ["bold and pink: the layer beside it"] if layer else []
    title = alt.Title("Sorted filter scores of every conv", subtitle=subtitle)
    chart = alt.layer(lines, bold, easy).properties(
        width=280, height=220, title=title, description=described.filter_norms(ranked)
    )
    return chart.add_params(alt.param(name="chosen", value=layer))


def _frame_shares(shares: pd.Series, words: str) -> dict[str, Any]:
    """An axis of scores over their layer's largest: from 0 to 1 but where they leave or fill it."""
    known = shares[np.isfinite(shares)]
    least, most = min([*known, 0.9]), max([*known, 1.0])
    low = math.floor(10 * least) / 10 if least < 0 or least >= HALF else 0
    title = f"{words} (axis from {low:g})" if low > 0 else words
    scale = alt.Scale(domain=[low, most], nice=low < 0 or most > 1)
    return {"title": title, "scale": scale}


def layer_norms(shown: dict[str, Any], most: int) -> Chart:
    """The sorted scores of one layer, kept and removed apart, with the cut between them.

    Live: the parameter `shown` takes what `describe_norms` says of any layer.

    Args:
        shown: of `describe_norms`.
        most: filters of the widest layer that will be shown.

    Returns:
        A point for each filter, by place and score.

    Example:
        >>> charts.layer_norms(charts.describe_norms(ranked, "conv1"), most=64)
    """
    fates = list(FATES)
    colours = alt.Scale(domain=fates, range=[COLOURS[fate] for fate in fates])
    shapes = alt.Scale(domain=fates, range=FORMS[: len(fates)])
    from_zero = alt.Scale(zero=True)
    whole, tiny = alt.Axis(tickMinStep=1), alt.Axis(format="~g", labelExpr=TINY)
    points = (
        alt.Chart(alt.sequence(0, most, as_="i"))
        .transform_filter("datum.i < length(shown.scores)")
        .transform_calculate(
            place="datum.i + 1",
            score="shown.scores[datum.i]",
            fate="shown.fates[datum.i]",
            filter="shown.filters[datum.i]",
        )
        .mark_point(filled=True, size=36, opacity=1)
        .encode(
            x=alt.X("place:Q", title="filters, largest first", axis=whole, scale=from_zero),
            y=alt.Y("score:Q", title="score", axis=tiny, scale=from_zero),
            color=alt.Color("fate:N", scale=colours, title=None, legend=alt.Legend(orient="top")),
            shape=alt.Shape("fate:N", scale=shapes, title=None),
            tooltip=["filter:Q", "fate:N", alt.Tooltip("score:Q", format=".4~g")],
        )
    )
    cut = (
        alt.Chart(alt.sequence(0, 1, as_="i"))
        .transform_calculate(cut="shown.cut")
        .transform_filter("isValid(datum.cut)")
        .mark_rule(color=COLOURS["removed"], strokeDash=[5, 3], strokeWidth=2)
        .encode(x="cut:Q")
    )
    title = alt.Title(alt.ExprRef("shown.title"), fontSize=12)
    chart = alt.layer(points, cut).properties(
        width=290, height=240, title=title, description=described.layer_norms(shown)
    )
    return chart.add_params(alt.param(name="shown", value=shown))


def describe_norms(ranked: pd.DataFrame, layer: str) -> dict[str, Any]:
    """What `layer_norms` draws of a layer: its scores, its filters' fates and the cut.

    Args:
        ranked: of `rank_filters`.
        layer: its qualified name.

    Returns:
        title, and, largest score first, scores, filters (original numbers) and fates (kept, removed
        or fixed). cut: the place between kept and removed; None where the two are mixed, or nothing
        goes.

    Example:
        >>> charts.describe_norms(rank_filters(graph, plan), "layer1.0.conv1")["cut"]
        11.5
    """
    own = ranked[ranked["layer"] == layer]
    fates = own["fate"].tolist()
    gone = fates.count("removed")
    kept = len(fates) - gone
    sorted_apart = gone > 0 and "removed" not in fates[:kept]
    what = "cannot go" if "fixed" in fates else f"{gone} of {len(fates)} go"
    return {
        "title": f"{own['paper_name'].iloc[0]} ({layer}): {what}",
        "scores": [float(f"{score:.5g}") for score in own["score"]],
        "filters": own["filter"].tolist(),
        "fates": fates,
        "cut": kept + 0.5 if sorted_apart else None,
    }


def filter_images(weight: Tensor, removed: Collection[int], *, side: int = 24) -> Picture:
    """The filters of a first layer as a PNG: those that stay above those that go, as in Fig. 5.

    Each filter is stretched to the whole range, so that its pattern shows; the largest norms come
    first. Those that stay are framed in blue, those that go in orange.

    Args:
        weight: (filters, colours, kh, kw); with 3 colours, in colour, else their mean in grey.
        removed: places in `weight` of those that go.
        side: pixels of one filter.

    Returns:
        The bytes of a PNG, which Jupyter shows as a picture; `.alt` says what is seen.

    Example:
        >>> charts.filter_images(graph.filters("conv1"), removed=[])
    """
    images = weight.detach().float().cpu()
    if images.shape[1] != 3:
        images = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    flat = images.flatten(1)
    order = torch.argsort(flat.abs().sum(1), descending=True).tolist()
    low, high = flat.amin(1)[:, None, None, None], flat.amax(1)[:, None, None, None]
    stretched = ((images - low) / (high - low).clamp(min=1e-12) * 255).byte()
    tiles = stretched.permute(0, 2, 3, 1).numpy()

    gone = set(removed)
    parts = {
        "kept": [i for i in order if i not in gone],
        "removed": [i for i in order if i in gone],
    }
    step = side + GAP
    heights = {fate: -(-len(part) // COLUMNS) * step for fate, part in parts.items()}
    size = min(COLUMNS, len(order)) * step + GAP, sum(heights.values()) + 2 * GAP
    sheet = Image.new("RGBA", size)  # on light and dark pages
    top = GAP
    for fate, part in parts.items():
        for place, i in enumerate(part):
            x, y = GAP + place % COLUMNS * step, top + place // COLUMNS * step
            sheet.paste(COLOURS[fate], (x - 2, y - 2, x + side + 2, y + side + 2))
            tile = Image.fromarray(tiles[i]).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(tile, (x, y))
        top += heights[fate] + GAP
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return picture(buffer.getvalue(), described.filter_images(len(order), gone))


def steepness(points: pd.DataFrame) -> alt.FacetChart:
    """How much each layer alone loses, against how steeply its sorted norms fall (§3.2).

    Args:
        points: of `findings.pair_steepness`.

    Returns:
        A panel for each network and a point for each layer, by its number, coloured by stage.

    Example:
        >>> charts.steepness(findings.pair_steepness(rank_filters(graph), measured))
    """
    number = points["paper_name"].str.removeprefix("conv_")
    frame = points.assign(number=number)[
        ["network", "paper_name", "number", "stage", "steepness", "ratio", "lost"]
    ].round(4)
    stages = sorted(set(frame["stage"]))
    scales = tell_apart(stages)
    marks: dict[str, Any] = {"color": alt.Color("stage:N", scale=scales["color"], title="stage")}
    if "shape" in scales:
        marks["shape"] = alt.Shape("stage:N", scale=scales["shape"], title="stage")
    ratios = sorted(set(frame["ratio"]))
    at = " or ".join(f"{100 * ratio:.0f} %" for ratio in ratios)
    x, y = _frame_points(frame["steepness"]), _frame_points(frame["lost"])
    frame = _place_numbers(frame, x, y)
    base = alt.Chart(frame).encode(
        x=alt.X(
            "steepness:Q",
            title="steepness: 1 − mean norm / largest",
            axis=alt.Axis(tickCount=5),
            scale=alt.Scale(domain=x, nice=False),
        ),
        y=alt.Y(
            "lost:Q", title="accuracy lost", axis=PERCENT, scale=alt.Scale(domain=y, nice=False)
        ),
    )
    tips = ["network:N", "paper_name:N", alt.Tooltip("steepness:Q"), percent_tip("lost")]
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(**marks, tooltip=tips)
    beside: dict[str, Any] = {"dx": alt.ExprRef("datum.dx"), "dy": alt.ExprRef("datum.dy")}
    names = base.mark_text(fontSize=10, **beside).encode(text="number:N")
    title = alt.Title(
        "Do flat norms mean sensitive?",
        subtitle=f"each layer pruned alone at {at}; numbers: convs, where they fit",
    )
    panels = alt.Facet("network:N", title=None, sort=list(dict.fromkeys(frame["network"])))
    chart = alt.layer(dots, names).properties(width=PANEL[0], height=PANEL[1])
    said = describe_correlation(points).replace("**", "")
    count = frame["network"].nunique()
    return lay_panels(chart, panels, count, columns=2).properties(title=title, description=said)


def _frame_points(values: pd.Series) -> list[float]:
    """From a tenth below the least to a tenth above the largest, of what is between."""
    low, high = float(values.min()), float(values.max())
    room = (high - low) / 10 or 0.1
    return [round(low - room, 4), round(high + room, 4)]


def _place_numbers(frame: pd.DataFrame, x: list[float], y: list[float]) -> pd.DataFrame:
    """Columns dx, dy: pixels from each point to its number, which is empty where there is no room.

    A number is inside, where it meets no point and no other; each is placed again when all are.
    """
    across = (frame["steepness"] - x[0]) / (x[1] - x[0]) * PANEL[0]
    down = (y[1] - frame["lost"]) / (y[1] - y[0]) * PANEL[1]
    at = np.stack([across, down], axis=1)
    places = at[:, None] + BESIDE  # (points, offsets, 2)
    inside = np.minimum(places, np.array(PANEL) - places)
    leaves: Any = np.less(inside, TO_POINT).any(axis=2)
    numbers, chosen = np.full(at.shape, np.inf), np.zeros(len(at), dtype=int)
    alone = np.zeros(len(at), dtype=bool)
    for i in [*range(len(at))] * PASSES:
        near = frame["network"].eq(frame["network"].iloc[i]).to_numpy()
        numbers[i] = np.inf
        meets = _count_meetings(places[i], numbers[near], TO_NUMBER) + leaves[i]
        meets = meets + _count_meetings(places[i], at[near], TO_POINT)
        chosen[i] = meets.argmin()
        alone[i] = not meets[chosen[i]]
        numbers[i] = places[i, chosen[i]] if alone[i] else np.inf
    dx, dy = np.array(BESIDE)[chosen].T
    return frame.assign(dx=dx, dy=dy, number=frame["number"].where(alone, ""))


def _count_meetings(places: np.ndarray, others: np.ndarray, room: tuple[int, int]) -> np.ndarray:
    """How many of the others are nearer to each place than there is room for, both ways."""
    return np.less(np.abs(places[:, None] - others) + 1e-6, room).all(axis=2).sum(axis=1)
