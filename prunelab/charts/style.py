"""One look for all charts, and how they show without a network: live, with a PNG beside."""

import base64
import csv
import io
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Self

import altair as alt
import altair.utils.html
import numpy as np
import pandas as pd
from PIL import Image

Chart = alt.LayerChart | alt.FacetChart

# seven colours that stand out from white by 4.5 to 1 or more (WCAG 2.2, 1.4.3), and that people who
# lack a kind of cones tell apart, too; they mean the same in every chart
BLACK, GREY, BLUE, ORANGE = "#000000", "#666666", "#1f5fd6", "#bc5a00"
GREEN, PINK, PURPLE = "#00551f", "#cc1f9f", "#3a0a96"
COLOURS = {"kept": BLUE, "removed": ORANGE, "fixed": GREY, "before": GREY, "after": BLUE}
CHOSEN = PINK  # the layer that is looked at
# what a network is in the rows of a replay, in this order
KIND_COLOURS = {
    "baseline": GREY,
    "pruned": ORANGE,
    "retrained": BLUE,
    "continued": BLACK,
    "scratch-E": GREEN,
    "scratch-B": PINK,
}
OTHER_COLOURS = [BLUE, ORANGE, GREEN, PINK, BLACK, GREY, PURPLE]
RAMP = ["#1a52e0", "#1a1060", "#5a1010", "#cf3c14"]  # front to back, far from CHOSEN
# what tells lines and points apart beside their colour, where there are few
FORMS = ["circle", "cross", "square", "triangle-down", "triangle-up", "diamond"]
DASHES = [[1, 0], [8, 3], [2, 2], [10, 3, 2, 3], [5, 2], [12, 2]]
FEW = 6
# of fractions
PERCENT = alt.Axis(format="%")
WHOLE = alt.Scale(domain=[0, 1])
# of numbers that may be tiny; a format writes 0.000001 as 0.0000010
TINY = "abs(datum.value) < 0.001 && datum.value ? format(datum.value, '.1~e') : datum.label"
ERRORS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]  # that an axis names
# JupyterLab bundles Vega-Lite 5, under this name
LIVE_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.6.1.json"


def _write_json(content: Any, **how: Any) -> str:
    """JSON that can stand in a page's <script>, whatever names it holds."""
    return json.dumps(content, **how).replace("<", "\\u003c")


# Altair writes a chart into a <script> as JSON has it, where a name with </script> would end it
altair.utils.html.json = SimpleNamespace(dumps=_write_json)  # type: ignore[assignment]


