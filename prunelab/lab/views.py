"""The right side: what is seen of the choice, in tabs. A tab is drawn when it is looked at."""

import threading
from contextlib import suppress
from html import escape
from typing import Any

import altair as alt
import ipywidgets as widgets
import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from prunelab import charts
from prunelab.lab.jobs import Job, JobBar, Report
from prunelab.lab.state import State
from prunelab.latency import measure_latency
from prunelab.plan import PruningPlan
from prunelab.sensitivity import measure_sensitivity
from prunelab.surgery import prune


def live(chart: Any) -> alt.JupyterChart:
    """A chart that Python can go on moving, by `move`."""
    with suppress(ImportError):  # without vl-convert the chart loads its code from the network
        alt.JupyterChart.enable_offline()
    made = alt.JupyterChart(chart, embed_options={"actions": False})
    made.moved = {}
    made.observe(lambda _: move(made), "_params")  # a page that draws the chart anew begins with its first values
    return made


def move(chart: alt.JupyterChart, **values: Any) -> None:
    """Give a live chart's parameters these values, and keep them: what it drew stays, and only marks move."""
    chart.moved.update(values)
    for name, value in chart.moved.items():
        if getattr(chart.params, name) != value:
            setattr(chart.params, name, value)


def table(frame: pd.DataFrame, summary: str = "") -> str:
    """A frame as HTML, numbers to the right; with a summary, folded."""
    cell = "padding:1px 10px 1px 0;line-height:1.5;white-space:nowrap"

    def show(value: Any, tag: str = "td") -> str:
        number = isinstance(value, int | float | np.number)
        text = f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if number else escape(str(value))
        return f'<{tag} style="{cell};text-align:{"right" if number else "left"}">{text}</{tag}>'

    right = [is_numeric_dtype(frame[name]) for name in frame]
    head = "".join(
        f'<th style="{cell};text-align:{"right" if r else "left"}">{escape(str(name))}</th>'
        for name, r in zip(frame, right, strict=True)
    )
    rows = "".join("<tr>" + "".join(map(show, row)) + "</tr>" for row in frame.itertuples(index=False))
    inner = f'<table style="border-collapse:collapse"><tr>{head}</tr>{rows}</table>'
    box = f'<div style="max-height:300px;overflow:auto">{inner}</div>'
    return f"<details><summary>{escape(summary)}</summary>{box}</details>" if summary else box


class View(widgets.VBox):
    """A tab: `build` for another network, `refresh` for another plan or layer; only when it is looked at."""

    title = ""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state, self._seen, self._stale, self._old = state, False, True, True
        state.observe(self._network_changed, "network")
        state.observe(self._plan_changed, ["plan", "layer", "measured"])

    def look(self, seen: bool) -> None:
        """Whether it is looked at; then it is brought up to date."""
        self._seen = seen
        self._catch_up()

    def _network_changed(self, _: object) -> None:
        self._stale = self._old = True
        self._catch_up()

    def _plan_changed(self, _: object) -> None:
        self._old = True
        self._catch_up()

    def _catch_up(self) -> None:
        if self._seen and self._stale:
            self._stale = False
            self.build()
        if self._seen and self._old:
            self._old = False
            self.refresh()

    def build(self) -> None:
        """Make what this network needs."""

    def refresh(self) -> None:
        """Show the plan and the layer at hand."""


class LayerPicker(widgets.Dropdown):
    """Which layer is looked at."""

    def __init__(self, state: State) -> None:
        super().__init__(description="layer", layout={"width": "420px"}, style={"description_width": "50px"})
        self.state, self._building = state, False
        self.observe(lambda change: self._pick(change["new"]), "value")

    def _pick(self, name: str | None) -> None:
        if name and not self._building:
            self.state.layer = name

    def build(self) -> None:
        shapes = self.state.graph.shapes
        self._building = True  # new options come with a value of their own
        self.options = [(f"{shapes[name].paper_name} · {name}", name) for name in self.state.graph.scored]
        self._building = False
        self.value = self.state.layer

    def refresh(self) -> None:
        self.value = self.state.layer


