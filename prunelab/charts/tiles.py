"""Charts inside a layer: its filters as small pictures, and two criteria side by side."""

import base64
import io
import math
from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from prunelab.charts.filters import FATES
from prunelab.charts.style import COLOURS, FORMS, TINY, Chart, title_tip
from prunelab.findings import described

# pixels of a tile's picture, for layers of up to so many filters
SIDES = {64: 32, 256: 22, 10**9: 16}
WIDTH, FRAME = 640, 2  # pixels of a row, and of the frame around a picture
HEADS = {"kept": "stay", "removed": "go", "fixed": "must stay"}
TIPS = [
    "filter:Q",
    alt.Tooltip("score:Q", format=".4g"),
    "fate:N",
    alt.Tooltip("hand:N", title="by hand"),
]


def kernel_pictures(weight: Tensor) -> list[str]:
    """Filters as small pictures: in colour where they read 3 maps, else their mean size.

    Each is stretched to the whole range, so that its pattern shows. A filter of other than 3 maps
    is drawn as the mean over them of its absolute weights, one of a single pixel as a square with
    the absolute weight of each map.

    Args:
        weight: (filters, in, kh, kw), as `graph.filters` gives it.

    Returns:
        A PNG for each filter, as a data URI.

    Example:
        >>> charts.kernel_pictures(graph.filters("conv1"))[0][:15]
        'data:image/png;'
    """
    images = weight.detach().float().cpu()
    if images[0, 0].numel() == 1:  # a square of what it reads
        side = math.isqrt(images.shape[1] - 1) + 1
        flat = images.flatten(1).abs()
        images = F.pad(flat, (0, side * side - flat.shape[1])).unflatten(1, (1, side, side))
    elif images.shape[1] != 3 or images.ndim != 4:
        images = images.abs().mean(1, keepdim=True)  # (filters, in, …) -> (filters, 1, …)
    return _draw(images)


def map_pictures(maps: Tensor) -> list[str]:
    """Feature maps of one image as small pictures, each stretched to the whole range.

    Args:
        maps: (filters, h, w), of `feature_maps`.

    Returns:
        A PNG for each map, as a data URI.
    """
    return _draw(maps.detach().float().cpu().unsqueeze(1))


def _draw(images: Tensor) -> list[str]:
    """(n, 1 or 3, h, w) -> n data URIs. With one dimension or three, in rows."""
    if images.ndim != 4:
        images = images.unflatten(-1, (1, -1)) if images.ndim == 3 else images.flatten(3)
    flat = images.reshape(len(images), -1)
    low, high = flat.amin(1)[:, None, None, None], flat.amax(1)[:, None, None, None]
    pixels = ((images - low) / (high - low).clamp(min=1e-12) * 255).byte()
    side = _side(len(images))
    return [_encode(own, side) for own in pixels.movedim(1, -1).squeeze(-1).numpy()]


def _encode(pixels: np.ndarray, side: int) -> str:
    """A PNG whose longer side is `side`: small ones with sharp pixels, large ones averaged."""
    picture = Image.fromarray(pixels)
    scale = side / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    buffer = io.BytesIO()
    picture.resize(size, how).save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _side(filters: int) -> int:
    return next(side for most, side in SIDES.items() if filters <= most)


