"""Charts of what breaks: accuracy of each class, what is taken for what, images that flip."""

import io
from contextlib import suppress
from functools import lru_cache
from itertools import cycle
from typing import Any

import altair as alt
import pandas as pd
from PIL import Image, ImageDraw, ImageFont, ImageOps

from prunelab.charts.style import (
    COLOURS,
    KIND_COLOURS,
    OTHER_COLOURS,
    Chart,
    Picture,
    percent_tip,
    picture,
    scale_errors,
    title_tip,
)
from prunelab.data import FileSplit, Split, open_image
from prunelab.findings import described

NETWORK_COLOURS = {"whole": KIND_COLOURS["baseline"], **KIND_COLOURS}
VERDICT_COLOURS = {
    "broke": COLOURS["removed"],
    "mended": COLOURS["kept"],
    "both wrong": COLOURS["fixed"],
}
DEPTH = alt.Scale(domain=[0, 1], range=[0, 0.85])  # numbers are read on it, on any page
NUMBERED = 20  # classes of a map whose fields have room for a number
# pixels of `flip_images`: of an image, of its card, between two cards; lines of a card
TILE, CARD, SPACE, LINE, LINES, COLUMNS = 96, 114, 8, 15, 3, 5
WHEN = ["before", "after"]
PAPER, INK = "#fafafa", "#222222"  # cards are light on any page


def class_accuracy(counted: pd.DataFrame, *, limit: int = 25) -> Chart:
    """The error of each class, a dot for each network; what lost most comes first.

    Args:
        counted: of `count_classes`. Loss is what the second network loses to the first.
        limit: of more classes, only so many are drawn, those with the largest losses.

    Returns:
        A row for each class, with 95 % intervals as bars.

    Example:
        >>> charts.class_accuracy(count_classes(predicted))
    """
    frame = counted.astype({"network": str, "class": str})
    networks = list(dict.fromkeys(frame["network"]))
    wide = frame.pivot_table("accuracy", "class", "network")
    wide = wide.loc[list(dict.fromkeys(frame["class"])), networks]
    lost = wide[networks[0]] - wide[networks[1]] if len(networks) > 1 else -wide[networks[0]]
    order = list(lost.sort_values(ascending=False, kind="stable").index)
    shown = order[:limit]
    columns = ["network", "class", "correct", "total", "accuracy", "accuracy_low", "accuracy_high"]
    frame = frame.loc[frame["class"].isin(shown), columns]
    accuracies = frame[["accuracy", "accuracy_high", "accuracy_low"]]
    frame[["error", "error_low", "error_high"]] = 1 - accuracies
    frame = frame.round(4)

    others = cycle(OTHER_COLOURS)
    own = [NETWORK_COLOURS.get(name) or next(others) for name in networks]
    colours, shapes = alt.Scale(domain=networks, range=own), alt.Scale(domain=networks)
    axis = alt.Axis(labelLimit=160, labelPadding=8, tickBand="extent", ticks=False, grid=True)
    legend = alt.Legend(orient="top", symbolOpacity=1)
    base = alt.Chart(frame).encode(
        y=alt.Y("class:N", sort=shown, title=None, axis=axis),
        yOffset=alt.YOffset("network:N", sort=networks, scale=alt.Scale(paddingOuter=0.8)),
        color=alt.Color("network:N", scale=colours, title=None, legend=legend),
    )
    errors = scale_errors(pd.concat([frame["error_low"], frame["error_high"]]), "error")
    bars = base.mark_rule(strokeWidth=1.5).encode(
        x=alt.X("error_low:Q", **errors), x2="error_high:Q"
    )
    tips = [percent_tip("error"), percent_tip("accuracy")]
    points = base.mark_point(filled=True, size=50, opacity=1).encode(
        x=alt.X("error:Q", **errors),
        shape=alt.Shape("network:N", scale=shapes, title=None, legend=legend),
        tooltip=["class:N", "network:N", *tips, "correct:Q", "total:Q"],
    )
    images = int(counted.groupby("network", observed=True)["total"].sum().max())
    lines = [f"{images:,} images; bars hold the error 95 times in 100"]
    first = f"{networks[0]} → {networks[1]}: largest loss first" if len(networks) > 1 else ""
    lines.append(first or "largest error first")
    if len(order) > limit:
        lines[1] += f"; the {limit} of {len(order)} classes that lost most"
    height = len(shown) * max(16, 7 * len(networks) + 7)
    title = alt.Title("Which classes lose", subtitle=lines)
    said = described.class_accuracy(counted)
    chart = alt.layer(bars, points)
    return chart.properties(width=420, height=height, title=title, description=said)