class Norms(View):
    """Sorted filter norms, the cut of one layer, and the filters of the first one."""

    title = "Norms"

    def build(self) -> None:
        state = self.state
        self.picker = LayerPicker(state)
        self.picker.build()
        self.criterion = state.choice["criterion"]
        ranked = state.rank()
        self.lines = live(charts.norm_lines(ranked, state.layer))
        self.lines.selections.observe(self._picked, "picked")
        shown = charts.describe_norms(state.rank(state.layer), state.layer)
        self.dots = live(charts.layer_norms(shown, int(ranked.groupby("layer").size().max())))
        self.first = state.graph.layers[0]
        self._gone: list[int] | None = None  # what the images show
        self.images = widgets.Image(format="png", layout={"max_width": "720px", "object_fit": "contain"})
        self.caption = widgets.HTML()
        pictures = [self.caption, self.images] if self._weight().ndim == 4 else []
        beside = widgets.HBox([self.lines, self.dots], layout={"flex_flow": "row wrap"})
        self.children = (self.picker, beside, *pictures)

    def refresh(self) -> None:
        if self.state.choice["criterion"] != self.criterion:
            self.build()
        layer = self.state.layer
        self.picker.refresh()
        move(self.lines, chosen=layer)
        move(self.dots, shown=charts.describe_norms(self.state.rank(layer), layer))
        weight = self._weight()
        if weight.ndim == 4:
            gone = self._removed()
            if gone != self._gone:
                self._gone, self.images.value = gone, charts.filter_images(weight, gone)
            paper = self.state.graph.shapes[self.first].paper_name
            less = f", {len(gone)} go (framed in orange, below)" if gone else ", all stay"
            self.caption.value = f"<b>The filters of {paper}</b>, largest norm first: {len(weight)}{less}"

    def _weight(self) -> Any:
        return self.state.graph.filters(self.first)

    def _removed(self) -> list[int]:
        keep, numbers = set(self.state.plan.keep[self.first]), self.state.graph.numbers[self.first].tolist()
        return [i for i, number in enumerate(numbers) if number not in keep]

    def _picked(self, change: dict[str, Any]) -> None:
        for point in change["new"].value:
            self.state.layer = point["layer"]


class Sensitivity(View):
    """How much each layer can lose; a click on a curve takes the ratio that was measured there."""

    title = "Sensitivity"
    WHAT = ("each stage", "every layer", "this layer")

    def __init__(self, state: State, desk: threading.Lock) -> None:
        super().__init__(state)
        self.what = widgets.Dropdown(options=self.WHAT, layout={"width": "120px"}, tooltip="what is pruned alone")
        self.images = widgets.BoundedIntText(
            500, min=1, max=10**7, description="images", layout={"width": "140px"}, style={"description_width": "50px"},
            tooltip="validation images, first a few, then more: what is known is kept",
        )  # fmt: skip
        self.job = Job(self._measure, desk)
        self.bar = JobBar(
            self.job, "Measure", help="prune each alone, at nine ratios", options=(self.what, self.images)
        )
        self.text = widgets.HTML()

    def build(self) -> None:
        self.chart: alt.JupyterChart | None = None
        self._drawn: pd.DataFrame | None = None
        self.children = (self.bar, self.text)

    def refresh(self) -> None:
        measured = self.state.measured
        if measured is None:
            self.build()
            self.text.value = (
                "Nothing is measured yet. <b>Measure</b> prunes each layer or stage alone and counts the right answers "
                "on validation images, without retraining; then a click on a curve sets that ratio."
            )
            return
        if self._drawn is measured:
            return
        self._drawn = measured
        self.text.value = "Click a point: that layer or stage takes its ratio." + table(_accuracies(measured), "Table")
        if self.chart is None:
            self.chart = live(charts.sensitivity(measured))
            self.children = (self.bar, self.chart, self.text)  # type: ignore[assignment]
        else:
            self.chart.chart = charts.sensitivity(measured)
        self.chart.selections.observe(self._picked, "picked")

    def _measure(self, report: Report) -> str:
        state, network = self.state, self.state.network
        which = {name: state.choice[name] for name in ("criterion", "order")}
        layers = {"each stage": [s for s in state.graph.stages if state.graph.select(s)], "every layer": None,
                  "this layer": [state.layer]}[self.what.value]  # fmt: skip
        images = min(self.images.value, len(network.data.val))
        found = measure_sensitivity(
            network.model, network.data, layers=layers, images=images, **which,
            store=state.folder.parent / "sensitivity.jsonl", on_progress=report,
        )  # fmt: skip
        if state.network is network and which.items() <= state.choice.items():
            state.measured = found
        return f"{found['layer'].nunique()} curves on {images:,} validation images."

    def _picked(self, change: dict[str, Any]) -> None:
        for point in change["new"].value:
            take_point(self.state, point)


def take_point(state: State, point: dict[str, Any]) -> None:
    """Take the ratio of a point of a sensitivity curve for its layer or stage."""
    layer, ratio = str(point["layer"]), float(point["ratio"])
    if layer in state.graph.stages:
        state.set_stage(layer, ratio)
    else:
        state.layer = state.graph.group_of(layer).leader
        state.set_ratio(state.layer, ratio)


def _accuracies(measured: pd.DataFrame) -> pd.DataFrame:
    per_cent = measured.assign(**{"accuracy, %": 100 * measured["accuracy"], "ratio, %": 100 * measured["ratio"]})
    return per_cent[["paper_name", "layer", "ratio, %", "removed", "filters", "correct", "total", "accuracy, %"]]


