"""Pictures: each one a function of a tidy frame that returns an Altair chart.

`charts.enable()` makes them show without a network: live in JupyterLab, as a picture on code hosts.
"""

import base64
import csv
import io
from collections.abc import Collection, Mapping
from typing import Any

import altair as alt
import pandas as pd
import torch
from torch import Tensor

Chart = alt.LayerChart | alt.FacetChart

# Okabe and Ito's colours, which colour-blind people tell apart; they mean the same in every chart
COLOURS = {"kept": "#0072B2", "removed": "#D55E00", "fixed": "#999999", "before": "#999999", "after": "#0072B2"}
MEASURES = {"flops": "multiply-adds", "params": "parameters", "memory": "bytes of maps"}
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
    text = "norms of a layer" if isinstance(text, dict) else text  # an expression
    # JupyterLab bundles Vega-Lite 5, under this name
    live = _fold_data({**spec, "$schema": "https://vega.github.io/schema/vega-lite/v5.6.1.json"})
    shown: dict[str, Any] = {"application/vnd.vegalite.v5+json": live, "text/plain": f"<chart: {text}>"}
    picture = render_png(spec)
    return shown if picture is None else {**shown, "image/png": base64.b64encode(picture).decode()}


def _fold_data(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with each data set as CSV in one text: a notebook would store it a line for each number."""
    folded = {name: _as_csv(rows) for name, rows in spec.get("datasets", {}).items()}

    def point(part: Any) -> Any:
        if isinstance(part, list):
            return [point(item) for item in part]
        if not isinstance(part, dict):
            return part
        named = part.keys() == {"name"} and part["name"] in folded
        return {**part, "format": {"type": "csv"}} if named else {key: point(value) for key, value in part.items()}

    return {**point({key: value for key, value in spec.items() if key != "datasets"}), "datasets": folded}


def _as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def render_png(chart: alt.TopLevelMixin | dict[str, Any], scale: float = 1) -> bytes | None:
    """A chart as a small PNG, or None where vl-convert is not installed."""
    try:
        import vl_convert
    except ModuleNotFoundError:  # a GPU machine that only runs replays
        return None
    from PIL import Image

    spec = chart if isinstance(chart, dict) else chart.to_dict()
    drawn = Image.open(io.BytesIO(vl_convert.vegalite_to_png(spec, scale=scale))).convert("RGB")
    buffer = io.BytesIO()
    drawn.quantize(32).save(buffer, "PNG", optimize=True)  # a quarter of the size, and no visible difference
    return buffer.getvalue()


def filter_norms(ranked: pd.DataFrame, *, columns: int = 3) -> alt.FacetChart:
    """Sorted filter norms, a line for each conv and a panel for each stage, as in Fig. 2(a). `rank_filters` in."""
    fates = ["kept", "removed", "fixed"]
    names = {"kept": "kept", "removed": "removed", "fixed": "must stay"}
    scale = alt.Scale(domain=[names[f] for f in fates], range=[COLOURS[f] for f in fates])
    shown = ["paper_name", "stage", "filter", "rank", "share"]
    frame = ranked[shown].round(3).assign(fate=ranked["fate"].map(names))
    base = alt.Chart(frame).encode(
        x=alt.X("rank:Q", title="rank / filters of the layer", axis=alt.Axis(format="%")),
        y=alt.Y("share:Q", title="norm / largest norm", scale=alt.Scale(domain=[0, 1])),
        detail="paper_name:N",
        tooltip=["paper_name:N", "filter:Q", alt.Tooltip("share:Q", format=".3f"), "fate:N"],
    )
    lines = base.mark_line(strokeWidth=1, color="#cccccc")
    points = base.mark_circle(size=22).encode(
        color=alt.Color("fate:N", scale=scale, title="filters", legend=alt.Legend(orient="top")),
        opacity=alt.condition("datum.fate == 'must stay'", alt.value(0.35), alt.value(0.9)),
        order=alt.Order("fate:N", sort="ascending"),
    )
    return (
        alt.layer(lines, points)
        .properties(width=260, height=190)
        .facet(facet=alt.Facet("stage:N", title=None), columns=columns)
        .properties(title=alt.Title("Sorted filter norms, one line for each conv", subtitle="the smallest go first"))
    )


def sensitivity(measured: pd.DataFrame) -> Chart | alt.FacetChart:
    """Accuracy against the filters really removed, a line for each layer, as in Fig. 2(b), with 95 % bands.

    Layers of several stages get a panel for each stage, as in Fig. 6. `measure_sensitivity` in.
    Live: the point that is clicked, its layer and ratio, is in the selection `picked`.
    """
    frame = measured.assign(share=measured["removed"] / measured["filters"]).drop_duplicates(["layer", "removed"])
    frame = frame.round(4)
    stages = len(set(frame["stage"]))
    panels = 1 < stages < len(set(frame["layer"]))
    ramp = alt.Color(
        "position:O", title="layer of the stage", scale=alt.Scale(scheme="viridis"), legend=alt.Legend(symbolOpacity=1)
    )
    plain = alt.Legend(symbolOpacity=1)
    colour = ramp if panels else alt.Color("paper_name:N", title="pruned alone", sort=None, legend=plain)
    order = frame.drop_duplicates("layer").groupby("stage").cumcount() + 1  # first, second, … layer of its stage
    frame["position"] = frame["layer"].map(dict(zip(frame.drop_duplicates("layer")["layer"], order, strict=True)))
    base = alt.Chart(frame).encode(
        x=alt.X("share:Q", title="filters removed", axis=alt.Axis(format="%")),
        color=colour,
        detail="layer:N",
    )
    axis = alt.Axis(format="%")
    scale = alt.Scale(domain=[0, 1])
    y = alt.Y("accuracy:Q", title="accuracy without retraining", axis=axis, scale=scale)
    low, high = (alt.Tooltip(f"accuracy_{end}:Q", title=f"95 % {end}", format=".1%") for end in ("low", "high"))
    shown = ["paper_name:N", "layer:N", "removed:Q", "filters:Q", "correct:Q", "total:Q"]
    band = base.mark_area(opacity=0.15).encode(y=alt.Y("accuracy_low:Q", scale=scale), y2="accuracy_high:Q")
    points = (
        base.mark_point(filled=True, size=40)
        .encode(y=y, tooltip=[*shown, alt.Tooltip("accuracy:Q", format=".1%"), low, high])
        .add_params(alt.selection_point(name="picked", fields=["layer", "ratio"], toggle=False, clear=False))
    )
    chart = alt.layer(band, base.mark_line().encode(y=y), points)
    title = alt.Title("Sensitivity: each layer pruned alone", subtitle=_describe_measured(measured))
    if not panels:
        return chart.properties(width=420, height=240, title=title)
    return (
        chart.properties(width=260, height=190)
        .facet(facet=alt.Facet("stage:N", title=None), columns=3)
        .properties(title=title)
    )


def compare_sensitivity(
    measured: Mapping[str, pd.DataFrame], *, legend: str = "which go", title: str = "Which filters go"
) -> alt.FacetChart:
    """Several ways side by side, a panel for each layer or stage and a line for each way (Fig. 2(c), 8, 9).

    {name: frame of `measure_sensitivity` or `measure_retrained`} in. legend: what tells the ways apart.
    """
    frame = pd.concat([found.assign(way=name) for name, found in measured.items()])
    frame = frame.assign(share=frame["removed"] / frame["filters"])
    axis, scale = alt.Axis(format="%"), alt.Scale(domain=[0, 1])
    columns = ["layer", "way", "share", "accuracy", "accuracy_low", "accuracy_high", "correct", "total"]
    base = alt.Chart(frame[columns].round(4)).encode(
        x=alt.X("share:Q", title="filters removed", axis=axis),
        color=alt.Color("way:N", title=legend, sort=None, legend=alt.Legend(symbolOpacity=1)),
    )
    band = base.mark_area(opacity=0.12).encode(y=alt.Y("accuracy_low:Q", scale=scale), y2="accuracy_high:Q")
    line = base.mark_line(point=alt.OverlayMarkDef(size=25)).encode(
        y=alt.Y("accuracy:Q", title="accuracy", axis=axis, scale=scale),
        tooltip=["layer:N", "way:N", alt.Tooltip("accuracy:Q", format=".1%"), "correct:Q", "total:Q"],
    )
    few = len(measured) <= 3
    total = f"{int(frame['total'].max()):,} images" + "; bands hold the accuracy 95 times in 100" * few
    return (
        alt.layer(*[band] * few, line)
        .properties(width=210, height=180)
        .facet(facet=alt.Facet("layer:N", title=None, sort=list(dict.fromkeys(frame["layer"]))), columns=3)
        .properties(title=alt.Title(title, subtitle=total))
    )


def _describe_measured(measured: pd.DataFrame) -> list[str]:
    refused = measured.attrs.get("refused", {})
    more = f" and {len(refused) - 4} more" if len(refused) > 4 else ""
    lines = [f"{int(measured['total'].max()):,} images; bands hold the accuracy 95 times in 100"]
    return lines + [f"cannot be pruned, so not measured: {', '.join([*refused][:4])}{more}"] * bool(refused)


def overlap(compared: pd.DataFrame) -> Chart:
    """How much of what two criteria remove is the same, averaged over layers. `compare_plans` in."""
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
    subtitle = f"of the filters that both remove, mean of {compared['layer'].nunique()} layers"
    side = 46 * len(names)
    return alt.layer(squares, text).properties(
        width=side, height=side, title=alt.Title("Do criteria choose the same filters?", subtitle=subtitle)
    )


def choices(compared: pd.DataFrame) -> Chart:
    """Accuracy against the multiply-adds that are left, for several choices of ratios. `compare_ratios` in."""
    shown = ["choice", "flops_left", "params_left", "accuracy", "accuracy_low", "accuracy_high"]
    base = alt.Chart(compared[shown]).encode(  # `predicted` may be empty, which JSON has no number for
        x=alt.X("flops_left:Q", title="multiply-adds left", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("choice:N", title="ratios", sort=None),
    )
    axis, scale = alt.Axis(format="%"), alt.Scale(domain=[0, 1])
    bars = base.mark_rule().encode(y=alt.Y("accuracy_low:Q", scale=scale), y2="accuracy_high:Q")
    points = base.mark_point(filled=True, size=80).encode(
        y=alt.Y("accuracy:Q", title="accuracy, not retrained", axis=axis, scale=scale),
        tooltip=[
            "choice:N",
            *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("accuracy", "flops_left", "params_left")),
        ],
    )
    lines = base.mark_line(strokeDash=[4, 3]).encode(y="accuracy:Q")
    title = alt.Title("What the same budget leaves", subtitle="bars hold the accuracy 95 times in 100")
    return alt.layer(lines, bars, points).properties(width=420, height=240, title=title)


def latency(measured: pd.DataFrame) -> alt.FacetChart:
    """The time that is left against the multiply-adds that are left, by batch size and format.

    `time_recipes` or `measure_latency` in.

    On the line, time falls as multiply-adds do.
    """
    colour = alt.Color("recipe:N", title="recipe") if "recipe" in measured else alt.value(COLOURS["after"])
    images = measured["batch"].map(lambda n: "one image" if n == 1 else f"{n} images at once")
    frame = measured.assign(images=images + ", " + measured["format"])
    names = list(dict.fromkeys(frame["model"]))
    most = max(1.0, float(frame["time_left"].max()))
    least = min(float(frame["time_left"].min()), float(frame["flops_left"].min()))
    scale, axis = (
        alt.Scale(domain=[round(least - 0.1, 1), round(most + 0.05, 1)], nice=False),
        alt.Axis(format="%", tickCount=4),
    )
    x = alt.X("flops_left:Q", title="multiply-adds left", scale=scale, axis=axis)
    base = alt.Chart(frame)
    line = (
        base.transform_calculate(at="datum.flops_left")
        .mark_line(color="#999999", strokeDash=[4, 3])
        .encode(x=x, y=alt.Y("at:Q", scale=scale, axis=axis), detail="images:N")
    )
    points = base.mark_point(size=90, strokeWidth=2.5).encode(
        x=x,
        y=alt.Y("time_left:Q", title="measured time left", scale=scale, axis=axis),
        color=colour,
        shape=alt.Shape("model:N", sort=names, title="network"),
        tooltip=[
            *(["recipe:N"] if "recipe" in measured else []),
            "model:N",
            "batch:Q",
            *(alt.Tooltip(f"{name}:Q", format=".1f") for name in ("median_ms", "low_ms", "high_ms")),
            *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("time_left", "flops_left")),
            alt.Tooltip("unaligned:Q", title="widths not multiples of 8"),
        ],
    )
    order = list(dict.fromkeys(frame.sort_values(["batch", "format"], ascending=[True, False])["images"]))
    subtitle = "on the dashed line, time falls as they do"
    if "device" in frame:
        subtitle = f"on {frame['device'].iloc[0]}, {frame['threads'].iloc[0]} threads; {subtitle}"
    return (
        alt.layer(line, points)
        .properties(width=300, height=240)
        .facet(facet=alt.Facet("images:N", sort=order, title=None), columns=2)
        .properties(title=alt.Title("Does the time fall as the multiply-adds do?", subtitle=subtitle))
    )


def learning_curves(history: pd.DataFrame) -> alt.FacetChart:
    """Accuracy by epoch on train, validation and test, a panel for each training. `Experiment.history` in."""
    columns = {"train_accuracy": "train", "val_accuracy": "validation", "test_accuracy": "test"}
    if "step" in history:  # each step of a schedule goes on where the one before ended
        history = history.assign(epoch=history.groupby("kind").cumcount() + 1)
    long = history.rename(columns=columns).melt(["kind", "epoch"], list(columns.values()), "split", "accuracy").round(4)
    last = int(history["epoch"].max())
    ticks = list(range(1, last + 1, -(-last // 8)))
    return (
        alt.Chart(long)
        .mark_line(point=alt.OverlayMarkDef(size=20))
        .encode(
            x=alt.X("epoch:Q", axis=alt.Axis(values=ticks, format="d")),
            y=alt.Y("accuracy:Q", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("split:N", sort=list(columns.values()), title=None, legend=alt.Legend(orient="top")),
            tooltip=["kind:N", "epoch:Q", "split:N", alt.Tooltip("accuracy:Q", format=".1%")],
        )
        .properties(width=260, height=190)
        .facet(facet=alt.Facet("kind:N", sort=KINDS, title=None), columns=3)
        .properties(title="Learning curves")
    )


def layer_cost(cost: pd.DataFrame) -> alt.VConcatChart:
    """What each layer costs before and after, as bars in forward order. `measure_cost` (or `measure_memory`) in.

    Live: the parameter `left`, {measure: {layer: what is left}}, moves the bars.
    """
    measures = {name: words for name, words in MEASURES.items() if name in cost}
    left = alt.param(name="left", value=cost_left(cost))
    scale = alt.Scale(domain=["before", "after"], range=[COLOURS["before"], COLOURS["after"]])
    width = max(420, min(640, 16 * len(cost)))
    panels = []
    for name, words in measures.items():
        last = name == list(measures)[-1]
        axis = alt.Axis(labelAngle=-60, labelOverlap=True, labels=last, ticks=last)
        base = (
            alt.Chart(cost[["paper_name", "layer", name]])
            .transform_calculate(after=f"left.{name}[datum.layer]", before=f"datum.{name}")
            .transform_fold(["before", "after"], as_=["when", "amount"])
            .encode(
                x=alt.X("paper_name:N", sort=None, title=None, axis=axis),
                y=alt.Y("amount:Q", title=words, axis=alt.Axis(format="~s", tickCount=4), stack=None),
                color=alt.Color("when:N", scale=scale, title=None, legend=alt.Legend(orient="top", symbolOpacity=1)),
                tooltip=["paper_name:N", "layer:N", "when:N", alt.Tooltip("amount:Q", title=words, format=",")],
            )
        )
        before = base.transform_filter("datum.when == 'before'").mark_bar(opacity=0.6)
        after = base.transform_filter("datum.when == 'after'").mark_bar(width={"band": 0.5})
        panels.append(alt.layer(before, after).properties(width=width, height=200 if len(measures) == 1 else 120))
    title = alt.Title("What each layer costs, for one image", subtitle="front to back; grey before, blue after")
    return alt.vconcat(*panels, title=title, spacing=8).add_params(left)


def cost_left(cost: pd.DataFrame) -> dict[str, dict[str, int]]:
    """What `layer_cost` draws as left: {measure: {layer: number}}."""
    rows = cost.set_index("layer")
    return {name: {str(k): int(v) for k, v in rows[f"{name}_after"].items()} for name in MEASURES if name in rows}


def norm_lines(ranked: pd.DataFrame, layer: str = "") -> Chart:
    """Sorted filter norms of every layer in one picture, as Fig. 2(a) has them. `rank_filters` in.

    layer: the one that is drawn bold. Live: the parameter `chosen` changes it; a line that is clicked is in the
    selection `picked`.
    """
    layers = list(dict.fromkeys(ranked["layer"]))
    step = (ranked.groupby("layer")["rank"].transform("size") / 24).clip(lower=1).round().astype(int)
    place = ranked.groupby("layer").cumcount()
    frame = ranked.loc[(place % step == 0) | (ranked["rank"] == 1), ["layer", "rank", "share"]]
    frame = frame.assign(depth=frame["layer"].map({name: i + 1 for i, name in enumerate(layers)})).round(3)
    chosen = alt.param(name="chosen", value=layer)
    picked = alt.selection_point(name="picked", fields=["layer"], toggle=False, clear=False)
    colour = alt.Color(
        "depth:Q",
        title="conv, front to back",
        scale=alt.Scale(scheme="viridis"),
        legend=alt.Legend(tickMinStep=1, orient="bottom", gradientLength=250),
    )
    base = alt.Chart(frame).encode(
        x=alt.X("rank:Q", title="filters, largest first", axis=alt.Axis(format="%")),
        y=alt.Y("share:Q", title="norm / largest of the layer", scale=alt.Scale(domain=[0, 1])),
        detail="layer:N",
        tooltip=["layer:N", alt.Tooltip("depth:Q", title="conv, front to back")],
    )
    lines = base.mark_line(opacity=0.6, strokeWidth=1.5).encode(color=colour)
    bold = base.mark_line(color="black", strokeWidth=3).transform_filter("datum.layer == chosen")
    easy = base.mark_line(opacity=0, strokeWidth=9).add_params(picked)
    title = alt.Title("Sorted filter norms of every conv", subtitle=["black: the layer beside it"] * bool(layer))
    return alt.layer(lines, bold, easy).properties(width=280, height=220, title=title).add_params(chosen)


def layer_norms(shown: dict[str, Any], most: int) -> Chart:
    """The sorted norms of one layer, kept and removed apart, with the cut. `describe_norms` in.

    most: filters of the widest layer. Live: the parameter `shown` takes what `describe_norms` says of any layer.
    """
    domain = ["kept", "removed", "fixed"]
    scale = alt.Scale(domain=domain, range=[COLOURS[name] for name in domain])
    param = alt.param(name="shown", value=shown)
    points = (
        alt.Chart(alt.sequence(0, most, as_="i"))
        .transform_filter("datum.i < length(shown.scores)")
        .transform_calculate(
            place="datum.i + 1", score="shown.scores[datum.i]", fate="shown.fates[datum.i]",
            filter="shown.filters[datum.i]",
        )
        .mark_point(filled=True, size=36, opacity=0.9)
        .encode(
            x=alt.X("place:Q", title="filters, largest first", axis=alt.Axis(tickMinStep=1), scale=alt.Scale(zero=True)),
            y=alt.Y("score:Q", title="norm", scale=alt.Scale(zero=True)),
            color=alt.Color("fate:N", scale=scale, title=None, legend=alt.Legend(orient="top")),
            shape=alt.Shape("fate:N", scale=alt.Scale(domain=domain, range=["circle", "cross", "square"]), title=None),
            tooltip=["filter:Q", "fate:N", alt.Tooltip("score:Q", format=".3f")],
        )
    )  # fmt: skip
    cut = (
        alt.Chart(alt.sequence(0, 1, as_="i"))
        .transform_calculate(cut="shown.cut")
        .transform_filter("isValid(datum.cut)")
        .mark_rule(color=COLOURS["removed"], strokeDash=[5, 3], strokeWidth=2)
        .encode(x="cut:Q")
    )
    title = alt.Title(alt.ExprRef("shown.title"), fontSize=12)
    return alt.layer(points, cut).properties(width=290, height=240, title=title).add_params(param)


def describe_norms(ranked: pd.DataFrame, layer: str) -> dict[str, Any]:
    """What `layer_norms` draws of a layer: its scores, fates and cut. `rank_filters` in."""
    own = ranked[ranked["layer"] == layer]
    fates = own["fate"].tolist()
    gone = fates.count("removed")
    kept = len(fates) - gone
    plain = gone > 0 and "removed" not in fates[:kept]
    what = "cannot go" if "fixed" in fates else f"{gone} of {len(fates)} go"
    return {
        "title": f"{own['paper_name'].iloc[0]} ({layer}): {what}",
        "scores": [round(float(score), 5) for score in own["score"]],
        "filters": own["filter"].tolist(),
        "fates": fates,
        "cut": kept + 0.5 if plain else None,
    }


def filter_images(weight: Tensor, removed: Collection[int], *, side: int = 24) -> bytes:
    """The filters of a first layer as a PNG: those that stay above, those that go below a line, as in Fig. 5.

    weight: (filters, colours, kh, kw); of 3 colours, in colour, else the mean over them in grey. Each filter is
    stretched to the whole range, so that its pattern shows. side: pixels of one filter.
    """
    from PIL import Image

    pictures = weight.detach().float().cpu()
    pictures = pictures if pictures.shape[1] == 3 else pictures.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    flat = pictures.flatten(1)
    low, high = flat.amin(1)[:, None, None, None], flat.amax(1)[:, None, None, None]
    tiles = ((pictures - low) / (high - low).clamp(min=1e-12) * 255).byte().permute(0, 2, 3, 1).numpy()
    order = torch.argsort(flat.abs().sum(1), descending=True).tolist()
    gone = set(removed)
    rows = [[i for i in order if i not in gone], [i for i in order if i in gone]]
    columns, gap = 24, 6
    step = side + gap
    heights = [-(-len(row) // columns) * step for row in rows]
    sheet = Image.new("RGB", (min(columns, len(order)) * step + gap, sum(heights) + 12), "white")
    top = gap
    for row, height, colour in zip(rows, heights, (COLOURS["kept"], COLOURS["removed"]), strict=True):
        for place, i in enumerate(row):
            x, y = gap + place % columns * step, top + place // columns * step
            sheet.paste(colour, (x - 2, y - 2, x + side + 2, y + side + 2))
            sheet.paste(Image.fromarray(tiles[i]).resize((side, side), Image.Resampling.NEAREST), (x, y))
        top += height + 6
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def coupling(coupled: pd.DataFrame) -> alt.Chart:
    """Where in the network a layer's filters leave a gap: who leads, who is tied, who follows, who reads.

    `graph.coupled(layer)` in.
    """
    roles = {"leader": "leads: its norms decide", "tied": "tied: loses the same filters",
             "follows": "norm: loses entries", "reads": "reads: loses input kernels"}  # fmt: skip
    frame = coupled.assign(part=coupled["role"].map(roles), place=range(1, len(coupled) + 1))
    domain = list(roles.values())
    scale = alt.Scale(domain=domain, range=["#000000", COLOURS["removed"], COLOURS["fixed"], "#E69F00"])
    step = max(4, min(18, 600 // max(len(frame), 1)))
    leader = coupled.loc[coupled["role"] == "leader", "module"]
    return (
        alt.Chart(frame)
        .mark_rect(stroke="white")
        .encode(
            x=alt.X(
                "place:O", title="modules that lose something, front to back", axis=alt.Axis(labels=False, ticks=False)
            ),
            y=alt.Y("part:N", sort=domain, title=None, scale=alt.Scale(domain=domain), axis=alt.Axis(labelLimit=220)),
            color=alt.Color("part:N", scale=scale, legend=None),
            tooltip=["module:N", "paper_name:N", "loses:N", "role:N", "why:N"],
        )
        .properties(
            width=alt.Step(step),
            height=90,
            title=alt.Title(f"What goes with a filter of {leader.iloc[0] if len(leader) else 'this layer'}"),
        )
    )


def tradeoff(rows: pd.DataFrame) -> alt.Chart | alt.FacetChart:
    """Test accuracy against multiply-adds, a point for each network, a panel for each recipe. Rows of replays in."""
    present = [kind for kind in KINDS if kind in set(rows["kind"])]
    colours = alt.Scale(domain=present, range=[KIND_COLOURS[KINDS.index(kind)] for kind in present])
    shapes = alt.Scale(domain=present, range=["circle", "cross", "square", "triangle-up", "diamond"][: len(present)])
    chart = (
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
    )
    title = "What it costs and how well it does"
    if len(set(rows["recipe"])) == 1:
        return chart.properties(width=420, height=240, title=title)
    panels = alt.Facet("panel:N", title=None)
    named = chart.transform_calculate(panel="datum.recipe + ' on ' + datum.dataset").properties(width=260, height=200)
    return named.facet(facet=panels, columns=2).resolve_scale(x="independent").properties(title=title)
