"""Charts of accuracy: against filters removed, and epoch by epoch."""

from collections.abc import Mapping

import altair as alt
import pandas as pd

from prunelab.charts.style import KIND_COLOURS, PERCENT, WHOLE, Chart, percent_tip

SPLITS = {"train_accuracy": "train", "val_accuracy": "validation", "test_accuracy": "test"}
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

    legend = alt.Legend(symbolOpacity=1)
    colour = alt.Color("paper_name:N", title="pruned alone", sort=None, legend=legend)
    if panels:
        ramp = alt.Scale(scheme="viridis")
        colour = alt.Color("position:O", title="layer of the stage", scale=ramp, legend=legend)
    base = alt.Chart(frame).encode(
        x=alt.X("share:Q", title="filters removed", axis=PERCENT),
        color=colour,
        detail="layer:N",
    )
    low = alt.Y("accuracy_low:Q", scale=WHOLE)
    band = base.mark_area(opacity=0.15).encode(y=low, y2="accuracy_high:Q")
    y = alt.Y("accuracy:Q", title="accuracy without retraining", axis=PERCENT, scale=WHOLE)
    lines = base.mark_line().encode(y=y)
    shown = ["paper_name:N", "layer:N", "removed:Q", "filters:Q", "correct:Q", "total:Q"]
    tips = [
        percent_tip("accuracy"),
        percent_tip("accuracy_low", "95 % low"),
        percent_tip("accuracy_high", "95 % high"),
    ]
    picked = alt.selection_point(
        name="picked", fields=["layer", "ratio"], toggle=False, clear=False
    )
    points = base.mark_point(filled=True, size=40).encode(y=y, tooltip=[*shown, *tips])
    chart = alt.layer(band, lines, points.add_params(picked))
    title = alt.Title("Sensitivity: each layer pruned alone", subtitle=_describe_measured(measured))
    if not panels:
        return chart.properties(width=420, height=240, title=title)
    return (
        chart.properties(width=260, height=190)
        .facet(facet=alt.Facet("stage:N", title=None), columns=3)
        .properties(title=title)
    )


def _describe_measured(measured: pd.DataFrame) -> list[str]:
    lines = [f"{int(measured['total'].max()):,} images; {BANDS}"]
    refused = list(measured.attrs.get("refused", {}))
    if refused:
        more = f" and {len(refused) - 4} more" if len(refused) > 4 else ""
        lines.append(f"cannot be pruned, so not measured: {', '.join(refused[:4])}{more}")
    return lines


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

    Example:
        >>> charts.compare_sensitivity({"smallest": first, "largest": second})
    """
    frame = pd.concat([found.assign(way=name) for name, found in measured.items()])
    frame = frame.assign(share=frame["removed"] / frame["filters"])
    accuracies = ["accuracy", "accuracy_low", "accuracy_high"]
    columns = ["layer", "way", "share", *accuracies, "correct", "total"]
    base = alt.Chart(frame[columns].round(4)).encode(
        x=alt.X("share:Q", title="filters removed", axis=PERCENT),
        color=alt.Color("way:N", title=legend, sort=None, legend=alt.Legend(symbolOpacity=1)),
    )
    line = base.mark_line(point=alt.OverlayMarkDef(size=25)).encode(
        y=alt.Y("accuracy:Q", title="accuracy", axis=PERCENT, scale=WHOLE),
        tooltip=["layer:N", "way:N", percent_tip("accuracy"), "correct:Q", "total:Q"],
    )
    marks, subtitle = [line], f"{int(frame['total'].max()):,} images"
    if len(measured) <= 3:
        low = alt.Y("accuracy_low:Q", scale=WHOLE)
        marks.insert(0, base.mark_area(opacity=0.12).encode(y=low, y2="accuracy_high:Q"))
        subtitle += f"; {BANDS}"
    panels = alt.Facet("layer:N", title=None, sort=list(dict.fromkeys(frame["layer"])))
    return (
        alt.layer(*marks)
        .properties(width=210, height=180)
        .facet(facet=panels, columns=3)
        .properties(title=alt.Title(title, subtitle=subtitle))
    )


def learning_curves(history: pd.DataFrame) -> alt.FacetChart:
    """Accuracy by epoch on train, validation and test, a panel for each training.

    Args:
        history: `Experiment.history`, or the frame of `train` with a column kind: what was trained.
            With a column step, the epochs of the steps of a schedule follow one another.

    Returns:
        A line for each split.

    Example:
        >>> charts.learning_curves(train(model, data, settings).assign(kind="baseline"))
    """
    if "step" in history:  # each step of a schedule goes on where the one before ended
        history = history.assign(epoch=history.groupby("kind").cumcount() + 1)
    splits = list(SPLITS.values())
    named = history.rename(columns=SPLITS)
    long = named.melt(["kind", "epoch"], splits, "split", "accuracy").round(4)
    last = int(history["epoch"].max())
    ticks = list(range(1, last + 1, -(-last // 8)))
    legend = alt.Legend(orient="top")
    return (
        alt.Chart(long)
        .mark_line(point=alt.OverlayMarkDef(size=20))
        .encode(
            x=alt.X("epoch:Q", axis=alt.Axis(values=ticks, format="d")),
            y=alt.Y("accuracy:Q", axis=PERCENT, scale=WHOLE),
            color=alt.Color("split:N", sort=splits, title=None, legend=legend),
            tooltip=["kind:N", "epoch:Q", "split:N", percent_tip("accuracy")],
        )
        .properties(width=260, height=190)
        .facet(facet=alt.Facet("kind:N", sort=list(KIND_COLOURS), title=None), columns=3)
        .properties(title="Learning curves")
    )