def filter_tiles(ranked: pd.DataFrame, pictures: Mapping[int, str]) -> Chart:
    """The filters of a layer as tiles, largest score first: those that stay, then those that go.

    Live: a tile that is clicked is in the selection `picked`.

    Args:
        ranked: of `rank_filters`, of one layer; a column `by_hand`, where there is one, says which
            filters were picked by hand.
        pictures: {filter: data URI}, of `kernel_pictures` or `map_pictures`.

    Returns:
        A tile for each filter, framed in blue where it stays, in orange where it goes, in grey
        where it must stay.

    Example:
        >>> pictures = dict(zip(own["filter"], charts.kernel_pictures(weight)))
        >>> charts.filter_tiles(own, pictures)
    """
    side = _side(len(ranked))
    step = side + 2 * FRAME + max(2, side // 8)
    columns = WIDTH // step
    frame, heads = _place(ranked, columns)
    frame["picture"] = frame["filter"].map(pictures)
    rows, gap = list(range(int(frame["row"].max()) + 1)), 1 - (side + 2 * FRAME) / step

    scale = alt.Scale(domain=list(range(columns)), paddingInner=gap, paddingOuter=0)
    x = alt.X("column:O", axis=None, scale=scale)
    y = alt.Y("row:O", axis=None, scale=alt.Scale(domain=rows, paddingInner=gap, paddingOuter=0))
    colours = alt.Scale(domain=list(FATES.values()), range=[COLOURS[fate] for fate in FATES])
    base = alt.Chart(frame).encode(x=x, y=y)
    frames = base.mark_rect().encode(color=alt.Color("fate:N", scale=colours, legend=None))
    images = base.mark_image(width=side, height=side).encode(url="picture:N")
    hands = base.transform_filter("datum.hand == 'yes'").mark_point(
        size=side * 2,
        filled=True,
        fill="white",
        stroke="black",
        opacity=1,
        xOffset=side / 2 - 3,
        yOffset=3 - side / 2,
    )
    words = alt.Chart(heads).mark_text(
        align="left", baseline="bottom", dx=-side / 2, dy=step / 2 - 4
    )
    texts = words.encode(x=x, y=y, text="head:N")
    picked = alt.selection_point(name="picked", fields=["filter"], toggle=False, clear=False)
    easy = base.mark_rect(opacity=0, cursor="pointer").encode(tooltip=TIPS).add_params(picked)
    size = {"width": alt.Step(step), "height": alt.Step(step)}
    first = next(fate for fate in HEADS if (ranked["fate"] == fate).any())
    count = int((ranked["fate"] == first).sum())
    said = f"all {count}" if count == len(ranked) else f"{count} of {len(ranked)}"
    paper, layer = ranked["paper_name"].iloc[0], ranked["layer"].iloc[0]
    title = alt.Title(
        f"{paper} ({layer}): {said} {HEADS[first]}",
        subtitle="largest score first; a dot: picked by hand",
    )
    view = alt.ViewBackground(strokeOpacity=0)
    layers = alt.layer(frames, images, hands, texts, easy)
    return layers.properties(
        **size, view=view, title=title, description=described.filter_tiles(ranked)
    )


def _place(ranked: pd.DataFrame, columns: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and columns of the tiles, and a head above a second block."""
    blocks: list[pd.DataFrame] = []
    heads: list[dict[str, object]] = []
    top = 0
    for fate in FATES:
        own = ranked[ranked["fate"] == fate].sort_values("score", ascending=False)
        if own.empty:
            continue
        if blocks:
            heads.append({"row": top, "column": 0, "head": f"{len(own)} {HEADS[fate]}"})
            top += 1
        place = np.arange(len(own))
        blocks.append(own.assign(row=top + place // columns, column=place % columns))
        top += int(place[-1]) // columns + 1
    frame = pd.concat(blocks, ignore_index=True)
    hand = frame["by_hand"] if "by_hand" in frame else pd.Series(False, frame.index)
    frame = frame[["filter", "score", "fate", "row", "column"]]
    frame = frame.assign(fate=frame["fate"].map(FATES), hand=hand.map({True: "yes", False: "no"}))
    return frame, pd.DataFrame(heads, columns=["row", "column", "head"])


def compare_scores(
    ranked_one: pd.DataFrame,
    ranked_other: pd.DataFrame,
    layer: str,
    *,
    names: tuple[str, str] = ("one", "other"),
) -> Chart:
    """Two criteria of one layer: a point for each filter, in the colour of its fate.

    Args:
        ranked_one: of `rank_filters`; its fates are shown.
        ranked_other: likewise, by another criterion.
        layer: its qualified name.
        names: of the criteria.

    Returns:
        The scores of one against those of the other, with Spearman's rank correlation.

    Example:
        >>> charts.compare_scores(rank_filters(graph), rank_filters(graph, criterion="l2"), "conv1")
    """
    one, other = (own[own["layer"] == layer] for own in (ranked_one, ranked_other))
    frame = one.merge(other[["filter", "score"]], on="filter", suffixes=("_one", "_other"))
    agree = frame["score_one"].rank().corr(frame["score_other"].rank())  # Spearman 1904
    frame = frame[["filter", "score_one", "score_other", "fate"]]
    said = described.compare_scores(frame, names, agree)
    frame = frame.assign(fate=frame["fate"].map(FATES))
    there = [fate for fate in FATES if FATES[fate] in set(frame["fate"])]
    colours = alt.Scale(
        domain=[FATES[fate] for fate in there], range=[COLOURS[fate] for fate in there]
    )
    forms = alt.Scale(
        domain=[FATES[fate] for fate in there],
        range=[FORMS[list(FATES).index(fate)] for fate in there],
    )
    legend = alt.Legend(orient="top")
    tips = [alt.Tooltip("filter:Q")]
    axes = {}
    for axis, column, name in (("x", "score_one", names[0]), ("y", "score_other", names[1])):
        axes[axis] = getattr(alt, axis.upper())(
            f"{column}:Q",
            title=title_tip(name),
            axis=alt.Axis(title=name, format="~g", labelExpr=TINY),
            scale=alt.Scale(zero=False, nice=True, padding=8),
        )
        tips.append(alt.Tooltip(f"{column}:Q", title=title_tip(name), format=".4g"))
    points = (
        alt.Chart(frame)
        .mark_point(filled=True, size=44, opacity=1)
        .encode(
            **axes,
            color=alt.Color("fate:N", scale=colours, title=None, legend=legend),
            shape=alt.Shape("fate:N", scale=forms, title=None, legend=legend),
            tooltip=[*tips, "fate:N"],
        )
    )
    order = "no order to compare" if pd.isna(agree) else f"rank correlation {agree:.2f}"
    title = alt.Title(
        f"{names[0]} and {names[1]}: {order}", subtitle=f"Spearman's, of {len(frame)} filters"
    )
    return alt.layer(points).properties(width=420, height=260, title=title, description=said)
