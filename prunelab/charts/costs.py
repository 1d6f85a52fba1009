"""Charts of cost: of each layer, of choices within a budget, of measured time, beside accuracy."""

import math
from typing import Any

import altair as alt
import pandas as pd

from prunelab.charts.style import (
    COLOURS,
    FEW,
    FORMS,
    GREY,
    KIND_COLOURS,
    PERCENT,
    Chart,
    lay_panels,
    name_start,
    percent_tip,
    scale_errors,
    tell_apart,
)
from prunelab.findings import described

# a name and, below it, what follows its first comma
COMMA = "indexof(datum.label, ', ')"
TWO_LINES = (
    f"{COMMA} < 0 ? datum.label : [slice(datum.label, 0, {COMMA}), slice(datum.label, {COMMA} + 2)]"
)
MEASURES = {"flops": "multiply-adds", "params": "parameters", "memory": "bytes of maps"}


def layer_cost(cost: pd.DataFrame) -> alt.VConcatChart:
    """What each layer costs before and after, as bars in forward order.

    Live: the parameter `left`, as `cost_left` gives it, moves the bars.

    Args:
        cost: of `measure_cost`; with the columns memory and memory_after, a panel for them too.

    Returns:
        A panel for each measure, multiply-adds for one image, parameters, bytes of maps.

    Example:
        >>> charts.layer_cost(measure_cost(graph, plan))
    """
    names = [name for name in MEASURES if name in cost]
    width = max(420, min(640, 16 * len(cost)))
    height = 200 if len(names) == 1 else 120
    panels: list[Any] = []
    # a name for each bar, as large as its width lets it be; those of too many are thinned out
    size = alt.ExprRef(f"clamp(width / {len(cost)} - 1, 6, 11)")
    names_axis: dict[str, Any] = {"labelAngle": -90, "labelOverlap": True, "labelFontSize": size}
    for name in names:
        last = name == names[-1]
        axis = alt.Axis(labels=last, ticks=last, **names_axis)
        panel = _draw_cost(cost[["paper_name", "layer", name]], name, axis)
        panels.append(panel.properties(width=width, height=height))
    title = alt.Title(
        "What each layer costs, for one image", subtitle="front to back; grey before, blue after"
    )
    left = alt.param(name="left", value=cost_left(cost))
    chart = alt.vconcat(*panels, title=title, spacing=8).add_params(left)
    return chart.properties(description=described.layer_cost(cost))


def _draw_cost(cost: pd.DataFrame, name: str, axis: alt.Axis) -> Chart:
    """One measure of `layer_cost`; what is left comes from the parameter `left`."""
    words = MEASURES[name]
    colours = alt.Scale(domain=["before", "after"], range=[COLOURS["before"], COLOURS["after"]])
    amounts = alt.Axis(format="~s", tickCount=4)
    legend = alt.Legend(orient="top", symbolOpacity=1)
    amount_tip = alt.Tooltip("amount:Q", title=words, format=",")
    base = (
        alt.Chart(cost)
        .transform_calculate(after=f"left.{name}[datum.layer]", before=f"datum.{name}")
        .transform_fold(["before", "after"], as_=["when", "amount"])
        .encode(
            x=alt.X("paper_name:N", sort=None, title=None, axis=axis),
            y=alt.Y("amount:Q", title=words, axis=amounts, stack=None),
            color=alt.Color("when:N", scale=colours, title=None, legend=legend),
            tooltip=["paper_name:N", "layer:N", "when:N", amount_tip],
        )
    )
    before = base.transform_filter("datum.when == 'before'").mark_bar()
    after = base.transform_filter("datum.when == 'after'").mark_bar(width={"band": 0.5})
    return alt.layer(before, after)


