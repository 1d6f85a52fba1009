"""Charts of choices: what goes with a layer's filters, and what the plans of two criteria share."""

import math

import altair as alt
import pandas as pd

from prunelab.charts.style import (
    BLACK,
    COLOURS,
    FORMS,
    PERCENT,
    PINK,
    Chart,
    name_start,
    percent_tip,
)
from prunelab.findings import described

ROLES = {
    "leader": "leads: its norms decide",
    "tied": "tied: loses the same filters",
    "follows": "norm: loses entries",
    "reads": "reads: loses input kernels",
}
SHARED = "#7fa9ef"  # black reads well on it
ROLE_COLOURS = [BLACK, COLOURS["removed"], COLOURS["fixed"], PINK]


def coupling(coupled: pd.DataFrame) -> alt.Chart:
    """Where in the network a layer's filters leave a gap: who leads, is tied, follows, reads.

    Args:
        coupled: of `graph.coupled(layer)`. Columns: module, paper_name, loses, role, why.

    Returns:
        A rectangle for each module that loses something, front to back; a row for each role.

    Example:
        >>> charts.coupling(graph.coupled("conv_1"))
    """
    frame = coupled.assign(part=coupled["role"].map(ROLES), place=range(1, len(coupled) + 1))
    parts = list(ROLES.values())
    x = alt.X(
        "place:O",
        title="modules that lose something, front to back",
        axis=alt.Axis(labels=False, ticks=False),
    )
    y = alt.Y(
        "part:N",
        sort=parts,
        title=None,
        scale=alt.Scale(domain=parts),
        axis=alt.Axis(labelLimit=220),
    )
    colours = alt.Scale(domain=parts, range=ROLE_COLOURS)
    leader = coupled.loc[coupled["role"] == "leader", "module"]
    named = leader.iloc[0] if len(leader) else "this layer"
    chart = (
        alt.Chart(frame)
        .mark_rect(stroke="white")
        .encode(
            x=x,
            y=y,
            color=alt.Color("part:N", scale=colours, legend=None),
            tooltip=["module:N", "paper_name:N", "loses:N", "role:N", "why:N"],
        )
    )
    step = max(4, min(18, 600 // max(len(frame), 1)))
    title = alt.Title(f"What goes with a filter of {named}")
    said = described.coupling(coupled)
    return chart.properties(width=alt.Step(step), height=90, title=title, description=said)


def overlap(compared: pd.DataFrame) -> Chart:
    """How much of what two criteria remove is the same, averaged over layers.

    Args:
        compared: of `compare_plans`. Columns: layer, one, other, overlap (in [0, 1]).

    Returns:
        A square of criteria by criteria, each field with the share in per cent.

    Example:
        >>> plans = {c: make_plan(graph, {"*": 0.5}, criterion=c) for c in ("l1", "l2")}
        >>> charts.overlap(compare_plans(plans))
    """
    names = list(dict.fromkeys([*compared["one"], *compared["other"]]))
    pairs = compared.groupby(["one", "other"], as_index=False)[["overlap"]].mean()
    mirrored = pairs.rename(columns={"one": "other", "other": "one"})
    same = pd.DataFrame({"one": names, "other": names, "overlap": 1.0})
    base = alt.Chart(pd.concat([pairs, mirrored, same])).encode(
        x=alt.X("one:N", sort=names, title=None, axis=alt.Axis(labelAngle=-40)),
        y=alt.Y("other:N", sort=names, title=None),
        tooltip=["one:N", "other:N", alt.Tooltip("overlap:Q", format=".0%")],
    )
    scale = alt.Scale(domain=[0, 1], range=["#ffffff", SHARED], interpolate="rgb")
    squares = base.mark_rect().encode(
        color=alt.Color("overlap:Q", scale=scale, title="shared", legend=alt.Legend(format="%"))
    )
    text = base.mark_text(fontSize=11, color=BLACK).encode(text=alt.Text("overlap:Q", format=".0%"))
    title = alt.Title(
        "Do criteria choose the same filters?",
        subtitle=f"of the filters that both remove, mean of {compared['layer'].nunique()} layers",
    )
    side = 46 * len(names)
    said = described.overlap(compared)
    chart = alt.layer(squares, text)
    return chart.properties(width=side, height=side, title=title, description=said)


def kept_plans(plans: pd.DataFrame, whole: float | None = None) -> Chart:
    """Plans side by side: accuracy against the multiply-adds that are left.

    Live: the plan that is clicked, by its name, is in the selection `picked`.

    Args:
        plans: a row for each. Columns: name, flops_left, accuracy, accuracy_low, accuracy_high,
            correct, total, retrained (whether it was).
        whole: the accuracy of the whole network, drawn as a line.

    Returns:
        A point for each plan, with its name and its 95 % interval.

    Example:
        >>> charts.kept_plans(lab.tray.frame())
    """
    states = ["not retrained", "retrained"]
    columns = ["name", "flops_left", "accuracy", "accuracy_low", "accuracy_high", "correct"]
    frame = plans[[*columns, "total"]].dropna().round(4)
    retrained = plans.loc[frame.index, "retrained"]
    frame["state"] = retrained.map({False: states[0], True: states[1]})
    whole = None if whole is None or math.isnan(whole) else whole  # it may not be counted yet
    low = min([*frame["accuracy_low"], 1.0 if whole is None else whole])
    low = max(0, math.floor(20 * low - 0.5) / 20)
    scale = alt.Scale(domain=[low, 1], clamp=True)
    legend = alt.Legend(orient="top")
    base = alt.Chart(frame).encode(
        x=alt.X(
            "flops_left:Q",
            title="multiply-adds left",
            axis=PERCENT,
            scale=alt.Scale(domain=[0, 1.02], nice=False),
        ),
        color=alt.Color(
            "state:N",
            title=None,
            scale=alt.Scale(domain=states, range=[COLOURS["removed"], COLOURS["after"]]),
            legend=legend,
        ),
    )
    y = alt.Y("accuracy:Q", title=name_start("accuracy", low), axis=PERCENT, scale=scale)
    bars = base.mark_rule().encode(y=alt.Y("accuracy_low:Q", scale=scale), y2="accuracy_high:Q")
    picked = alt.selection_point(name="picked", fields=["name"], toggle=False, clear=False)
    tips = [percent_tip("flops_left"), percent_tip("accuracy"), "correct:Q", "total:Q", "state:N"]
    forms = alt.Scale(domain=states, range=FORMS[: len(states)])
    points = base.mark_point(filled=True, size=110, opacity=1, cursor="pointer").encode(
        y=y,
        shape=alt.Shape("state:N", title=None, scale=forms, legend=legend),
        tooltip=["name:N", *tips],
    )
    names = base.mark_text(align="left", dx=9, dy=-6).encode(y=y, text="name:N")
    marks = [bars, names, points.add_params(picked)]
    if whole is not None:
        line = alt.Chart(pd.DataFrame({"accuracy": [whole]})).mark_rule(strokeDash=[4, 3])
        marks.insert(0, line.encode(y=y, tooltip=alt.value(f"whole network: {whole:.1%}")))
    title = alt.Title(
        "Plans side by side", subtitle="dashed: the whole network; bars: 95 % intervals"
    )
    said = described.kept_plans(plans)
    return alt.layer(*marks).properties(width=520, height=240, title=title, description=said)


def plan_shares(shares: pd.DataFrame) -> alt.Chart:
    """How plans differ, layer by layer.

    Args:
        shares: a row for each plan and layer. Columns: name, layer, paper_name, removed (the
            fraction of the layer's filters that goes).

    Returns:
        A row for each plan and a column for each layer, front to back; darker, more goes.

    Example:
        >>> charts.plan_shares(lab.tray.shares())
    """
    layers, names = (list(dict.fromkeys(shares[key])) for key in ("paper_name", "name"))
    colour = alt.Color(
        "removed:Q",
        title="filters removed",
        scale=alt.Scale(domain=[0, 1], range=["#f4f4f4", COLOURS["removed"]]),
        legend=alt.Legend(type="symbol", format="%", orient="bottom", symbolType="square"),
    )
    axis = alt.Axis(labelAngle=-90, labelOverlap=False, labelFontSize=9 if len(layers) > 40 else 11)
    tips = ["name:N", "layer:N", percent_tip("removed")]
    size = {"width": 620, "height": 26 * len(names)}
    return (
        alt.Chart(shares)
        .mark_rect(stroke="white", strokeWidth=0.5)
        .encode(
            x=alt.X("paper_name:N", sort=layers, title="layer, front to back", axis=axis),
            y=alt.Y("name:N", sort=names, title=None),
            color=colour,
            tooltip=tips,
        )
        .properties(
            **size,
            title="Where they differ, layer by layer",
            description=described.plan_shares(shares),
        )
    )
