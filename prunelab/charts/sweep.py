"""What came of a sweep: error against cost, and the Pareto front."""

from typing import Any

import altair as alt
import pandas as pd

from prunelab.charts.style import FORMS, GREY, KIND_COLOURS, Chart, scale_errors
from prunelab.findings import described

LABELS = 8  # points on the front that are named; more would cover each other
SPREAD = alt.Scale(zero=False, padding=12)


def sweep(compared: pd.DataFrame) -> Chart:
    """Test error against multiply-adds, a point for each combination of settings.

    Args:
        compared: of `compare_points`.

    Returns:
        Points with bars from the lowest to the highest seed; those on the front are joined.

    Example:
        >>> charts.sweep(compare_points(read_sweep("data/runs/digits-small")))
    """
    frame = compared.assign(label=compared["point"].str.partition(",")[2].str.replace(",", " "))
    frame["label"] = frame["label"].where(frame["label"] != "", frame["kind"])
    kinds = [kind for kind in KIND_COLOURS if kind in set(frame["kind"])]
    colours = alt.Scale(domain=kinds, range=[KIND_COLOURS[kind] for kind in kinds])
    forms = alt.Scale(domain=kinds, range=FORMS[: len(kinds)])
    x = alt.X(
        "flops:Q",
        title="multiply-adds for one image (axis not from 0)",
        axis=alt.Axis(format="~s", tickCount=6),
        scale=SPREAD,
    )
    drawn = pd.concat([frame[name] for name in ("error", "error_low", "error_high")])
    error: dict[str, Any] = scale_errors(drawn, "test error")
    tips = ["point:N", "kind:N", alt.Tooltip("n:Q", title="seeds")]
    tips += [alt.Tooltip(f"{name}:Q", format=".2%") for name in ("error", "error_low")]
    tips += [alt.Tooltip("error_high:Q", format=".2%"), alt.Tooltip("flops:Q", format=",")]
    tips += [alt.Tooltip("flops_removed:Q", format=".1%")]
    base = alt.Chart(frame).encode(x=x)
    of_front = base.transform_filter("datum.on_front")
    steps = of_front.mark_line(interpolate="step-after", color=GREY, strokeDash=[4, 3])
    bars = base.mark_rule(strokeWidth=1.5).encode(
        y=alt.Y("error_low:Q", **error),
        y2="error_high:Q",
        color=alt.Color("kind:N", scale=colours, title="network"),
    )
    points = base.mark_point(size=80, opacity=1).encode(
        y=alt.Y("error:Q", **error),
        fill=alt.Fill("kind:N", scale=colours, title="network"),
        stroke=alt.Stroke("kind:N", scale=colours, title="network"),
        shape=alt.Shape("kind:N", scale=forms, title="network"),
        fillOpacity=alt.condition("datum.on_front", alt.value(1), alt.value(0)),
        tooltip=tips,
    )
    layers = [steps.encode(y=alt.Y("error:Q", **error)), bars, points]
    if 0 < frame["on_front"].sum() <= LABELS:
        names = of_front.mark_text(align="left", dx=8, dy=-8, fontSize=11)
        layers.append(names.encode(y=alt.Y("error:Q", **error), text="label:N"))
    seeds = int(frame["n"].max()) if len(frame) else 0
    told = "bars hold the accuracy 95 times in 100"
    if seeds > 1:
        told = f"bars from the lowest to the highest of {seeds} seeds"
    title = alt.Title(
        "What accuracy is had at what cost",
        subtitle=f"{told}; dashed, full marks: none is both better and cheaper",
    )
    said = described.sweep(compared)
    return alt.layer(*layers).properties(width=480, height=300, title=title, description=said)
