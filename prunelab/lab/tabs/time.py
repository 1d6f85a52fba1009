"""Measured time beside multiply-adds."""

import threading

import ipywidgets as widgets
import pandas as pd

from prunelab import charts
from prunelab.lab.jobs import Job, JobBar
from prunelab.lab.live import live, table
from prunelab.lab.state import State
from prunelab.lab.tabs.view import View
from prunelab.measure import measure_latency
from prunelab.pruning import prune
from prunelab.utils.progress import Report


class Time(View):
    """Measured time beside multiply-adds."""

    title = "Time"
    seen = "the measured time of the whole and the pruned network, beside their multiply-adds"

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
        self.text = widgets.HTML()

    def build(self) -> None:
        self._shown: pd.DataFrame | None = None
        self.text.value = "Fewer multiply-adds are not always less time: <b>Measure</b> it here."
        self.fill(self.bar, self.text)

    def refresh(self) -> None:
        found = self.state.find("time")  # of the plan at hand
        if found is None and self._shown is not None:
            self.build()
        elif found is not None and found is not self._shown:
            self._show(found)

    def _measure(self, report: Report) -> str:
        network, plan = self.state.network, self.state.plan
        models = {"whole": network.model, "pruned": prune(network.model, plan, graph=network.graph)}
        shape, device = network.data.image_shape[1:], network.data.device
        found = measure_latency(
            models, shape, device=device, batch=self.batch.value, on_progress=report
        )
        if self.state.network is network:
            self.state.note("time", found, plan)
        after = found.set_index("model").loc["pruned"]
        time, flops = after["time_left"], after["flops_left"]
        return f"{time:.1%} of the time at {flops:.1%} of the multiply-adds."

    def _show(self, found: pd.DataFrame) -> None:
        self._shown = found
        self.fill(self.bar, live(charts.latency(found)), self.text)
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
