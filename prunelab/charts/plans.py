"""Charts of choices: what goes with a layer's filters, and what the plans of two criteria share."""

import altair as alt
import pandas as pd

from prunelab.charts.style import COLOURS, Chart

ROLES = {
    "leader": "leads: its norms decide",
    "tied": "tied: loses the same filters",
    "follows": "norm: loses entries",
    "reads": "reads: loses input kernels",
}
ROLE_COLOURS = ["#000000", COLOURS["removed"], COLOURS["fixed"], "#E69F00"]


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
    return chart.properties(width=alt.Step(step), height=90, title=title)


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
    scale = alt.Scale(domain=[0, 1], range=["#ffffff", COLOURS["kept"]], interpolate="rgb")
    squares = base.mark_rect().encode(
        color=alt.Color("overlap:Q", scale=scale, title="shared", legend=alt.Legend(format="%"))
    )
    text = base.mark_text(fontSize=11).encode(
        text=alt.Text("overlap:Q", format=".0%"),
        color=alt.condition("datum.overlap > 0.6", alt.value("white"), alt.value("black")),
    )
    title = alt.Title(
        "Do criteria choose the same filters?",
        subtitle=f"of the filters that both remove, mean of {compared['layer'].nunique()} layers",
    )
    side = 46 * len(names)
    return alt.layer(squares, text).properties(width=side, height=side, title=title)
