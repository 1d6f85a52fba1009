"""Ratios for a goal, found by measuring: the front of what accuracy is had at what cost."""

import threading
import time
from dataclasses import replace
from html import escape
from typing import Any

import altair as alt
import ipywidgets as widgets
import pandas as pd

from prunelab import charts
from prunelab.lab.jobs import Job, JobBar, as_sentence
from prunelab.lab.live import live, redraw
from prunelab.lab.state import State
from prunelab.lab.tabs.view import View
from prunelab.measure import best_within, find_front
from prunelab.utils.progress import Report

REDRAW_SECONDS = 0.5  # between two drawings of the front


class Search(View):
    """The front of ratios that a search finds; a click on a point takes its ratios."""

    title = "Search"
    seen = (
        "pruned networks as points, accuracy against multiply-adds left, and the front of the best"
    )

    def __init__(self, state: State, desk: threading.Lock) -> None:
        super().__init__(state)
        self.flops = _make_field(70, "multiply-adds left at most, %", "100: whatever they are")
        self.ms = _make_field(0, "at most, ms", "of one image, on this machine; 0: not timed")
        self.loss = _make_field(1, "lose at most, points", "of accuracy; 100: whatever is lost")
        self.images = _make_field(200, "images", "validation images on which each network runs")
        self.points = _make_field(60, "networks", "how many to prune and run")
        self.job = Job(self._search, desk)
        self.bar = JobBar(
            self.job, "Search", help="prune and run network after network", unit="images"
        )
        goal = widgets.HBox(
            [self.flops, self.ms, self.loss, self.images, self.points],
            layout={"flex_flow": "row wrap"},
        )
        self.form = widgets.VBox([goal, self.bar])
        self.text = widgets.HTML(layout={"flex": "1 1 320px"})
        self.take = widgets.Button(
            description="Take it", tooltip="its ratios become the choice", layout={"width": "90px"}
        )
        self.take.on_click(lambda _: self._take(self._best))
        self.best = widgets.HBox([self.take, self.text], layout={"align_items": "center"})
        for field in (self.flops, self.ms, self.loss):
            field.observe(lambda _: self._draw(), "value")
        self._drop()

    def build(self) -> None:
        self._drop()
        self.fill(self.form, self.best)

    def refresh(self) -> None:
        if self.found is not None and self._which != self.state.choice:
            self.build()  # of other filters
        self._draw()

    @property
    def goals(self) -> dict[str, Any]:
        """What `find_front` and `best_within` take; a field at its end asks for nothing."""
        goals: dict[str, Any] = {}
        if self.flops.value < 100:
            goals["max_flops"] = max(self.flops.value, 1) / 100
        if self.ms.value > 0:
            goals["max_latency_ms"] = float(self.ms.value)
        if self.loss.value < 100:
            goals["max_loss"] = self.loss.value / 100
        return goals

    def _drop(self) -> None:
        self.found: pd.DataFrame | None = None
        self.chart: alt.JupyterChart | None = None
        self._which: dict[str, Any] = {}
        self._best: dict[str, float] = {}
        self._drawn: tuple[pd.DataFrame | None, dict[str, Any]] | None = None

    def _search(self, report: Report) -> str:
        state, network, which = self.state, self.state.network, dict(self.state.choice)
        curves, drawn = state.curves(), 0.0
        scores = None if which["strategy"] == "greedy" else network.scores(which["criterion"])

        def note(found: pd.DataFrame) -> None:
            nonlocal drawn
            if state.network is not network or state.choice != which:
                raise KeyboardInterrupt
            self.found, self._which = found, which
            if time.monotonic() - drawn > REDRAW_SECONDS:
                self._draw()
                drawn = time.monotonic()

        try:
            found = find_front(
                network.model,
                network.data,
                curves,
                graph=network.graph,
                images=min(int(self.images.value), len(network.data.val)),
                points=int(self.points.value),
                store=network.folder.parent / "front.jsonl",
                on_point=note,
                on_progress=report,
                scores=scores,
                **self.goals,
                **which,
            )
        except KeyboardInterrupt:
            why = "what was found stays, and Search goes on from there"
            if state.network is not network or state.choice != which:
                why = "other filters are ranked now than when it began"
            raise KeyboardInterrupt(f"stopped: {why}") from None
        finally:
            self._draw()
        ahead = int(found["on_front"].sum())
        return f"{len(found)} networks, {ahead} of them on the front."

    def _draw(self) -> None:
        """The front so far, and the best within the goal; drawn anew where these are new."""
        with self.state.lock:
            drawn = self.found, self.goals
            if self._drawn and self._drawn[0] is drawn[0] and self._drawn[1] == drawn[1]:
                return
            self._drawn = drawn
            self._draw_anew(*drawn)

    def _draw_anew(self, found: pd.DataFrame | None, goals: dict[str, Any]) -> None:
        self.take.layout.display = "none"
        if found is None:
            self.text.value = (
                "<b>Search</b> prunes network after network, by the curves of the Sensitivity tab "
                "and by what came of those before, and runs each on validation images."
            )
            return
        shaded = {name: goals[name] for name in ("max_flops", "max_loss") if name in goals}
        chart = charts.front(found, **shaded)
        if self.chart is None:
            self.chart = live(chart)
            self.fill(self.form, self.best, self.chart)
        else:
            redraw(self.chart, chart)
        self.chart.selections.observe(self._picked, "picked")
        try:
            best = best_within(found, **goals)
        except ValueError as error:
            self.text.value = escape(as_sentence(error))
            return
        self._best, self.take.layout.display = best["ratios"], ""
        self.text.value = _describe(best, found.iloc[0])

    def _picked(self, change: dict[str, Any]) -> None:
        for point in change["new"].value:
            if self.found is not None:
                self._take(self.found["ratios"].iloc[int(point["point"])])

    def _take(self, ratios: dict[str, float]) -> None:
        """Take these ratios, and nothing by hand: it is that network which was measured."""
        wish = self.state.wish
        self.state.ask(replace(wish, ratios=dict(ratios), keep={}, drop={}, preset=None))


def _make_field(value: float, label: str, help: str) -> widgets.BoundedFloatText:
    whole = label in ("images", "networks")
    make = widgets.BoundedIntText if whole else widgets.BoundedFloatText
    width = 90 + 6.2 * len(label)
    return make(
        value,
        min=1 if whole else 0,
        max=10**7 if whole or label.endswith("ms") else 100,
        description=label,
        tooltip=help,
        layout={"width": f"{width:.0f}px"},
        style={"description_width": "initial"},
    )


def _describe(best: pd.Series, whole: pd.Series) -> str:
    """The best within a goal, in a sentence."""
    lost = 100 * (whole["accuracy"] - best["accuracy"])
    beside = (
        f"{abs(lost):.1f} points {'less' if lost > 0 else 'more'} than" if lost else "as many as"
    )
    parts = [
        f"<b>{best['flops_left']:.1%}</b> of the multiply-adds left",
        f"<b>{best['accuracy']:.1%}</b> of {best['total']:,} images right, {beside} the whole "
        "network",
    ]
    if "latency_ms" in best:
        parts.append(f"{best['latency_ms']:.3g} ms instead of {whole['latency_ms']:.3g}")
    return f"The best within the goal: {'; '.join(parts)}."
