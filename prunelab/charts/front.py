"""A Pareto front: what accuracy is had at what cost."""

import math
from typing import NamedTuple

import altair as alt
import pandas as pd

from prunelab.charts.style import GREEN, KIND_COLOURS, Chart, name_start, percent_tip
from prunelab.findings import described

TICKS = alt.Axis(format="%", tickCount=6)
INTERVAL = ["accuracy", "accuracy_low", "accuracy_high"]
GOAL = GREEN
MANY = 0.15  # of accuracy: what is lost beyond it is out of sight where little may be


def front(
    found: pd.DataFrame,
    pinned: pd.DataFrame | None = None,
    *,
    max_flops: float | None = None,
    max_loss: float | None = None,
) -> Chart:
    """Accuracy against the multiply-adds that are left: the best that was found, and the rest.

    Live: the point that is clicked, by its number in the frame, is in the selection `picked`.

    Args:
        found: of `find_front`, whole or so far.
        pinned: networks to name in it; columns name, flops_left, accuracy, accuracy_low,
            accuracy_high, retrained.
        max_flops: the goal, shaded: the fraction of the multiply-adds that may be left.
        max_loss: likewise, the accuracy that may be lost; networks that lose much more are left
            out.

    Returns:
        A point for each network; those on the front with 95 % intervals, joined by steps.

    Example:
        >>> charts.front(found, max_flops=0.7, max_loss=0.01)
    """
    columns = ["point", "found", "flops_left", "params_left", *INTERVAL, "predicted", "on_front"]
    timed = ["latency_ms"] if "latency_ms" in found else []
    rows = found[[*columns, *timed]].round(5).sort_values("on_front")  # the front above the rest
    pinned = None if pinned is None else pinned.dropna(subset=INTERVAL)  # those counted
    named = pd.concat([rows[rows["on_front"]], found.iloc[:1], pinned])
    whole = float(found["accuracy"].iloc[0])
    least = 0.0 if max_loss is None else whole - max(MANY, 5 * max_loss)
    view = _frame(named[named["accuracy"] >= least], max_flops)

    base = alt.Chart(rows).encode(x=view.x)
    of_front = base.transform_filter("datum.on_front")
    faded = KIND_COLOURS["baseline"]
    colour = alt.condition("datum.on_front", alt.value(KIND_COLOURS["pruned"]), alt.value(faded))
    picked = alt.selection_point(name="picked", fields=["point"], toggle=False, clear=False)
    tips = [percent_tip(n) for n in ("flops_left", "params_left", *INTERVAL, "predicted")]
    tips += [alt.Tooltip(f"{name}:Q", format=".3g") for name in timed]
    steps = of_front.mark_line(interpolate="step-after", strokeWidth=1.5, clip=True).encode(
        y=view.y(), color=alt.value(KIND_COLOURS["pruned"])
    )
    bars = _draw_intervals(of_front, view).encode(color=alt.value(KIND_COLOURS["pruned"]))
    points = (
        base.mark_point(clip=True, opacity=1, strokeWidth=1.2, cursor="pointer")
        .encode(
            y=view.y(),
            fill=colour,
            stroke=colour,
            fillOpacity=alt.condition("datum.on_front", alt.value(1), alt.value(0)),
            size=alt.condition(picked, alt.value(220), alt.value(55), empty=False),
            tooltip=["point:Q", "found:N", *tips],
        )
        .add_params(picked)
    )
    layers = [steps, bars, *_name_whole(found, view), points]
    if max_flops is not None or max_loss is not None:
        layers.insert(0, _shade_goal(max_flops, max_loss, whole, view))
    if pinned is not None and len(pinned):
        layers += _name_pinned(pinned, view)
    count = "1 network" if len(found) == 1 else f"{len(found)} networks"
    title = alt.Title(
        "What accuracy is had at what cost",
        subtitle=[
            f"{count}, run on {int(found['total'].max()):,} images, not retrained",
            "line and full dots: the most accurate within a cost; rings: the rest",
            "bars hold the accuracy 95 times in 100",
        ],
    )
    said = described.front(found)
    return alt.layer(*layers).properties(width=480, height=300, title=title, description=said)