def cost_left(cost: pd.DataFrame) -> dict[str, dict[str, int]]:
    """What `layer_cost` draws as left, for its live parameter.

    Args:
        cost: of `measure_cost`.

    Returns:
        ``{measure: {layer: number}}``; of flops, params and, if `cost` has it, memory.

    Example:
        >>> charts.cost_left(measure_cost(graph, plan))["flops"]["conv1"]
        442368
    """
    rows = cost.set_index("layer")
    left = {}
    for name in MEASURES:
        if name in rows:
            left[name] = {str(k): int(v) for k, v in rows[f"{name}_after"].items()}
    return left


def choices(compared: pd.DataFrame) -> Chart:
    """Accuracy against the multiply-adds that are left, for several choices of ratios.

    Args:
        compared: of `compare_ratios`.

    Returns:
        A point for each choice, with its 95 % interval as a bar.

    Example:
        >>> charts.choices(compare_ratios(model, data, {"uniform": {"*": 0.2}, "mine": ratios}))
    """
    # `predicted` stays out: it may be empty, which JSON has no number for
    shown = ["choice", "flops_left", "params_left", "accuracy", "accuracy_low", "accuracy_high"]
    names = list(dict.fromkeys(compared["choice"]))
    scales = tell_apart(names)
    base = alt.Chart(compared[shown]).encode(
        x=alt.X("flops_left:Q", **_frame(compared["flops_left"], "multiply-adds left")),
        color=alt.Color("choice:N", title="ratios", sort=None, scale=scales["color"]),
    )
    spread = pd.concat([compared["accuracy_low"], compared["accuracy_high"]])
    upward = _frame(spread, "accuracy, not retrained")
    y = alt.Y("accuracy:Q", **upward)
    dashes: dict[str, Any] = {}
    forms: dict[str, Any] = {}
    if len(names) <= FEW:
        named: dict[str, Any] = {"title": "ratios", "sort": None}
        dashes["strokeDash"] = alt.StrokeDash("choice:N", scale=scales["strokeDash"], **named)
        forms["shape"] = alt.Shape("choice:N", scale=scales["shape"], **named)
    lines = base.mark_line().encode(y=y, **dashes)
    low = alt.Y("accuracy_low:Q", **upward)
    bars = base.mark_rule().encode(y=low, y2="accuracy_high:Q")
    tips = [percent_tip(name) for name in ("accuracy", "flops_left", "params_left")]
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        y=y, tooltip=["choice:N", *tips], **forms
    )
    title = alt.Title(
        "What the same budget leaves", subtitle="bars hold the accuracy 95 times in 100"
    )
    said = described.choices(compared)
    chart = alt.layer(lines, bars, points)
    return chart.properties(width=420, height=240, title=title, description=said)


def _frame(values: pd.Series, words: str) -> dict[str, Any]:
    """An axis of fractions around these, by tens of per cent; its title says where it starts."""
    low = max(0, math.floor(10 * float(values.min()) - 0.1) / 10)
    high = min(1, math.ceil(10 * float(values.max()) + 0.1) / 10)
    scale = alt.Scale(domain=[low, high], nice=False)
    return {"title": name_start(words, low), "axis": PERCENT, "scale": scale}


