"""Measured time beside multiply-adds."""

import threading

import ipywidgets as widgets
import pandas as pd

from prunelab import charts
from prunelab.lab.jobs import Job, JobBar, Report
from prunelab.lab.live import live, table
from prunelab.lab.state import State
from prunelab.lab.tabs.view import View
from prunelab.measure import measure_latency
from prunelab.pruning import PruningPlan, prune


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
        self.bar = JobBar(
            self.job,
            "Measure",
            help="both networks in turns, on this machine",
            options=(self.batch,),
        )
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
        found = measure_latency(
            models, shape, device=device, batch=self.batch.value, on_progress=report
        )
        if self.state.leaves(network, plan):
            self._show(found, plan)
        after = found.set_index("model").loc["pruned"]
        time, flops = after["time_left"], after["flops_left"]
        return f"{time:.1%} of the time at {flops:.1%} of the multiply-adds."

    def _show(self, found: pd.DataFrame, plan: PruningPlan) -> None:
        self._shown, self.chart.children = plan, (live(charts.latency(found)),)
        names = {
            "model": "network",
            "batch": "images at once",
            "median_ms": "median ms",
            "low_ms": "from (quartile)",
            "high_ms": "to",
            "flops": "multiply-adds",
            "unaligned": "unaligned widths",
        }
        self.text.value = table(found[list(names)].rename(columns=names))
