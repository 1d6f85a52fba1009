"""Looking at a sweep, whoever runs it: what is done, what came of it, what is best."""

import threading
import weakref
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pandas as pd
import traitlets

from prunelab import charts
from prunelab.experiments import (
    compare_points,
    find_settings,
    name_best,
    name_points,
    read_sweep,
)
from prunelab.lab.live import live, redraw, table
from prunelab.lab.page import display_live

EVERY = 5.0  # seconds between two looks at a sweep that goes on
BEST = 8  # lines of the table of the best
ALL = "all"
SEEN = (
    "A sweep: its points, and how many are done; error against multiply-adds left, a mark for each "
    "setting; a table of the best."
)


class SweepView(widgets.VBox):
    """A sweep, running or finished: points done, error against cost, the best, filters.

    It looks again every few seconds until nothing is left to do, and never writes.

    Args:
        where: as in `read_sweep`.

    Attributes:
        points: of `read_sweep`, a trait, as last seen.
        shown: the part of them that the filters leave.

    Raises:
        FileNotFoundError: there is no sweep.

    Example:
        >>> from prunelab.lab import SweepView
        >>> SweepView("data/runs/digits-small")
    """

    points = traitlets.Instance(pd.DataFrame)

    def __init__(self, where: str | Path | None = None) -> None:
        self.where = where
        self.head, self.told, self.rows = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.bar = widgets.IntProgress(min=0, layout={"width": "260px"})
        self.again = widgets.Button(icon="refresh", tooltip="look again", layout={"width": "40px"})
        self.again.on_click(lambda _: self.refresh())
        self.filters: dict[str, widgets.Dropdown] = {}
        self.chart: Any = None
        self._compared = pd.DataFrame()
        self.place = widgets.VBox()
        top = widgets.HBox([self.head, self.bar, self.again], layout={"align_items": "center"})
        self.choices = widgets.HBox(layout={"flex_flow": "row wrap"})
        super().__init__([top, self.choices, self.place, self.told, self.rows])
        self.add_class("prunelab-sweep")
        self.refresh()
        threading.Thread(target=_follow, args=[weakref.ref(self)], daemon=True).start()

    def _ipython_display_(self) -> None:
        """The view; where it has no kernel, a picture of one."""
        display_live(self, "This look at a sweep", "sweep", SEEN)

    @property
    def shown(self) -> pd.DataFrame:
        """The points that the filters leave."""
        points = self.points
        for name, choice in self.filters.items():
            if choice.value != ALL:
                points = points[(points[name].astype(str) == choice.value) | points["for_others"]]
        return points

    @property
    def is_over(self) -> bool:
        """Whether nothing runs or waits."""
        return not set(self.points["state"]) & {"running", "waiting"}

    def refresh(self) -> None:
        """Look at the sweep now."""
        self.points = read_sweep(self.where)
        counts = self.points["state"].value_counts()
        said = ", ".join(f"{n} {escape(str(state))}" for state, n in counts.items())
        name = escape(Path(str(self.where or "digits-small")).stem)
        self.head.value = f"<b>{name}</b>: {len(self.points)} points, {said}&nbsp;"
        self.bar.max, self.bar.value = len(self.points), int(counts.get("done", 0))
        self.bar.bar_style = "danger" if "failed" in counts else "success" if self.is_over else ""
        self._offer()
        self._draw()

    def _offer(self) -> None:
        """A filter for each setting that has several values."""
        for name in find_settings(self.points):
            own = self.points[~self.points["for_others"].astype(bool)][name]
            values = [ALL, *dict.fromkeys(own.dropna().astype(str))]
            if name not in self.filters and len(values) > 2:
                style = {"description_width": "initial"}
                layout = {"width": "220px"}
                choice = widgets.Dropdown(
                    options=values, description=name, style=style, layout=layout
                )
                choice.observe(lambda _: self._draw(), "value")
                self.filters[name] = choice
        if len(self.choices.children) != len(self.filters):
            self.choices.children = tuple(self.filters.values())

    def _draw(self) -> None:
        shown = self.shown
        compared = compare_points(shown)
        if len(compared):
            if self.chart is None:
                self.chart = live(charts.sweep(compared))
                self.place.children = (self.chart,)
            elif not compared.equals(self._compared):
                redraw(self.chart, charts.sweep(compared))
            self._compared = compared
            self.told.value = table(name_best(compared).head(BEST))
        else:
            self.told.value = "No point is done yet."
        self.rows.value = table(name_points(shown), "All points")


def _follow(view: "weakref.ref[SweepView]") -> None:
    """Look again and again, as long as someone has the widget and something is left to do."""
    pause = threading.Event()
    while True:
        pause.wait(EVERY)
        seen = view()
        if seen is None or seen.comm is None or seen.is_over:
            return
        try:
            seen.refresh()
        except (OSError, ValueError) as error:  # a disk that is away for a while
            seen.head.value = escape(f"looking again: {error}")
        del seen
