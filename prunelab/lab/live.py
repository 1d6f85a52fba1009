"""Charts that Python goes on moving, and tables as HTML."""

import copy
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from html import escape
from numbers import Number
from typing import Any

import altair as alt
import pandas as pd
from pandas.io.formats.style import Styler

from prunelab.utils.tensors import hash_text

Format = str | Callable[[object], str] | None
LOOK_MS = 200  # between two looks at how wide a chart may be
AXES = 80  # pixels beside the panels of a chart
CELL = "padding:1px 10px 1px 0;line-height:1.5;white-space:nowrap;text-align:left"
# also on a dark page a chart is a white card: no colours can be told from both
INK, FAINT = "black", "#dddddd"
PAGE = {
    "background": "white",
    "view": {"stroke": FAINT},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "gridColor": FAINT,
        "domainColor": FAINT,
        "tickColor": FAINT,
    },
    "legend": {"labelColor": INK, "titleColor": INK},
    "header": {"labelColor": INK, "titleColor": INK},
    "title": {"color": INK, "subtitleColor": INK},
    "text": {"color": INK},
    "rule": {"color": INK},
}


def live(chart: Any, signals: Mapping[str, list[dict[str, str]]] | None = None) -> alt.JupyterChart:
    """A chart that Python can go on moving, by `move`; as wide as there is room.

    signals: {parameter, or a new name: Vega's event handlers}, by which a mark can be dragged.
    """
    with suppress(ImportError):  # without vl-convert the chart loads its code from the network
        alt.JupyterChart.enable_offline()
    made = alt.JupyterChart(**_prepare(chart, signals or {}))
    made.layout.width, made.moved = "100%", {}
    # a page that draws the chart anew begins with its first values
    made.observe(lambda _: move(made), "_params")
    return made


def redraw(
    made: alt.JupyterChart, chart: Any, signals: Mapping[str, list[dict[str, str]]] | None = None
) -> None:
    """Show another chart in the place of a live one."""
    prepared = _prepare(chart, signals or {})
    made.moved = {}
    with made.hold_sync():
        made.embed_options, made.chart = prepared["embed_options"], prepared["chart"]


def _prepare(chart: Any, signals: Mapping[str, list[dict[str, str]]]) -> dict[str, Any]:
    """What a JupyterChart takes."""
    fitted = _fit(chart)
    options = {"actions": False, "patch": _patch(fitted, signals)}
    return {"chart": fitted, "embed_options": options}


def _patch(chart: Any, signals: Mapping[str, list[dict[str, str]]]) -> list[dict[str, Any]]:
    """JSON patch (RFC 6902) of the compiled chart: handlers for these of its signals.

    A chart that fills its place looks now and then how wide that is: one that is drawn before the
    page has room for it, or was hidden when the window changed, would stay empty.
    """
    import vl_convert  # a machine that only runs replays may have none

    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    compiled = vl_convert.vegalite_to_vega(chart.to_dict(), vl_version=version)
    known = compiled.get("signals", [])
    places = {signal["name"]: i for i, signal in enumerate(known)}
    handlers: dict[str, list[Any]] = dict(signals)
    if "width" in places and "on" in (width := known[places["width"]]):
        again = {
            "events": {"type": "timer", "throttle": LOOK_MS},
            "update": width["on"][0]["update"],
        }
        handlers["width"] = [*width["on"], again]
    elif "width" in compiled and isinstance(chart, alt.VConcatChart):  # one above the other
        wide = f"max(200, containerSize()[0] - {AXES})"
        events = ["window:resize", {"type": "timer", "throttle": LOOK_MS}]
        handlers["width"] = [{"events": event, "update": wide} for event in events]
    patch: list[dict[str, Any]] = []
    for name, on in handlers.items():
        if name in places:
            patch.append({"op": "add", "path": f"/signals/{places[name]}/on", "value": on})
        else:
            signal = {"name": name, "value": compiled.get(name), "on": on}
            patch.append({"op": "add", "path": "/signals/-", "value": signal})
    return patch


def _fit(chart: Any) -> Any:
    """The chart in the page's colours and, but for one of several panels, as wide as its place."""
    chart = copy.copy(chart)
    chart.config = PAGE
    single = isinstance(chart, alt.Chart | alt.LayerChart)
    if single and not isinstance(getattr(chart, "width", None), alt.Step):
        chart.width = "container"
        chart.autosize = {"type": "fit-x", "contains": "padding"}
    return chart


def move(chart: alt.JupyterChart, **values: Any) -> None:
    """Give a live chart's parameters these values, and keep them: only marks move.

    Those that a hand moves are left out: to send them back would be to send their past.
    """
    chart.moved |= json.loads(json.dumps(values))  # as the page gives them back
    if any(chart._params.get(name) != value for name, value in chart.moved.items()):
        chart._params = dict(chart.moved)


def table(
    frame: pd.DataFrame, summary: str = "", *, formats: dict[str, Format] | None = None
) -> str:
    """A frame as HTML, numbers to the right; the same for the same frame.

    summary: with it the table is folded, and shows this. formats: of columns that need their own,
    {"share": "{:.2g}"}.
    """
    numbers = list(frame.select_dtypes("number"))
    right: list[Any] = [{"selector": "", "props": "text-align:right"}]
    # tables of one name share their rules, so the name says what these depend on
    name = hash_text(repr([*frame, numbers]), 12)
    plain = frame.reset_index(drop=True)
    for column in plain.columns.difference(numbers):  # pandas escapes texts alone, and no list
        plain[column] = plain[column].map(_as_text)
    style = (
        Styler(plain, uuid=name, cell_ids=False)
        .hide(axis="index")
        .format(formats, precision=1, thousands=",", escape="html")
        .format_index(axis="columns", escape="html")
        .set_table_attributes('style="border-collapse:collapse"')
        .set_table_styles([{"selector": "th, td", "props": CELL}])
        .set_table_styles(dict.fromkeys(numbers, right), overwrite=False)
    )
    box = f'<div style="overflow-x:auto">{style.to_html()}</div>'
    return f"<details><summary>{escape(summary)}</summary>{box}</details>" if summary else box


def _as_text(cell: object) -> object:
    """A cell that is a number or a text."""
    return cell if isinstance(cell, str | Number) else str(cell)