class Cost(View):
    """What each layer costs, before and after."""

    title = "Cost"

    def build(self) -> None:
        self.chart = live(charts.layer_cost(self.state.cost))
        self.text = widgets.HTML()
        self.children = (self.chart, self.text)

    def refresh(self) -> None:
        cost = self.state.cost
        move(self.chart, left=charts.cost_left(cost))
        self.text.value = table(cost, "Table: a row for each conv and linear layer")


class Coupling(View):
    """What goes with a layer's filters, who leads, and why."""

    title = "Coupling"

    def build(self) -> None:
        self.picker = LayerPicker(self.state)
        self.picker.build()
        self.chart = live(charts.coupling(self.state.graph.coupled(self.state.layer)))
        self.text = widgets.HTML()
        self.children = (self.picker, self.chart, self.text)
        self._drawn = self.state.layer

    def refresh(self) -> None:
        self.picker.refresh()
        coupled = self.state.graph.coupled(self.state.layer)
        if self._drawn != self.state.layer:
            self._drawn = self.state.layer
            self.chart.chart = charts.coupling(coupled)
        self.text.value = describe_coupling(self.state) + table(coupled)


def describe_coupling(state: State) -> str:
    """Who leads and whether the group can lose filters, as HTML."""
    group, shapes = state.graph.group_of(state.layer), state.graph.shapes
    names = [f"{shapes[name].paper_name} ({escape(name)})" for name in group.layers]
    leader = f"<b>{shapes[group.leader].paper_name}</b> ({escape(group.leader)})"
    what = (
        f"{leader} leads: its norms decide for {len(names)} tied layers" if len(names) > 1 else f"{leader} goes alone"
    )
    verdict = "its filters can go" if group.prunable else f"<b>they stay</b>: {escape(group.reason)}"
    return f"<p>{what}; {verdict}.</p>"


class Time(View):
    """Measured time beside multiply-adds."""

    title = "Time"

    def __init__(self, state: State, desk: threading.Lock) -> None:
        super().__init__(state)
        self.batch = widgets.BoundedIntText(
            32,
            min=1,
            max=1024,
            description="images at once",
            layout={"width": "170px"},
            style={"description_width": "100px"},
        )
        self.job = Job(self._measure, desk)
        self.bar = JobBar(self.job, "Measure", help="both networks in turns, on this machine", options=(self.batch,))
        self.text, self.chart = widgets.HTML(), widgets.VBox()
        self.children = (self.bar, self.chart, self.text)

    def build(self) -> None:
        self._shown: PruningPlan | None = None  # whose time is shown
        self.chart.children = ()
        self.text.value = "Fewer multiply-adds are not always less time: <b>Measure</b> it here."

    def refresh(self) -> None:
        if self._shown is not None and self._shown.keep != self.state.plan.keep:
            self.build()  # it was of another choice

    def _measure(self, report: Report) -> str:
        network, plan = self.state.network, self.state.plan
        models = {"whole": network.model, "pruned": prune(network.model, plan, graph=network.graph)}
        shape, device = network.data.image_shape[1:], network.data.device
        found = measure_latency(models, shape, device=device, batch=self.batch.value, on_progress=report)
        if self.state.leaves(network, plan):
            self._show(found, plan)
        after = found.set_index("model").loc["pruned"]
        return f"{after['time_left']:.1%} of the time at {after['flops_left']:.1%} of the multiply-adds."

    def _show(self, found: pd.DataFrame, plan: PruningPlan) -> None:
        self._shown, self.chart.children = plan, (live(charts.latency(found)),)
        shown = found[["model", "batch", "median_ms", "low_ms", "high_ms", "flops", "unaligned"]]
        names = {"model": "network", "batch": "images at once", "median_ms": "median ms", "low_ms": "from (quartile)",
                 "high_ms": "to", "flops": "multiply-adds", "unaligned": "unaligned widths"}  # fmt: skip
        self.text.value = table(shown.rename(columns=names))


class Tabs(widgets.Tab):
    """The views; the one in front is kept up to date."""

    def __init__(self, state: State, desk: threading.Lock) -> None:
        self.views: tuple[View, ...] = (
            Norms(state), Sensitivity(state, desk), Cost(state), Coupling(state), Time(state, desk)
        )  # fmt: skip
        super().__init__(list(self.views), layout={"flex": "1 1 640px", "min_width": "640px"})
        self.titles = tuple(view.title for view in self.views)
        self.observe(self._turn, "selected_index")
        self.selected_index = 0
        self._turn()

    def _turn(self, _: object = None) -> None:
        for i, view in enumerate(self.views):
            view.look(i == self.selected_index)
