"""Charts of accuracy: against filters removed, and epoch by epoch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from prunelab.charts.style import (
    KIND_COLOURS,
    PERCENT,
    WHOLE,
    Chart,
    lay_panels,
    percent_tip,
    scale_errors,
    tell_apart,
    title_tip,
)
from prunelab.findings import describe_strategies, described, name_retrained

SPLITS = {"train_accuracy": "train", "val_accuracy": "validation", "test_accuracy": "test"}
ALONE = "pruned alone"
# what `sensitivity` draws and tells
CURVE = ["layer", "paper_name", "stage", "position", "ratio", "share", "removed", "filters"]
CURVE += ["correct", "total", "accuracy", "accuracy_low", "accuracy_high"]
BANDS = "bands hold the accuracy 95 times in 100"


def sensitivity(measured: pd.DataFrame) -> Chart | alt.FacetChart:
    """Accuracy against the filters really removed, a line for each layer, as in Fig. 2(b).

    Live: the point that is clicked, its layer and ratio, is in the selection `picked`.

    Args:
        measured: of `measure_sensitivity`.

    Returns:
        Lines with 95 % bands. Layers of several stages get a panel for each stage, as in Fig. 6.
        What cannot be pruned is named below the title.

    Example:
        >>> charts.sensitivity(measure_sensitivity(model, data))
    """
    frame = measured.drop_duplicates(["layer", "removed"])
    frame = frame.assign(share=frame["removed"] / frame["filters"]).round(4)
    layers = frame.drop_duplicates("layer").set_index("layer")
    places = layers.groupby("stage").cumcount() + 1  # first, second, … layer of its stage
    frame["position"] = frame["layer"].map(places)
    panels = 1 < layers["stage"].nunique() < len(layers)
    if panels:  # the legend's numbers are those of the layers that the panel's head lists
        heads = layers.groupby("stage")["paper_name"].agg(_list_few)
        frame["stage"] = frame["stage"] + ": " + frame["stage"].map(heads)

    field, title = ("position:O", "layer of the stage") if panels else ("paper_name:N", ALONE)
    lines_of = sorted(set(places)) if panels else list(dict.fromkeys(frame["paper_name"]))
    colour, dashes = _tell_lines(field, lines_of, title=title, legend=alt.Legend(symbolOpacity=1))
    base = alt.Chart(frame[CURVE]).encode(
        x=alt.X("share:Q", title="filters removed", axis=PERCENT),
        color=colour,
        detail="layer:N",
    )
    low = alt.Y("accuracy_low:Q", scale=WHOLE)
    band = base.mark_area(opacity=0.15).encode(y=low, y2="accuracy_high:Q")
    y = alt.Y("accuracy:Q", title="accuracy without retraining", axis=PERCENT, scale=WHOLE)
    lines = base.mark_line().encode(y=y, **dashes)
    shown = ["paper_name:N", "layer:N", "removed:Q", "filters:Q", "correct:Q", "total:Q"]
    tips = [
        percent_tip("accuracy"),
        percent_tip("accuracy_low", "95 % low"),
        percent_tip("accuracy_high", "95 % high"),
    ]
    picked = alt.selection_point(
        name="picked", fields=["layer", "ratio"], toggle=False, clear=False
    )
    points = base.mark_point(filled=True, size=40, opacity=1).encode(y=y, tooltip=[*shown, *tips])
    chart = alt.layer(band, lines, points.add_params(picked))
    height = 160 if panels else 240
    bands = _describe_bands(frame, height, point=40)
    head = alt.Title("Sensitivity: each layer pruned alone")
    head.subtitle = _describe_measured(measured, bands)
    said = described.sensitivity(measured)
    if not panels:
        return chart.properties(width=420, height=height, title=head, description=said)
    stages = alt.Facet("stage:N", title=None, sort=list(dict.fromkeys(frame["stage"])))
    drawn = lay_panels(
        chart.properties(width=220, height=height), stages, layers["stage"].nunique()
    )
    return drawn.properties(title=head, description=said)


def _list_few(names: pd.Series) -> str:
    """``conv_38, conv_40 … conv_54``; three or fewer in full."""
    if len(names) < 4:
        return ", ".join(names)
    return f"{names.iloc[0]}, {names.iloc[1]} … {names.iloc[-1]}"


def _tell_lines(field: str, names: Sequence[Any], **how: Any) -> tuple[alt.Color, dict[str, Any]]:
    """The colours of lines and, where these are few, their dashes, with one legend."""
    scales = tell_apart(names)
    dashes = {}
    if "strokeDash" in scales:  # the legend shows lines
        how["legend"].symbolType, how["legend"].symbolSize = "stroke", 500
        dashes["strokeDash"] = alt.StrokeDash(field, sort=names, scale=scales["strokeDash"], **how)
    return alt.Color(field, sort=names, scale=scales["color"], **how), dashes


def _describe_bands(frame: pd.DataFrame, height: int, point: int) -> str:
    """What bands are in a panel so high; unless all are hidden by points of this size."""
    widest = (frame["accuracy_high"] - frame["accuracy_low"]).max() * height
    hidden = widest < 2 * math.sqrt(point / math.pi)
    return "95 % bands, narrower than the points here" if hidden else BANDS


def _describe_measured(measured: pd.DataFrame, marks: str = BANDS) -> list[str]:
    images = f"{int(measured['total'].max()):,} images"
    lines = [f"{images}; {marks}" if marks else images]
    refused = list(measured.attrs.get("refused", {}))
    if refused:
        more = f" and {len(refused) - 4} more" if len(refused) > 4 else ""
        lines.append(f"cannot be pruned, so not measured: {', '.join(refused[:4])}{more}")
    return lines


def sensitivity_handles(measured: pd.DataFrame, at: Mapping[str, Sequence[float]]) -> Chart:
    """Sensitivity curves with a handle on each, where the layer stands.

    Live: the parameter `at` moves the handles; a point that is clicked is in the selection
    `picked`, its layer and ratio. With the signals of `HANDLES`, which a page adds to the compiled
    chart, `dragged` is the layer and ratio to which a handle is dragged, and `level` the accuracy
    to which the line is.

    Args:
        measured: of `measure_sensitivity`; some twenty curves can be told apart.
        at: {layer: (ratio, accuracy)}, of `place_handles`.

    Returns:
        One chart, with a line that says how low an accuracy may go.

    Example:
        >>> charts.sensitivity_handles(measured, charts.place_handles(measured, {"conv_2": 0.3}))
    """
    frame = measured.drop_duplicates(["layer", "removed"])
    frame = frame.assign(share=frame["removed"] / frame["filters"]).round(4)
    names = list(dict.fromkeys(frame["paper_name"]))
    legend = alt.Legend(symbolOpacity=1, columns=1 + len(names) // 16, symbolLimit=0)
    colour, dashes = _tell_lines("paper_name:N", names, title=ALONE, legend=legend)
    x = alt.X("share:Q", title="filters removed", axis=PERCENT, scale=WHOLE)
    y = alt.Y("accuracy:Q", title="accuracy without retraining", axis=PERCENT, scale=WHOLE)
    shown = ["paper_name:N", "layer:N", "removed:Q", "filters:Q", "correct:Q", "total:Q"]
    base = alt.Chart(frame).encode(x=x, color=colour, detail="layer:N")
    band = base.mark_area(opacity=0.1).encode(
        y=alt.Y("accuracy_low:Q", scale=WHOLE), y2="accuracy_high:Q"
    )
    lines = base.mark_line(strokeWidth=1.5).encode(y=y, **dashes)
    picked = alt.selection_point(
        name="picked", fields=["layer", "ratio"], toggle=False, clear=False
    )
    tips = [*shown, percent_tip("accuracy")]
    points = (
        base.mark_point(filled=True, size=28, opacity=1)
        .encode(y=y, tooltip=tips)
        .add_params(picked)
    )
    handles = (
        alt.Chart(frame.drop_duplicates("layer")[["layer", "paper_name"]], name="handles")
        .transform_calculate(
            share="at[datum.layer] ? at[datum.layer][0] : null",
            accuracy="at[datum.layer] ? at[datum.layer][1] : null",
        )
        .transform_filter("isValid(datum.share)")
        .mark_point(
            size=190,
            filled=True,
            opacity=1,
            stroke="white",
            strokeWidth=1.5,
            cursor="ew-resize",
        )
        .encode(x=x, y=y, color=colour, tooltip=["paper_name:N", percent_tip("share", "removed")])
    )
    level = (
        alt.Chart(alt.sequence(0, 1, as_="i"))
        .transform_calculate(accuracy="level")
        .encode(y=alt.Y("accuracy:Q", scale=WHOLE, title="accuracy without retraining"))
    )
    line = level.mark_rule(strokeWidth=2, strokeDash=[6, 4])
    # wide, to be hit, also between the dashes
    easy = level.properties(name="line").mark_rule(
        strokeWidth=14, strokeOpacity=0.01, cursor="ns-resize"
    )
    # a tooltip, too, without which Vega-Lite lets no pointer reach a mark beside a selection
    easy = easy.encode(tooltip=alt.value("each goes as far as its curve stays above this line"))
    title = alt.Title("Sensitivity: each pruned alone", subtitle=_describe_measured(measured))
    lowest = float(frame["accuracy"].min())
    return (
        alt.layer(band, lines, line, easy, points, handles)
        .properties(width=520, height=300, title=title, description=described.sensitivity(measured))
        .add_params(
            alt.param(name="at", value=dict(at)),
            alt.param(name="dragged", value=None),
            alt.param(name="level", value=round(max(0.02, lowest / 2), 3)),
        )
    )


# what a page adds to the compiled `sensitivity_handles`, {signal: where its values come from}
_DRAG = "[@{}_marks:pointerdown, window:pointerup] > window:pointermove"
HANDLES = {
    "grabbed": [{"events": "@handles_marks:pointerdown", "update": "datum.layer"}],
    "dragged": [
        {
            "events": _DRAG.format("handles"),
            "update": "{layer: grabbed, ratio: clamp(invert('x', x()), 0, 0.99)}",
        }
    ],
    "level": [{"events": _DRAG.format("line"), "update": "clamp(invert('y', y()), 0, 1)"}],
}


def place_handles(
    measured: pd.DataFrame, ratios: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """Where the handles of `sensitivity_handles` are.

    Args:
        measured: of `measure_sensitivity`.
        ratios: {layer or stage that was measured: the fraction of its filters that goes}.

    Returns:
        {layer: (ratio, accuracy)}, the accuracy read off the curve.
    """
    at = {}
    for name, curve in measured.groupby("layer", sort=False):
        if name in ratios:
            shares = curve["removed"] / curve["filters"]
            order = shares.argsort()
            read = np.interp(ratios[str(name)], shares.iloc[order], curve["accuracy"].iloc[order])
            at[str(name)] = round(ratios[str(name)], 4), round(float(read), 4)
    return at


def sensitivity_map(
    measured: pd.DataFrame, at: Mapping[str, Sequence[float]] | None = None
) -> Chart:
    """How much each layer can lose, all layers side by side, front to back.

    Live: the field that is clicked, its layer and ratio, is in the selection `picked`; the
    parameter `at` marks where each layer stands.

    Args:
        measured: of `measure_sensitivity`.
        at: {layer: (ratio, accuracy)}, of `place_handles`: where dots are at first; None: no word
            of them.

    Returns:
        A column for each layer, by name, and a field for each ratio, coloured by accuracy.

    Example:
        >>> charts.sensitivity_map(measure_sensitivity(model, data))
    """
    frame = measured[
        ["layer", "paper_name", "ratio", "removed", "filters", "correct", "total", "accuracy"]
    ].round(4)
    names = list(dict.fromkeys(frame["paper_name"]))
    many = len(names) > 40
    x = alt.X(
        "paper_name:N",
        sort=names,
        title="pruned alone, front to back",
        axis=alt.Axis(labelAngle=-90, labelOverlap=False, labelFontSize=9 if many else 11),
    )
    axis = alt.Axis(format="~%")
    y = alt.Y("ratio:O", title="filters removed", sort="descending", axis=axis)
    colour = alt.Color(
        "accuracy:Q",
        title="accuracy",
        scale=alt.Scale(scheme=alt.SchemeParams("viridis", extent=[0, 0.8]), domain=[0, 1]),
        legend=alt.Legend(type="symbol", symbolType="square", format="%"),
    )
    picked = alt.selection_point(
        name="picked", fields=["layer", "ratio"], toggle=False, clear=False
    )
    tips = [alt.Tooltip("ratio:Q", format=".0%"), percent_tip("accuracy"), "correct:Q", "total:Q"]
    fields = (
        alt.Chart(frame)
        .mark_rect(cursor="pointer")
        .encode(x=x, y=y, color=colour, tooltip=["paper_name:N", "layer:N", *tips])
        .add_params(picked)
    )
    here = (
        alt.Chart(frame)
        .transform_filter("at[datum.layer] && abs(at[datum.layer][0] - datum.ratio) <= 0.05")
        .mark_point(size=30, filled=True, opacity=1, color="white", stroke="black", strokeWidth=1)
        .encode(x=x, y=y)
    )
    dots = "" if at is None else "dots: where each layer stands"
    title = alt.Title("Sensitivity, layer by layer", subtitle=_describe_measured(measured, dots))
    said = described.sensitivity(measured)
    chart = alt.layer(fields, here)
    chart = chart.properties(width=620, height=230, title=title, description=said)
    return chart.add_params(alt.param(name="at", value=dict(at or {})))


def compare_sensitivity(
    measured: Mapping[str, pd.DataFrame],
    *,
    legend: str = "which go",
    title: str = "Which filters go",
) -> alt.FacetChart:
    """Several ways side by side: a panel for each layer or stage, a line for each way.

    As in Fig. 2(c), 8 and 9.

    Args:
        measured: {name: frame of `measure_sensitivity` or `measure_retrained`}.
        legend: what tells the ways apart.
        title: of the chart.

    Returns:
        Accuracy against the filters removed; with three ways or fewer, their 95 % bands too.

    Raises:
        ValueError: a frame holds several networks, which one line cannot show.

    Example:
        >>> charts.compare_sensitivity({"smallest": first, "largest": second})
    """
    for name, found in measured.items():
        networks = list(found["network"].unique()) if "network" in found else []
        if len(networks) > 1:
            raise ValueError(
                f"{name!r} holds the networks {', '.join(map(repr, networks))}, and a line "
                "shows one: draw them one by one, as findings.by_network gives them"
            )
    frame = pd.concat([found.assign(way=name) for name, found in measured.items()])
    names = frame["paper_name"].fillna(frame["layer"]) if "paper_name" in frame else frame["layer"]
    frame = frame.assign(share=frame["removed"] / frame["filters"], layer=names)
    accuracies = ["accuracy", "accuracy_low", "accuracy_high"]
    columns = ["layer", "way", "share", *accuracies, "correct", "total"]
    shown = alt.Legend(title=legend, symbolOpacity=1, labelLimit=0)
    colour, dashes = _tell_lines("way:N", list(measured), title=title_tip(legend), legend=shown)
    base = alt.Chart(frame[columns].round(4)).encode(
        x=alt.X("share:Q", title="filters removed", axis=PERCENT), color=colour
    )
    line = base.mark_line(point=alt.OverlayMarkDef(size=25)).encode(
        **dashes,
        y=alt.Y("accuracy:Q", title="accuracy", axis=PERCENT, scale=WHOLE),
        tooltip=["layer:N", "way:N", percent_tip("accuracy"), "correct:Q", "total:Q"],
    )
    marks, subtitle = [line], f"{int(frame['total'].max()):,} images"
    if len(measured) <= 3:
        low = alt.Y("accuracy_low:Q", scale=WHOLE)
        marks.insert(0, base.mark_area(opacity=0.12).encode(y=low, y2="accuracy_high:Q"))
        subtitle += f"; {_describe_bands(frame, height=180, point=25)}"
    panels = alt.Facet("layer:N", title=None, sort=list(dict.fromkeys(frame["layer"])))
    chart = alt.layer(*marks).properties(width=210, height=180)
    return lay_panels(chart, panels, frame["layer"].nunique()).properties(
        title=alt.Title(title, subtitle=subtitle),
        description=described.compare_sensitivity(measured),
    )


def learning_curves(history: pd.DataFrame) -> alt.FacetChart:
    """Error by epoch on train, validation and test, a panel for each training.

    Args:
        history: `Experiment.history`, or the frame of `train` with a column kind: what was trained.
            With a column step, the epochs of the steps of a schedule follow one another.

    Returns:
        A line for each split whose accuracy the frame holds; errors on a log scale, even near 0.

    Example:
        >>> charts.learning_curves(train(model, data, settings).assign(kind="baseline"))
    """
    if "step" in history:  # each step of a schedule goes on where the one before ended
        history = history.assign(epoch=history.groupby("kind").cumcount() + 1)
    splits = [name for column, name in SPLITS.items() if column in history]
    named = history.rename(columns=SPLITS)
    long = named.melt(["kind", "epoch"], splits, "split", "accuracy").round(4)
    long = long.assign(error=(1 - long["accuracy"]).round(4))
    last = int(history["epoch"].max())
    ticks = list(range(1, last + 1, -(-last // 8)))
    colour, dashes = _tell_lines("split:N", splits, title=None, legend=alt.Legend(orient="top"))
    curves = (
        alt.Chart(long)
        .mark_line(point=alt.OverlayMarkDef(size=20))
        .encode(
            x=alt.X("epoch:Q", axis=alt.Axis(values=ticks, format="d")),
            y=alt.Y("error:Q", **scale_errors(long["error"], "error")),
            color=colour,
            **dashes,
            tooltip=["kind:N", "epoch:Q", "split:N", percent_tip("error"), percent_tip("accuracy")],
        )
        .properties(width=260, height=190)
    )
    panels = alt.Facet("kind:N", sort=list(KIND_COLOURS), title=None)
    return lay_panels(curves, panels, long["kind"].nunique()).properties(
        title=alt.Title("Learning curves", subtitle="lower is better"),
        description=described.learning_curves(history),
    )


def strategies(frame: pd.DataFrame) -> alt.FacetChart:
    """Accuracy of independent and greedy scoring, against the filters removed from each layer.

    Args:
        frame: a row for each strategy and ratio. Columns: strategy, ratio, correct, total,
            accuracy, accuracy_low, accuracy_high, flops_left; of several networks, network; and
            epochs, where some were retrained.

    Returns:
        A panel for each network; a line with a 95 % band for each strategy.

    Example:
        >>> charts.strategies(findings.read_frame("strategies"))
    """
    shown = ["network", "strategy", "ratio", "correct", "total", "accuracy"]
    shown += ["accuracy_low", "accuracy_high", "flops_left"]
    said = describe_strategies(frame).replace("**", "")
    frame = name_retrained(frame)[shown].round(4)
    names = list(dict.fromkeys(frame["strategy"]))
    legend = alt.Legend(symbolOpacity=1)
    colour, dashes = _tell_lines("strategy:N", names, title="strategy", legend=legend)
    x = alt.X("ratio:Q", title="filters removed from each layer", axis=PERCENT)
    base = alt.Chart(frame).encode(x=x, color=colour)
    low = alt.Y("accuracy_low:Q", scale=WHOLE)
    band = base.mark_area(opacity=0.15).encode(y=low, y2="accuracy_high:Q")
    tips = [percent_tip("accuracy"), "correct:Q", "total:Q", percent_tip("flops_left")]
    line = base.mark_line(point=alt.OverlayMarkDef(size=25)).encode(
        **dashes,
        y=alt.Y("accuracy:Q", title="accuracy", axis=PERCENT, scale=WHOLE),
        tooltip=["strategy:N", "ratio:Q", *tips],
    )
    title = alt.Title("Independent and greedy scoring", subtitle=BANDS)
    panels = alt.Facet("network:N", title=None, sort=list(dict.fromkeys(frame["network"])))
    chart = alt.layer(band, line).properties(width=320, height=210)
    drawn = lay_panels(chart, panels, frame["network"].nunique(), columns=2)
    return drawn.properties(title=title, description=said)
