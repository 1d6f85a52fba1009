"""How much each layer can lose, measured when it is asked for."""

import threading
from typing import Any

import altair as alt
import ipywidgets as widgets
import pandas as pd

from prunelab import charts
from prunelab.lab.jobs import Job, JobBar
from prunelab.lab.live import live, move, redraw, table
from prunelab.lab.state import State
from prunelab.lab.tabs.view import View
from prunelab.measure import level_ratios, measure_sensitivity
from prunelab.utils.progress import Report

AT_ONCE = 100  # images; the curves are drawn after each so many
FEW = 24  # curves that can be told apart
EACH_STAGE, EVERY_LAYER, THIS_LAYER = "each stage", "every layer", "this layer"
STAGES, MAP = "stages", "all layers, as a map"


class Sensitivity(View):
    """How much each layer can lose: a handle on each curve sets its ratio, and so does a click."""

    title = "Sensitivity"
    seen = (
        "how the accuracy falls as more filters of a layer or stage are removed, a curve for "
        "each, with a handle on each curve at the ratio that is chosen"
    )

    def __init__(self, state: State, desk: threading.Lock) -> None:
        super().__init__(state)
        self.what = widgets.Dropdown(
            options=[EACH_STAGE, EVERY_LAYER, THIS_LAYER],
            tooltip="what is pruned alone",
            layout={"width": "120px"},
        )
        self.images = widgets.BoundedIntText(
            500,
            min=1,
            max=10**7,
            description="images",
            tooltip="validation images, first a few, then more: what is known is kept",
            layout={"width": "130px"},
            style={"description_width": "initial"},
        )
        self.job = Job(self._measure, desk)
        self.bar = JobBar(
            self.job,
            "Measure",
            help="prune each alone, at nine ratios",
            unit="networks × batches",
            options=(self.what, self.images),
        )
        self.shown = widgets.Dropdown(
            description="show", layout={"width": "260px"}, style={"description_width": "initial"}
        )
        self.shown.observe(self._pick_shown, "value")
        self.text = widgets.HTML()
        self.chart: alt.JupyterChart | None = None
        self._drawn: tuple[pd.DataFrame, str] | None = None

    def build(self) -> None:
        self.chart = self._drawn = None
        if not self.job.running:
            self.job.message = ""  # of another network
        self.fill(self.bar, self.text)

    def refresh(self) -> None:
        measured = self.state.measured
        if measured is None:
            self.build()
            self.text.value = (
                "Nothing is measured yet. <b>Measure</b> prunes each layer or stage alone and "
                "counts the correct predictions on validation images, without retraining."
            )
            return
        self._offer(measured)
        shown = str(self.shown.value)
        # a chart that is drawn anew lets go of the handle that a hand holds
        if self._drawn is None or self._drawn[1] != shown or not self._drawn[0].equals(measured):
            self._drawn = measured, shown
            self._draw(self._select(measured, shown))
        if self.chart is not None:
            move(self.chart, at=self._place(self._select(measured, shown)))

    def _offer(self, measured: pd.DataFrame) -> None:
        """What can be shown of what was measured: stages, the layers of one, all as a map."""
        layers = measured[~measured["layer"].isin(self.state.graph.stages)]
        options = [STAGES] if len(layers) < len(measured) else []
        options += [f"layers of {stage}" for stage in dict.fromkeys(layers["stage"])]
        options += [MAP] if len(set(layers["layer"])) > 1 else []
        if list(self.shown.options) != options:
            before = self.shown.value
            few = layers["layer"].nunique() <= FEW
            self.shown.options = options
            self.shown.value = before if before in options else options[0 if few else -1]

    def _select(self, measured: pd.DataFrame, shown: str) -> pd.DataFrame:
        of_stages = measured["layer"].isin(self.state.graph.stages)
        if shown == STAGES:
            found = measured[of_stages]
        elif shown == MAP:
            found = measured[~of_stages]
        else:
            found = measured[~of_stages & (measured["stage"] == shown.removeprefix("layers of "))]
        found.attrs = measured.attrs
        return found

    def _place(self, selected: pd.DataFrame) -> dict[str, Any]:
        """Where the handles are: at what is really removed."""
        state, ratios = self.state, {}
        for name in selected["layer"].unique():
            if name in state.graph.stages:
                groups = state.graph.select(name)
                gone = sum(state.removed(group.leader) for group in groups)
                ratios[name] = gone / sum(group.size for group in groups)
            else:
                group = state.graph.group_of(name)
                ratios[name] = state.removed(group.leader) / group.size
        return charts.place_handles(selected, ratios)

    def _draw(self, selected: pd.DataFrame) -> None:
        signals = None
        if self._drawn is not None and self._drawn[1] == MAP:
            chart = charts.sensitivity_map(selected, self._place(selected))
            how = "A click on a field gives that layer that ratio."
        else:
            signals = charts.HANDLES
            chart = charts.sensitivity_handles(selected, self._place(selected))
            how = (
                "Drag a handle, or click a point: that layer or stage takes its ratio. Drag the "
                "dashed line: each of these goes as far as its curve stays above it."
            )
        if self.chart is None or ("dragged" in self.chart._params) != bool(signals):
            self.chart = live(chart, signals)
        else:
            redraw(self.chart, chart, signals)
        self.chart.selections.observe(self._picked, "picked")
        if signals:
            self.chart.params.observe(self._dragged, "dragged")
            self.chart.params.observe(self._levelled, "level")
        self.text.value = how + table(_name_accuracies(selected), "Table")
        self.fill(self.bar, self.shown, self.chart, self.text)

    def _pick_shown(self, _: object) -> None:
        if self._seen and self.state.measured is not None:
            self.refresh()

    def _measure(self, report: Report) -> str:
        state, network = self.state, self.state.network
        which = {name: state.choice[name] for name in ("criterion", "order")}
        layers: list[str] | None = None
        if self.what.value == EACH_STAGE:
            layers = [stage for stage in state.graph.stages if state.graph.select(stage)]
        elif self.what.value == THIS_LAYER:
            layers = [state.layer]
        show = STAGES if self.what.value == EACH_STAGE else MAP
        if self.what.value == THIS_LAYER:
            show = f"layers of {state.graph.group_of(state.layer).stage}"
        images = min(self.images.value, len(network.data.val))

        def note(found: pd.DataFrame) -> None:
            with state.lock:
                if state.network is network:
                    state.add_curves(found, **which)
                    if show in self.shown.options:
                        self.shown.value = show

        found = measure_sensitivity(
            network.model,
            network.data,
            layers=layers,
            images=images,
            store=network.folder.parent / "sensitivity.jsonl",
            batch_size=AT_ONCE,
            on_progress=report,
            on_curves=note,
            **which,
        )
        note(found)
        return f"{found['layer'].nunique()} curves on {images:,} validation images."

    def _picked(self, change: dict[str, Any]) -> None:
        for point in change["new"].value:
            take_point(self.state, point)

    def _dragged(self, change: dict[str, Any]) -> None:
        point = change["new"]
        if point and point.get("layer"):
            take_point(self.state, {**point, "ratio": round(point["ratio"], 3)})

    def _levelled(self, change: dict[str, Any]) -> None:
        if self._drawn is None or change["old"] is None:
            return
        selected = self._select(*self._drawn)
        state = self.state
        ratios = level_ratios(selected, float(change["new"]))
        own = {k: v for k, v in state.ratios.items() if k not in ratios}
        state.ask_ratios({**own, **ratios}, "level")


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
