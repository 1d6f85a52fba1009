"""Pictures: each one a function of a tidy frame that returns an Altair chart.

`charts.enable()` makes them show without a network: live in JupyterLab, as a picture on code hosts.
"""

import base64
import io
from typing import Any

import altair as alt
import pandas as pd

Chart = alt.LayerChart | alt.FacetChart

# Okabe and Ito's colours, which colour-blind people tell apart; they mean the same in every chart
COLOURS = {"kept": "#0072B2", "removed": "#D55E00", "fixed": "#999999", "before": "#999999", "after": "#0072B2"}
KINDS = ["baseline", "pruned", "retrained", "scratch-E", "scratch-B"]
KIND_COLOURS = ["#999999", "#D55E00", "#0072B2", "#009E73", "#CC79A7"]


@alt.theme.register("prunelab", enable=True)
def theme() -> alt.theme.ThemeConfig:
    """One look for all charts, readable on light and dark pages."""
    return {
        "config": {
            "background": "white",
            "view": {"continuousWidth": 300, "continuousHeight": 200, "stroke": "#dddddd"},
            "axis": {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal", "gridColor": "#eeeeee"},
            "header": {"labelFontSize": 12, "titleFontSize": 12},
            "legend": {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal"},
            "title": {"fontSize": 14, "anchor": "start", "subtitleFontSize": 12, "subtitleColor": "#555555"},
            "range": {"category": ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000"]},
        }
    }


def enable() -> None:
    """Show charts without a network: interactive in JupyterLab, and a picture beside it for code hosts."""
    alt.data_transformers.disable_max_rows()
    alt.renderers.register("prunelab", _render)
    alt.renderers.enable("prunelab")


def _render(spec: dict[str, Any], **_: Any) -> dict[str, Any]:
    title = spec.get("title", "")
    text = title.get("text", "") if isinstance(title, dict) else title
    # JupyterLab bundles Vega-Lite 5, under this name
    live = {**spec, "$schema": "https://vega.github.io/schema/vega-lite/v5.6.1.json"}
    shown: dict[str, Any] = {"application/vnd.vegalite.v5+json": live, "text/plain": f"<chart: {text}>"}
    picture = render_png(spec)
    return shown if picture is None else {**shown, "image/png": base64.b64encode(picture).decode()}


def render_png(chart: alt.TopLevelMixin | dict[str, Any], scale: float = 1.2) -> bytes | None:
    """A chart as a small PNG, or None where vl-convert is not installed."""
    try:
        import vl_convert
    except ModuleNotFoundError:  # a GPU machine that only runs replays
        return None
    from PIL import Image

    spec = chart if isinstance(chart, dict) else chart.to_dict()
    drawn = Image.open(io.BytesIO(vl_convert.vegalite_to_png(spec, scale=scale))).convert("RGB")
    buffer = io.BytesIO()
    drawn.quantize(64).save(buffer, "PNG", optimize=True)  # a quarter of the size, and no visible difference
    return buffer.getvalue()


def filter_norms(ranked: pd.DataFrame, *, columns: int = 3) -> alt.FacetChart:
    """Sorted filter norms, a line for each conv and a panel for each stage, as in Fig. 2(a). `rank_filters` in."""
    fates = ["kept", "removed", "fixed"]
    names = {"kept": "kept", "removed": "removed", "fixed": "must stay"}
    scale = alt.Scale(domain=[names[f] for f in fates], range=[COLOURS[f] for f in fates])
    shown = ["paper_name", "stage", "filter", "rank", "share"]
    frame = ranked[shown].round(3).assign(fate=ranked["fate"].map(names))
    table = alt.InlineData(
        values=frame.to_csv(index=False), format=alt.CsvDataFormat(type="csv")
    )  # a fifth of the JSON
    base = alt.Chart(table).encode(
        x=alt.X("rank:Q", title="rank / filters of the layer", axis=alt.Axis(format="%")),
        y=alt.Y("share:Q", title="norm / largest norm", scale=alt.Scale(domain=[0, 1])),
        detail="paper_name:N",
        tooltip=["paper_name:N", "filter:Q", alt.Tooltip("share:Q", format=".3f"), "fate:N"],
    )
    lines = base.mark_line(strokeWidth=1, color="#cccccc")
    points = base.mark_circle(size=22, opacity=0.9).encode(
        color=alt.Color("fate:N", scale=scale, title="filters", legend=alt.Legend(orient="top"))
    )
    return (
        alt.layer(lines, points)
        .properties(width=260, height=190)
        .facet(facet=alt.Facet("stage:N", title=None), columns=columns)
        .properties(title=alt.Title("Sorted filter norms, one line for each conv", subtitle="the smallest go first"))
    )


def sensitivity(measured: pd.DataFrame) -> Chart:
    """Accuracy against the filters really removed, a line for each layer, as in Fig. 2(b). `measure_sensitivity` in."""
    frame = measured.assign(share=measured["removed"] / measured["filters"])
    base = alt.Chart(frame).encode(
        x=alt.X("share:Q", title="filters removed", axis=alt.Axis(format="%")),
        y=alt.Y(
            "accuracy:Q", title="accuracy without retraining", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])
        ),
        color=alt.Color("layer:N", title="pruned alone", sort=None),
        tooltip=["layer:N", "removed:Q", "filters:Q", "correct:Q", "total:Q", alt.Tooltip("accuracy:Q", format=".1%")],
    )
    return alt.layer(base.mark_line(), base.mark_point(filled=True, size=40)).properties(
        width=420,
        height=240,
        title=alt.Title("Sensitivity", subtitle=f"validation split, {int(frame['total'].max())} images"),
    )


def learning_curves(history: pd.DataFrame) -> alt.FacetChart:
    """Accuracy by epoch on train, validation and test, a panel for each training. `Experiment.history` in."""
    columns = {"train_accuracy": "train", "val_accuracy": "validation", "test_accuracy": "test"}
    long = history.rename(columns=columns).melt(["kind", "epoch"], list(columns.values()), "split", "accuracy")
    return (
        alt.Chart(long)
        .mark_line(point=alt.OverlayMarkDef(size=20))
        .encode(
            x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("accuracy:Q", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("split:N", sort=list(columns.values()), title=None, legend=alt.Legend(orient="top")),
            tooltip=["kind:N", "epoch:Q", "split:N", alt.Tooltip("accuracy:Q", format=".1%")],
        )
        .properties(width=260, height=190)
        .facet(facet=alt.Facet("kind:N", sort=KINDS, title=None), columns=3)
        .properties(title="Learning curves")
    )


def layer_cost(cost: pd.DataFrame) -> Chart:
    """Multiply-adds of each layer before and after, as bars in forward order. `measure_cost` in."""
    long = cost.melt(["paper_name", "layer"], ["flops", "flops_after"], "when", "flops_")
    long["when"] = long["when"].map({"flops": "before", "flops_after": "after"})
    scale = alt.Scale(domain=["before", "after"], range=[COLOURS["before"], COLOURS["after"]])
    base = alt.Chart(long).encode(
        x=alt.X("paper_name:N", sort=None, title=None, axis=alt.Axis(labelAngle=-60, labelOverlap=True)),
        y=alt.Y("flops_:Q", title="multiply-adds for one image", axis=alt.Axis(format="~s"), stack=None),
        color=alt.Color("when:N", scale=scale, title=None, legend=alt.Legend(orient="top")),
        tooltip=["paper_name:N", "layer:N", "when:N", alt.Tooltip("flops_:Q", title="multiply-adds", format=",")],
    )
    before = base.transform_filter("datum.when == 'before'").mark_bar(opacity=0.6)
    after = base.transform_filter("datum.when == 'after'").mark_bar(width={"band": 0.5})
    return alt.layer(before, after).properties(width=max(420, 16 * len(cost)), height=200, title="Cost of each layer")


def tradeoff(rows: pd.DataFrame) -> alt.Chart:
    """Test accuracy against multiply-adds, a point for each network. The rows of a replay in."""
    present = [kind for kind in KINDS if kind in set(rows["kind"])]
    colours = alt.Scale(domain=present, range=[KIND_COLOURS[KINDS.index(kind)] for kind in present])
    shapes = alt.Scale(domain=present, range=["circle", "cross", "square", "triangle-up", "diamond"][: len(present)])
    return (
        alt.Chart(rows)
        .mark_point(size=120, strokeWidth=2.5)
        .encode(
            x=alt.X(
                "flops:Q", title="multiply-adds for one image", axis=alt.Axis(format="~s"), scale=alt.Scale(zero=True)
            ),
            y=alt.Y(
                "test_accuracy:Q", title="test accuracy", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])
            ),
            color=alt.Color("kind:N", scale=colours, title="network"),
            shape=alt.Shape("kind:N", scale=shapes, title="network"),
            tooltip=[
                "recipe:N",
                "kind:N",
                "seed:N",
                alt.Tooltip("test_accuracy:Q", format=".2%"),
                alt.Tooltip("flops:Q", format=","),
            ],
        )
        .properties(width=420, height=240, title="What it costs and how well it does")
    )
