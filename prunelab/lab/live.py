"""Charts that Python goes on moving, and tables as HTML."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from html import escape
from typing import Any

import altair as alt
import pandas as pd
from pandas.io.formats.style import Styler

Format = str | Callable[[object], str] | None
CELL = "padding:1px 10px 1px 0;line-height:1.5;white-space:nowrap;text-align:left"


def live(chart: Any) -> alt.JupyterChart:
    """A chart that Python can go on moving, by `move`."""
    with suppress(ImportError):  # without vl-convert the chart loads its code from the network
        alt.JupyterChart.enable_offline()
    made = alt.JupyterChart(chart, embed_options={"actions": False})
    made.moved = {}
    # a page that draws the chart anew begins with its first values
    made.observe(lambda _: move(made), "_params")
    return made


def move(chart: alt.JupyterChart, **values: Any) -> None:
    """Give a live chart's parameters these values, and keep them: only marks move."""
    chart.moved.update(values)
    for name, value in chart.moved.items():
        if getattr(chart.params, name) != value:
            setattr(chart.params, name, value)


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
    name = hashlib.blake2b(repr([*frame, numbers]).encode(), digest_size=6).hexdigest()
    style = (
        Styler(frame.reset_index(drop=True), uuid=name, cell_ids=False)
        .hide(axis="index")
        .format(formats, precision=1, thousands=",", escape="html")
        .format_index(axis="columns", escape="html")
        .set_table_attributes('style="border-collapse:collapse"')
        .set_table_styles([{"selector": "th, td", "props": CELL}])
        .set_table_styles(dict.fromkeys(numbers, right), overwrite=False)
    )
    box = f'<div style="max-height:300px;overflow:auto">{style.to_html()}</div>'
    return f"<details><summary>{escape(summary)}</summary>{box}</details>" if summary else box