class _View(NamedTuple):
    """What part of the plane is shown."""

    across: list[float]
    upward: list[float]

    @property
    def x(self) -> alt.X:
        scale = alt.Scale(domain=self.across, nice=False, zero=False)
        words = name_start("multiply-adds left", self.across[0])
        return alt.X("flops_left:Q", title=words, scale=scale, axis=TICKS)

    def y(self, name: str = "accuracy") -> alt.Y:
        scale = alt.Scale(domain=self.upward, nice=False, zero=False)
        words = name_start("accuracy", self.upward[0])
        return alt.Y(f"{name}:Q", title=words, scale=scale, axis=TICKS)


def _frame(shown: pd.DataFrame, max_flops: float | None) -> _View:
    """Axes that hold these networks and the goal, and little else."""
    left = min([*shown["flops_left"], 1 if max_flops is None else max_flops])
    low = max(0.0, math.floor(20 * shown["accuracy_low"].min()) / 20)
    left, high = math.floor(20 * left - 0.4) / 20, float(shown["accuracy_high"].max())
    return _View([left, 1 + 0.02 * (1 - left)], [low, high + 0.03 * (high - low)])


def _draw_intervals(base: alt.Chart, view: _View) -> alt.Chart:
    rules = base.mark_rule(strokeWidth=0.8, clip=True)
    return rules.encode(y=view.y("accuracy_low"), y2="accuracy_high:Q")


def _name_whole(found: pd.DataFrame, view: _View) -> list[alt.Chart]:
    """A ring around the network that lost nothing."""
    base = alt.Chart(found.iloc[:1][["flops_left", "accuracy"]]).encode(x=view.x, y=view.y())
    ring = base.mark_point(size=150, opacity=1, strokeWidth=1.5, color=KIND_COLOURS["baseline"])
    return [
        ring,
        base.mark_text(align="right", dx=-2, dy=17, fontSize=11).encode(text=alt.value("whole")),
    ]


def _shade_goal(
    max_flops: float | None, max_loss: float | None, whole: float, view: _View
) -> alt.Chart:
    """The corner in which a goal is met."""
    corner = {
        "flops_left": view.across[0],
        "right": 1 if max_flops is None else max_flops,
        "accuracy": view.upward[0] if max_loss is None else whole - max_loss,
        "top": view.upward[1],
    }
    marks = alt.Chart(pd.DataFrame([corner])).mark_rect(opacity=0.16, color=GOAL, clip=True)
    return marks.encode(x=view.x, x2="right:Q", y=view.y(), y2="top:Q")


def _name_pinned(pinned: pd.DataFrame, view: _View) -> list[alt.Chart]:
    """Diamonds, squares once retrained, with their intervals and names."""
    kinds = ["pruned", "retrained"]
    states = pinned["retrained"].map(dict(zip([False, True], kinds, strict=True)))
    scale = alt.Scale(domain=kinds, range=[KIND_COLOURS[kind] for kind in kinds])
    colour = alt.Color("state:N", scale=scale, legend=None)
    forms = alt.Scale(domain=kinds, range=["diamond", "square"])
    shape = alt.Shape("state:N", scale=forms, legend=None)
    tips = ["name:N", "state:N", *map(percent_tip, ["flops_left", *INTERVAL])]
    rows = pinned[["name", "flops_left", *INTERVAL]].assign(state=states)
    base = alt.Chart(rows).encode(x=view.x)
    marks = base.mark_point(filled=True, size=150, opacity=1, clip=True)
    names = base.mark_text(align="left", dx=9, dy=-9, fontSize=12, clip=True)
    return [
        _draw_intervals(base, view).encode(color=colour),
        marks.encode(y=view.y(), color=colour, shape=shape, tooltip=tips),
        names.encode(y=view.y(), text="name:N"),
    ]
