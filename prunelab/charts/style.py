"""One look for all charts, and how they show without a network: live, with a PNG beside."""

import base64
import csv
import io
import json
from types import SimpleNamespace
from typing import Any

import altair as alt
import altair.utils.html
from PIL import Image

Chart = alt.LayerChart | alt.FacetChart

# Okabe and Ito's colours, which colour-blind people tell apart; they mean the same in every chart
COLOURS = {
    "kept": "#0072B2",
    "removed": "#D55E00",
    "fixed": "#999999",
    "before": "#999999",
    "after": "#0072B2",
}
CHOSEN = "#CC79A7"  # the layer that is looked at
# what a network is in the rows of a replay, in this order
KIND_COLOURS = {
    "baseline": "#999999",
    "pruned": "#D55E00",
    "retrained": "#0072B2",
    "continued": "#000000",
    "scratch-E": "#009E73",
    "scratch-B": "#CC79A7",
}
OTHER_COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000"]
# of fractions
PERCENT = alt.Axis(format="%")
WHOLE = alt.Scale(domain=[0, 1])
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
        "axis": {**words, "gridColor": "#eeeeee"},
        "header": {"labelFontSize": 12, "titleFontSize": 12},
        "legend": words,
        "title": {"fontSize": 14, "anchor": "start", **subtitle},
        "range": {"category": OTHER_COLOURS},
    }
    return {"config": config}


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


def render_bundle(spec: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A chart as Jupyter stores it: {MIME type: content}; the same for the same chart."""
    title = spec.get("title", "")
    text = title.get("text", "") if isinstance(title, dict) else title
    if isinstance(text, dict):  # an expression
        text = "norms of a layer"
    bundle: dict[str, Any] = {
        "application/vnd.vegalite.v5+json": _fold_data({**spec, "$schema": LIVE_SCHEMA}),
        "text/plain": f"<chart: {text}>",
    }
    image = render_png(spec)
    if image is not None:
        bundle["image/png"] = base64.b64encode(image).decode()
    return bundle


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
        The bytes of a PNG of 32 colours.

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
    # with 32 colours it has a quarter of the size, and looks the same
    drawn.quantize(32).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