@alt.theme.register("prunelab", enable=True)
def theme() -> alt.theme.ThemeConfig:
    """One look for all charts, readable on light and dark pages."""
    words = {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal"}
    subtitle = {"subtitleFontSize": 12, "subtitleColor": "#555555"}
    config: Any = {
        "background": "white",
        "view": {"continuousWidth": 300, "continuousHeight": 200, "stroke": "#dddddd"},
        "axis": {**words, "gridColor": "#eeeeee", "labelFlush": False},
        "header": {"labelFontSize": 12, "titleFontSize": 12},
        "legend": words,
        "title": {"fontSize": 14, "anchor": "start", **subtitle},
        "range": {"category": OTHER_COLOURS},
    }
    return {"config": config}


def ramp(count: int) -> list[str]:
    """So many colours, front to back."""
    at = np.linspace(0, len(RAMP) - 1, count)
    parts = [[int(colour[i : i + 2], 16) for colour in RAMP] for i in (1, 3, 5)]
    mixed = zip(*(np.interp(at, range(len(RAMP)), part) for part in parts), strict=True)
    return ["#" + "".join(f"{round(part):02x}" for part in colour) for colour in mixed]


def tell_apart(names: Sequence[Any]) -> dict[str, alt.Scale]:
    """Scales of color, strokeDash and shape: all three where there are few, else a ramp alone."""
    domain = [*names]
    if len(domain) > FEW:
        return {"color": alt.Scale(domain=domain, range=ramp(len(domain)))}
    ranges: dict[str, list[Any]] = {"color": OTHER_COLOURS, "strokeDash": DASHES, "shape": FORMS}
    return {
        channel: alt.Scale(domain=domain, range=values[: len(domain)])
        for channel, values in ranges.items()
    }


def scale_errors(errors: pd.Series, words: str) -> dict[str, Any]:
    """Title, scale and axis of errors: a logarithm, so that 0.3 % and 0.6 % are apart beside 90 %.

    Where an error is 0, which has no logarithm, the axis is even from there to the least other.
    """
    shown = errors[errors.notna()].clip(0, 1)
    least = float(shown.min()) if len(shown) else 0.1
    most = float(shown.max()) if len(shown) else 1.0
    low = max((tick for tick in ERRORS if tick <= least), default=0.0)
    high = next((tick for tick in ERRORS if tick >= most), 1)
    if low == high:
        low = max((tick for tick in ERRORS if tick < low), default=0.0)
    other = shown[shown > 0].min()
    even = max((tick for tick in ERRORS if tick <= other), default=ERRORS[0])
    ticks = [tick for tick in [low, *ERRORS] if low <= tick <= high and tick >= even * bool(tick)]
    kind = {"type": "log"} if low else {"type": "symlog", "constant": even}
    start = "" if low else f" above {100 * even:g} %"
    return {
        "title": f"{words} (log scale{start})",
        "scale": alt.Scale(domain=[low, high], nice=False, padding=6, **kind),
        "axis": alt.Axis(values=ticks, format=".1~%"),
    }


def name_start(words: str, low: float) -> str:
    """The title of an axis of fractions, which says so where it does not start at nothing."""
    return f"{words} (axis from {round(100 * low):d} %)" if low > 0 else words


def lay_panels(chart: Any, facet: alt.Facet, count: int, columns: int = 0) -> alt.FacetChart:
    """So many panels, in rows of three or, of four, of two.

    Where the last row is not full, each has its own axis below: else those of the others would hang
    below the empty places.
    """
    columns = columns or (2 if count == 4 else 3)
    panels = chart.facet(facet=facet, columns=columns, spacing={"column": 34, "row": 20})
    return panels.resolve_axis(x="independent") if count > columns and count % columns else panels


def percent_tip(name: str, title: Any = alt.Undefined) -> alt.Tooltip:
    """A line of a tooltip: a fraction as per cent."""
    return alt.Tooltip(f"{name}:Q", title=title, format=".1%")


def title_tip(name: str) -> str:
    """A name as the title of a line of a tooltip, which Vega-Lite writes into an expression."""
    return json.dumps(name, ensure_ascii=False)[1:-1].replace('\\"', "\\u0022")


def enable() -> None:
    """Show charts without a network from here on.

    They are interactive in JupyterLab, with a PNG beside for code hosts, and frames of any length
    are drawn.

    Example:
        >>> charts.enable()
    """
    alt.data_transformers.disable_max_rows()
    alt.renderers.register("prunelab", render_bundle)
    alt.renderers.enable("prunelab")


def render_bundle(spec: dict[str, Any], **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A chart as Jupyter stores it: {MIME type: content}, and what is said of it.

    The same for the same chart. Its description is the picture's alt text, too.
    """
    title = spec.get("title", "")
    text = title.get("text", "") if isinstance(title, dict) else title
    if isinstance(text, dict):  # an expression
        text = "scores of a layer"
    said = ". ".join(filter(None, (text, spec.get("description")))).replace("?.", "?")
    bundle: dict[str, Any] = {
        "application/vnd.vegalite.v5+json": _fold_data({**spec, "$schema": LIVE_SCHEMA}),
        "text/plain": f"<chart: {said}>",
    }
    image = render_png(spec)
    if image is None:
        return bundle, {}
    bundle["image/png"] = base64.b64encode(image).decode()
    return bundle, {"image/png": {"alt": said}}


class Picture(bytes):
    """The bytes of a PNG that Jupyter shows, with a sentence that says what is seen."""

    alt: str

    def __new__(cls, png: bytes, alt: str) -> Self:
        made = super().__new__(cls, png)
        made.alt = alt
        return made

    def __repr__(self) -> str:
        return f"<picture: {self.alt}>"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        shown = {"image/png": base64.b64encode(self).decode(), "text/plain": repr(self)}
        return shown, {"image/png": {"alt": self.alt}}


def picture(png: bytes, alt: str) -> Picture:
    """A PNG that says what is seen in it, where it is shown and where it cannot be.

    Args:
        png: the bytes of the file.
        alt: a sentence, read instead of the picture.

    Returns:
        The same bytes; Jupyter shows them as a picture with this alt text.

    Example:
        >>> charts.picture(Path("map.png").read_bytes(), "Nine convs, of which the last lose most.")
    """
    return Picture(png, alt)


def _fold_data(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with each data set as one text: a notebook would store a line for each number."""
    folded = {name: _as_csv(rows) for name, rows in spec.get("datasets", {}).items()}
    rest = {key: value for key, value in spec.items() if key != "datasets"}
    return {**_say_csv(rest, set(folded)), "datasets": folded}


def _say_csv(part: Any, names: set[str]) -> Any:
    """A part of a spec, in which each reference to a data set says that it is CSV."""
    if isinstance(part, list):
        return [_say_csv(item, names) for item in part]
    if not isinstance(part, dict):
        return part
    if part.keys() == {"name"} and part["name"] in names:
        return {**part, "format": {"type": "csv"}}
    return {key: _say_csv(value, names) for key, value in part.items()}


def _as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def render_png(chart: alt.TopLevelMixin | dict[str, Any], scale: float = 1) -> bytes | None:
    """A chart as a small PNG, or None where vl-convert is not installed.

    Args:
        chart: a chart, or its Vega-Lite as a dict.
        scale: 2 doubles the pixels of each side.

    Returns:
        The bytes of a PNG of few colours.

    Example:
        >>> Path("norms.png").write_bytes(charts.render_png(chart))
    """
    try:
        import vl_convert
    except ModuleNotFoundError:  # a GPU machine that only runs replays
        return None
    spec = chart if isinstance(chart, dict) else chart.to_dict()
    drawn = Image.open(io.BytesIO(vl_convert.vegalite_to_png(spec, scale=scale))).convert("RGB")
    buffer = io.BytesIO()
    pick_colours(drawn).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def pick_colours(picture: Image.Image, most: int = 28) -> Image.Image:
    """A picture of charts and words in few of its own colours, which has a fifth of the size.

    Those are taken that are frequent, and far from the others: small marks keep theirs, as they
    would not if each were a mean of several.
    """
    colours, counts = np.unique(np.asarray(picture).reshape(-1, 3), axis=0, return_counts=True)
    far, chosen = np.full(len(colours), np.inf), [int(counts.argmax())]
    while len(chosen) < min(most, len(colours)):
        far = np.minimum(far, np.linalg.norm(colours - colours[chosen[-1]].astype(float), axis=1))
        chosen.append(int((np.sqrt(counts) * far).argmax()))
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours[chosen].tobytes())
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def as_picture(chart: Any) -> Any:
    """A chart as a picture alone, which takes half the room in a notebook.

    Args:
        chart: with a description.

    Returns:
        Its `picture`; the chart itself where vl-convert is not installed.

    Example:
        >>> charts.as_picture(charts.sensitivity(measured))
    """
    png = render_png(chart)
    return chart if png is None else picture(png, chart.to_dict()["description"])