def latency(measured: pd.DataFrame) -> alt.FacetChart:
    """The time that is left against the multiply-adds that are left, both in per cent.

    On the dashed line, time falls as multiply-adds do.

    Args:
        measured: of `measure_latency` or `time_recipes`.

    Returns:
        A point for each network, a panel for each batch size, memory format and runtime.

    Example:
        >>> charts.latency(measure_latency({"whole": model, "pruned": small}, (3, 32, 32)))
    """
    frame = measured if "runtime" in measured else measured.assign(runtime="torch")
    panels = frame[["batch", "format", "runtime"]].itertuples(index=False)
    frame = frame.assign(images=[_name_panel(*panel) for panel in panels])
    ordered = frame.sort_values(["batch", "runtime", "format"], ascending=[True, False, False])
    order = ordered["images"]
    of_recipes = "recipe" in frame
    most = max(1.0, float(frame["time_left"].max()))
    least = min(float(frame["time_left"].min()), float(frame["flops_left"].min()))
    start = max(0.0, round(least - 0.1, 1))
    scale = alt.Scale(domain=[start, round(most + 0.05, 1)], nice=False)
    axis = alt.Axis(format="%", tickCount=4)

    title_x = name_start("multiply-adds left", start)
    base = alt.Chart(frame).encode(x=alt.X("flops_left:Q", title=title_x, scale=scale, axis=axis))
    line = (
        base.transform_calculate(at="datum.flops_left")
        .mark_line(color=GREY, strokeDash=[4, 3])
        .encode(y=alt.Y("at:Q", scale=scale, axis=axis), detail="images:N")
    )
    tips: list[str | alt.Tooltip] = ["recipe:N"] if of_recipes else []
    tips += ["model:N", "batch:Q"]
    tips += [alt.Tooltip(f"{name}:Q", format=".1f") for name in ("median_ms", "low_ms", "high_ms")]
    tips += [percent_tip(name) for name in ("time_left", "flops_left")]
    tips += [alt.Tooltip("unaligned:Q", title="widths not multiples of 8")]
    names = list(dict.fromkeys(frame["model"]))
    title_y = name_start("measured time left", start)
    recipes: Any = alt.value(COLOURS["after"])
    if of_recipes:
        scales = tell_apart(list(dict.fromkeys(frame["recipe"])))
        recipes = alt.Color("recipe:N", title="recipe", scale=scales["color"])
    points = base.mark_point(size=90, strokeWidth=2.5, opacity=1).encode(
        y=alt.Y("time_left:Q", title=title_y, scale=scale, axis=axis),
        color=recipes,
        shape=alt.Shape("model:N", sort=names, title="network"),
        tooltip=tips,
    )
    subtitle = "on the dashed line, time falls as they do"
    if "device" in frame:
        subtitle = f"on {frame['device'].iloc[0]}, {frame['threads'].iloc[0]} threads; {subtitle}"
    title = alt.Title("Does the time fall as the multiply-adds do?", subtitle=subtitle)
    facet = alt.Facet("images:N", sort=list(dict.fromkeys(order)), title=None)
    chart = alt.layer(line, points).properties(width=300, height=240)
    said = described.latency(measured)
    panels = lay_panels(chart, facet, order.nunique(), columns=2)
    return panels.properties(title=title, description=said)


def _name_panel(batch: int, format: str, runtime: str) -> str:
    images = "one image" if batch == 1 else f"{batch} images at once"
    return f"{images}, {format if runtime == 'torch' else runtime}"


def tradeoff(rows: pd.DataFrame) -> alt.Chart | alt.ConcatChart:
    """Test error against multiply-adds for one image, a point for each network.

    Args:
        rows: of replays, as `read_rows` or `Experiment.report` give them.

    Returns:
        A panel for each model and data set, in which a baseline that recipes share is drawn once;
        a plain chart for one.

    Example:
        >>> charts.tradeoff(read_rows())
    """
    kinds = [kind for kind in KIND_COLOURS if kind in set(rows["kind"])]
    colours = alt.Scale(domain=kinds, range=[KIND_COLOURS[kind] for kind in kinds])
    shapes = alt.Scale(domain=kinds, range=FORMS[: len(kinds)])
    x = alt.X(
        "flops:Q",
        title="multiply-adds for one image",
        axis=alt.Axis(format="~s"),
        scale=alt.Scale(zero=True),
    )
    point = ["model", "dataset", "kind", "seed", "flops", "test_accuracy"]
    frame = rows[["recipe", *point]].drop_duplicates(point)
    frame = frame.assign(error=1 - frame["test_accuracy"])
    errors = [alt.Tooltip(f"{name}:Q", format=".2%") for name in ("error", "test_accuracy")]
    flops = alt.Tooltip("flops:Q", format=",")
    panels = {}
    for (model, dataset), own in frame.groupby(["model", "dataset"], sort=False):
        panels[f"{model} on {dataset}"] = (
            alt.Chart(own)
            .mark_point(size=120, strokeWidth=2.5, opacity=1)
            .encode(
                x=x,
                y=alt.Y("error:Q", **scale_errors(own["error"], "test error")),
                color=alt.Color("kind:N", scale=colours, title="network"),
                shape=alt.Shape("kind:N", scale=shapes, title="network"),
                tooltip=["recipe:N", "kind:N", "seed:N", *errors, flops],
            )
        )
    said = {
        "title": alt.Title("What it costs and how well it does", subtitle="lower is better"),
        "description": described.tradeoff(rows),
    }
    if len(panels) == 1:
        return panels.popitem()[1].properties(width=420, height=240, **said)
    drawn = [
        panel.properties(width=260, height=200, title=alt.Title(name, fontSize=12))
        for name, panel in panels.items()
    ]
    return alt.concat(*drawn, columns=2).properties(**said)


