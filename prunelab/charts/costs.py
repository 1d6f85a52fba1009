"""Charts of cost: of each layer, of choices within a budget, of measured time, beside accuracy."""

import altair as alt
import pandas as pd

from prunelab.charts.style import COLOURS, KIND_COLOURS, PERCENT, WHOLE, Chart, percent_tip

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
    panels = []
    for name in names:
        last = name == names[-1]
        axis = alt.Axis(labelAngle=-60, labelOverlap=True, labels=last, ticks=last)
        panel = _draw_cost(cost[["paper_name", "layer", name]], name, axis)
        panels.append(panel.properties(width=width, height=height))
    title = alt.Title(
        "What each layer costs, for one image", subtitle="front to back; grey before, blue after"
    )
    left = alt.param(name="left", value=cost_left(cost))
    return alt.vconcat(*panels, title=title, spacing=8).add_params(left)


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
    before = base.transform_filter("datum.when == 'before'").mark_bar(opacity=0.6)
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
    base = alt.Chart(compared[shown]).encode(
        x=alt.X("flops_left:Q", title="multiply-adds left", axis=PERCENT, scale=WHOLE),
        color=alt.Color("choice:N", title="ratios", sort=None),
    )
    lines = base.mark_line(strokeDash=[4, 3]).encode(y="accuracy:Q")
    low = alt.Y("accuracy_low:Q", scale=WHOLE)
    bars = base.mark_rule().encode(y=low, y2="accuracy_high:Q")
    tips = [percent_tip(name) for name in ("accuracy", "flops_left", "params_left")]
    points = base.mark_point(filled=True, size=80).encode(
        y=alt.Y("accuracy:Q", title="accuracy, not retrained", axis=PERCENT, scale=WHOLE),
        tooltip=["choice:N", *tips],
    )
    title = alt.Title(
        "What the same budget leaves", subtitle="bars hold the accuracy 95 times in 100"
    )
    return alt.layer(lines, bars, points).properties(width=420, height=240, title=title)


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
    scale = alt.Scale(domain=[round(least - 0.1, 1), round(most + 0.05, 1)], nice=False)
    axis = alt.Axis(format="%", tickCount=4)

    base = alt.Chart(frame).encode(
        x=alt.X("flops_left:Q", title="multiply-adds left", scale=scale, axis=axis)
    )
    line = (
        base.transform_calculate(at="datum.flops_left")
        .mark_line(color="#999999", strokeDash=[4, 3])
        .encode(y=alt.Y("at:Q", scale=scale, axis=axis), detail="images:N")
    )
    tips: list[str | alt.Tooltip] = ["recipe:N"] if of_recipes else []
    tips += ["model:N", "batch:Q"]
    tips += [alt.Tooltip(f"{name}:Q", format=".1f") for name in ("median_ms", "low_ms", "high_ms")]
    tips += [percent_tip(name) for name in ("time_left", "flops_left")]
    tips += [alt.Tooltip("unaligned:Q", title="widths not multiples of 8")]
    recipes = alt.Color("recipe:N", title="recipe")
    names = list(dict.fromkeys(frame["model"]))
    points = base.mark_point(size=90, strokeWidth=2.5).encode(
        y=alt.Y("time_left:Q", title="measured time left", scale=scale, axis=axis),
        color=recipes if of_recipes else alt.value(COLOURS["after"]),
        shape=alt.Shape("model:N", sort=names, title="network"),
        tooltip=tips,
    )
    subtitle = "on the dashed line, time falls as they do"
    if "device" in frame:
        subtitle = f"on {frame['device'].iloc[0]}, {frame['threads'].iloc[0]} threads; {subtitle}"
    title = alt.Title("Does the time fall as the multiply-adds do?", subtitle=subtitle)
    facet = alt.Facet("images:N", sort=list(dict.fromkeys(order)), title=None)
    chart = alt.layer(line, points).properties(width=300, height=240)
    return chart.facet(facet=facet, columns=2).properties(title=title)


def _name_panel(batch: int, format: str, runtime: str) -> str:
    images = "one image" if batch == 1 else f"{batch} images at once"
    return f"{images}, {format if runtime == 'torch' else runtime}"


def tradeoff(rows: pd.DataFrame) -> alt.Chart | alt.FacetChart:
    """Test accuracy against multiply-adds for one image, a point for each network.

    Args:
        rows: of replays, as `read_rows` or `Experiment.report` give them.

    Returns:
        A panel for each recipe; a plain chart for one.

    Example:
        >>> charts.tradeoff(read_rows())
    """
    kinds = [kind for kind in KIND_COLOURS if kind in set(rows["kind"])]
    colours = alt.Scale(domain=kinds, range=[KIND_COLOURS[kind] for kind in kinds])
    forms = ["circle", "cross", "square", "triangle-down", "triangle-up", "diamond"]
    shapes = alt.Scale(domain=kinds, range=forms[: len(kinds)])
    x = alt.X(
        "flops:Q",
        title="multiply-adds for one image",
        axis=alt.Axis(format="~s"),
        scale=alt.Scale(zero=True),
    )
    y = alt.Y("test_accuracy:Q", title="test accuracy", axis=PERCENT, scale=WHOLE)
    accuracy = alt.Tooltip("test_accuracy:Q", format=".2%")
    flops = alt.Tooltip("flops:Q", format=",")
    chart = (
        alt.Chart(rows)
        .mark_point(size=120, strokeWidth=2.5)
        .encode(
            x=x,
            y=y,
            color=alt.Color("kind:N", scale=colours, title="network"),
            shape=alt.Shape("kind:N", scale=shapes, title="network"),
            tooltip=["recipe:N", "kind:N", "seed:N", accuracy, flops],
        )
    )
    title = "What it costs and how well it does"
    if len(set(rows["recipe"])) == 1:
        return chart.properties(width=420, height=240, title=title)
    named = chart.transform_calculate(panel="datum.recipe + ' on ' + datum.dataset")
    return (
        named.properties(width=260, height=200)
        .facet(facet=alt.Facet("panel:N", title=None), columns=2)
        .resolve_scale(x="independent")
        .properties(title=title)
    )