def confusion(counted: pd.DataFrame) -> Chart:
    """What a network takes each class for; with two networks, what changes between them.

    Args:
        counted: of `count_confusions`, with one network, or with the rows of the one before and
            then the one after.

    Returns:
        A field for each class and answer, the deeper the more images: orange is wrong, or worse
        than before; blue is right, or better.

    Raises:
        ValueError: there are more networks.

    Example:
        >>> charts.confusion(counted[counted["network"].isin(["whole", "pruned"])])
    """
    networks = [str(name) for name in dict.fromkeys(counted["network"])]
    if not 0 < len(networks) < 3:
        raise ValueError(
            f"confusion draws one network or two, not {len(networks)}; choose, such as "
            "counted[counted['network'].isin(['whole', 'pruned'])]"
        )
    changes, classes = len(networks) == 2, _find_classes(counted)
    few, short = len(classes) <= NUMBERED, max(map(len, classes)) < 4
    scale = alt.Scale(domain=classes)
    axis: dict[str, Any] = {
        "labelLimit": 110,
        "labelOverlap": not few,
        "domain": False,
        "ticks": False,
    }
    turned = alt.Axis(labelAngle=0 if few and short else -60 if few else -90, **axis)
    tips = [alt.Tooltip("predicted:N", title="answer"), alt.Tooltip("images:Q", title="images")]
    if changes:
        tips += [
            alt.Tooltip(f"{when}:Q", title=title_tip(name))
            for when, name in zip(WHEN, networks, strict=True)
        ]
    drawn = _compare_counts(counted, networks)
    base = alt.Chart(drawn).encode(
        x=alt.X("predicted:N", scale=scale, title="answer", axis=turned),
        y=alt.Y("class:N", scale=scale, title="class", axis=alt.Axis(**axis)),
        tooltip=["class:N", *tips],
    )
    words = ["worse", "better"] if changes else ["wrong", "right"]
    colours = alt.Scale(domain=words, range=[COLOURS["removed"], COLOURS["kept"]])
    legend = alt.Legend(orient="top", symbolSize=200)
    fields = base.transform_calculate(meaning=f"datum.good ? '{words[1]}' : '{words[0]}'")
    fields = fields.mark_rect().encode(
        color=alt.Color("meaning:N", scale=colours, title=None, legend=legend),
        opacity=alt.Opacity("depth:Q", scale=DEPTH, legend=None),
    )
    number = alt.Text("images:Q", format="+" if changes else "")
    numbers = [base.mark_text(fontSize=11).encode(text=number)] if few else []
    title = alt.Title(f"What is taken for what: {networks[0]}", subtitle="images")
    if changes:
        text = f"What changes: {networks[0]} → {networks[1]}"
        title = alt.Title(text, subtitle="images more or fewer")
    side = len(classes) * max(6, min(30, 600 // len(classes)))
    said = described.confusion(drawn, networks)
    chart = alt.layer(fields, *numbers)
    return chart.properties(width=side, height=side, title=title, description=said)


def _compare_counts(counted: pd.DataFrame, networks: list[str]) -> pd.DataFrame:
    """The images of each class and answer, or their change, and how deep a colour that is."""
    frame = counted.astype({"network": str, "class": str, "predicted": str})
    wide = frame.pivot_table("count", ["class", "predicted"], "network", fill_value=0)[networks]
    wide = wide.astype(int).set_axis(WHEN[: len(networks)], axis="columns")
    wide["images"] = wide["after"] - wide["before"] if len(networks) == 2 else wide["before"]
    frame = wide[wide["images"] != 0].reset_index()
    good = (frame["class"] == frame["predicted"]) == (frame["images"] > 0)
    # by the root, so that few are seen; in eighths, since a PNG has few colours
    depth = ((frame["images"].abs() / frame["images"].abs().max()) ** 0.5 * 8).round() / 8
    return frame.assign(good=good, depth=depth.clip(lower=1 / 8))


def _find_classes(counted: pd.DataFrame) -> list[str]:
    """The classes that occur, in their order."""
    named = pd.concat([counted["class"], counted["predicted"]]).astype("category")
    return [str(name) for name in named.cat.remove_unused_categories().cat.categories]


def flip_images(split: Split | FileSplit, flips: pd.DataFrame, *, limit: int = 25) -> Picture:
    """Images that two networks answer differently, as a PNG: a card for each, with both answers.

    Cards of images that broke are framed in orange, of those that mended in blue.

    Args:
        split: the one that was looked at.
        flips: of `find_flips`.
        limit: cards, from the first row on.

    Returns:
        The bytes of a PNG, transparent between the cards, which Jupyter shows as a picture;
        `.alt` says what is seen.

    Raises:
        ValueError: there is no row.

    Example:
        >>> charts.flip_images(data.val, find_flips(predicted, "whole", "pruned"))
    """
    if flips.empty:
        raise ValueError("flips has no row: the two networks answer alike, so no image flips")
    rows = flips.head(limit).to_dict("records")
    high = TILE + LINES * LINE + 3 * SPACE
    across, down = min(COLUMNS, len(rows)), -(-len(rows) // COLUMNS)
    sheet = Image.new("RGBA", (across * (CARD + SPACE), down * (high + SPACE)))
    for place, row in enumerate(rows):
        card = _draw_card(_open(split, int(row["image"])), row, high)
        sheet.paste(card, (place % COLUMNS * (CARD + SPACE), place // COLUMNS * (high + SPACE)))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return picture(buffer.getvalue(), described.flip_images(flips, limit))


def _open(split: Split | FileSplit, place: int) -> Image.Image:
    """An image for a card: small ones by whole pixels larger, large ones shrunk."""
    if isinstance(split, FileSplit):
        image = open_image(split.files[place])
    else:
        image = Image.fromarray(split.images[place].permute(1, 2, 0).cpu().numpy())
    if max(image.size) > TILE:
        return ImageOps.fit(image, (TILE, TILE))
    return ImageOps.scale(image, TILE // max(image.size), Image.Resampling.NEAREST)


def _draw_card(image: Image.Image, row: dict[Any, Any], high: int) -> Image.Image:
    """An image, the answer before and after, and how sure that is or what it should have been."""
    card = Image.new("RGBA", (CARD, high))
    draw = ImageDraw.Draw(card)
    colour = VERDICT_COLOURS[row["verdict"]]
    draw.rounded_rectangle((0, 0, CARD - 1, high - 1), 6, PAPER, colour, width=2)
    card.paste(image, ((CARD - image.width) // 2, SPACE + (TILE - image.height) // 2))
    left, top, font = (CARD - TILE) // 2, TILE + 2 * SPACE, _find_font()
    last = f"{row['confidence_after']:.0%} sure"
    if row["verdict"] == "both wrong":
        last = f"is {row['label']}"
    for i, text in enumerate((str(row["before"]), str(row["after"]), last)):
        text = " ".join(text.split())  # a line
        x, y = left + 16 * (i == 1), top + i * LINE
        while font.getlength(text) > left + TILE - x:
            text = text.rstrip("…")[:-1] + "…"
        draw.text((x, y), text, INK, font)
    middle = top + LINE + 7  # an arrow, which a font may lack
    draw.line((left, middle, left + 11, middle), INK)
    draw.line((left + 7, middle - 4, left + 11, middle, left + 7, middle + 4), INK)
    return card


@lru_cache
def _find_font() -> Any:
    """One that knows many alphabets, where there is one; else Pillow's own, of Latin letters."""
    for name in ("DejaVuSans.ttf", "Arial.ttf"):
        with suppress(OSError):
            return ImageFont.truetype(name, 12)
    return ImageFont.load_default(12)
