"""How much each layer can lose, measured when it is asked for."""

import threading
from typing import Any

import altair as alt
import ipywidgets as widgets
import pandas as pd

from prunelab import charts
from prunelab.lab.jobs import Job, JobBar, Report
from prunelab.lab.live import live, table
from prunelab.lab.state import State
from prunelab.lab.tabs.view import View
from prunelab.measure import measure_sensitivity


class Sensitivity(View):
    """How much each layer can lose; a click on a curve takes the ratio that was measured there."""

    title = "Sensitivity"
    EACH_STAGE, EVERY_LAYER, THIS_LAYER = "each stage", "every layer", "this layer"

    def __init__(self, state: State, desk: threading.Lock) -> None:
        super().__init__(state)
        self.what = widgets.Dropdown(
            options=[self.EACH_STAGE, self.EVERY_LAYER, self.THIS_LAYER],
            tooltip="what is pruned alone",
            layout={"width": "120px"},
        )
        self.images = widgets.BoundedIntText(
            500,
            min=1,
            max=10**7,
            description="images",
            tooltip="validation images, first a few, then more: what is known is kept",
            layout={"width": "140px"},
            style={"description_width": "50px"},
        )
        self.job = Job(self._measure, desk)
        self.bar = JobBar(
            self.job,
            "Measure",
            help="prune each alone, at nine ratios",
            options=(self.what, self.images),
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
                "Nothing is measured yet. <b>Measure</b> prunes each layer or stage alone and "
                "counts the correct predictions on validation images, without retraining; then a "
                "click on a curve sets that ratio."
            )
            return
        if self._drawn is measured:
            return
        self._drawn = measured
        folded = table(_name_accuracies(measured), "Table")
        self.text.value = f"Click a point: that layer or stage takes its ratio.{folded}"
        if self.chart is None:
            self.chart = live(charts.sensitivity(measured))
            self.children = (self.bar, self.chart, self.text)  # type: ignore[assignment]
        else:
            self.chart.chart = charts.sensitivity(measured)
        self.chart.selections.observe(self._picked, "picked")

    def _measure(self, report: Report) -> str:
        state, network = self.state, self.state.network
        which = {name: state.choice[name] for name in ("criterion", "order")}
        layers: list[str] | None = None
        if self.what.value == self.EACH_STAGE:
            layers = [stage for stage in state.graph.stages if state.graph.select(stage)]
        elif self.what.value == self.THIS_LAYER:
            layers = [state.layer]
        images = min(self.images.value, len(network.data.val))
        found = measure_sensitivity(
            network.model,
            network.data,
            layers=layers,
            images=images,
            store=state.folder.parent / "sensitivity.jsonl",
            on_progress=report,
            **which,
        )
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


def _name_accuracies(measured: pd.DataFrame) -> pd.DataFrame:
    """`measure_sensitivity` for reading: fractions in per cent."""
    named = measured[["paper_name", "layer", "removed", "filters", "correct", "total"]].copy()
    named.insert(2, "ratio, %", 100 * measured["ratio"])
    named["accuracy, %"] = 100 * measured["accuracy"]
    return named