def changes(listed: pd.DataFrame) -> alt.FacetChart:
    """Test error less the baseline's, ours beside the paper's.

    Args:
        listed: of `findings.list_changes`.

    Returns:
        A panel for each network, in which each kind has a point with its 95 % interval as a bar, a
        tick for each seed where there are several, and a hollow diamond for what the paper prints.

    Example:
        >>> charts.changes(findings.list_changes(read_rows()))
    """
    kinds = [kind for kind in KIND_COLOURS if kind in set(listed["kind"])]
    colours = alt.Scale(domain=kinds, range=[KIND_COLOURS[kind] for kind in kinds])
    frame = listed.astype({"change": float, "low": float, "high": float})
    for bound in ("low", "high"):
        frame[bound] = frame[bound].fillna(frame["change"])
    x = alt.X("change:Q", title="points of test error more than the baseline")
    y = alt.Y("kind:N", sort=kinds, title=None)
    color = alt.Color("kind:N", scale=colours, legend=None)
    numbers = [alt.Tooltip(f"{name}:Q", format="+.2f") for name in ("change", "low", "high")]
    base = alt.Chart(frame).encode(y=y)
    # once in each panel: many dashed lines on one another are black
    once = alt.Chart(frame).transform_aggregate(rows="count()", groupby=["network"])
    dashed = once.mark_rule(color=GREY, strokeDash=[4, 3])
    zero = dashed.encode(x=alt.XDatum(0, type="quantitative"))
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q", color=color)
    marks = alt.Scale(domain=["ours", "seed", "paper"], range=["circle", "M0,-1.2V1.2", "diamond"])
    filled = alt.condition("datum.whose == 'ours'", color, alt.value("white"))
    points = base.mark_point(size=90, strokeWidth=2, opacity=1).encode(
        x=x,
        color=color,
        fill=filled,
        shape=alt.Shape("whose:N", scale=marks, legend=None),
        tooltip=["network:N", "kind:N", "whose:N", "n:Q", *numbers],
    )
    ticks = ", ticks are seeds" if (frame["whose"] == "seed").any() else ""
    title = alt.Title(
        "What is lost, or won, beside the baseline",
        subtitle=[
            "left of the dashed line is better; bars hold the difference 95 times in 100",
            "hollow diamonds are the paper's" + ticks,
        ],
    )
    names = list(dict.fromkeys(frame["network"]))
    # the first line above the middle, the second below
    lines: dict[str, Any] = {"labelBaseline": "bottom", "labelAlign": "left", "labelAngle": 0}
    header = alt.Header(labelOrient="left", labelExpr=TWO_LINES, **lines)
    row = alt.Row("network:N", sort=names, title=None, header=header)
    chart = alt.layer(zero, bars, points).properties(width=420, height=alt.Step(20))
    said = described.changes(listed)
    panels = chart.facet(row=row, spacing=8).resolve_scale(y="independent")
    return panels.properties(title=title, description=said)
