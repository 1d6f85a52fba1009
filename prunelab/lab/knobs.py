"""The left side: which network, how many filters go, and how they are ranked."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import ipywidgets as widgets

from prunelab.findings import name_few
from prunelab.lab.boxes import close_all, say_trouble, untitle
from prunelab.lab.jobs import Job, JobBar
from prunelab.lab.opening import Opening
from prunelab.lab.sliders import StageRows, read_per_cent, say_ratio
from prunelab.lab.state import BUDGETS, State
from prunelab.pruning import (
    CRITERIA,
    IMAGE_CRITERIA,
    ORDERS,
    ROUNDINGS,
    STRATEGIES,
    resolve_ratios,
)
from prunelab.utils.progress import Report

OWN = "your own"  # ratios of no preset
LABEL = {"description_width": "62px"}
CHOICES = {
    "criterion": CRITERIA,
    "order": ORDERS,
    "strategy": STRATEGIES,
    "rounding": list(ROUNDINGS),
}
# what each choice is, shown below it
ABOUT = {
    "l1": "sum of a filter's |weights|: the paper's",
    "l2": "root of the sum of squared weights",
    "fpgm": "distance to the other filters: near their median, replaceable",
    "bn_scale": "|scale| of the batch norm behind the filter",
    "mean_mean": "mean of its maps over training images (Fig. 9)",
    "mean_std": "spread within its maps, mean over training images",
    "mean_l1": "ℓ1-norm of its maps, mean over training images",
    "mean_l2": "ℓ2-norm of its maps, mean over training images",
    "var_l2": "variance of its maps' ℓ2-norm over training images",
    "taylor": "(gradient · weight)² over training images",
    "smallest": "the smallest scores go: the paper's",
    "random": "any filters go: what a criterion has to beat",
    "largest": "the largest scores go: what should hurt most",
    "independent": "each layer by itself: the paper's for its tables",
    "greedy": "kernels that read maps already gone do not count (§3.3)",
    "ceil": "ratio × filters rounded up: gives the paper's Table 1",
    "floor": "ratio × filters rounded down",
    "round": "ratio × filters rounded to the nearest",
}


class Knobs(widgets.VBox):
    """Choosing: each knob changes the state, and shows it again when something else did."""

    def __init__(self, state: State, desk: threading.Lock) -> None:
        self.state, self._quiet = state, False
        self.trouble = widgets.HTML()
        self.opening = Opening(state, desk)
        self.settings, self.about = self._make_settings()
        self.scoring = JobBar(Job(self._score, desk), "Score", unit="training images")
        self.scoring.start.layout.display = "none"  # choosing a criterion starts it
        self.preset = widgets.Dropdown(
            description="preset", layout={"flex": "1 1 auto", "min_width": "0"}, style=LABEL
        )
        self.limit = widgets.Text(
            "70",
            description="≤ %",
            continuous_update=False,
            tooltip="multiply-adds that may be left, in per cent, for uniform and budget",
            layout={"width": "84px"},
            style={"description_width": "28px"},
        )
        self.preset.observe(self._choose_preset, "value")
        self.limit.observe(self._choose_preset, "value")
        self.stages: dict[str, StageRows] = {}
        self.ratios = widgets.VBox()
        heading = widgets.HTML("<b>Filters removed</b>, % of each layer")
        ranked = [
            part
            for name, knob in self.settings.items()
            for part in (knob, self.about.get(name))
            if part
        ]
        super().__init__(
            [
                self.opening,
                heading,
                widgets.HBox([self.preset, self.limit]),
                self.trouble,
                self.ratios,
                widgets.HTML("<b>Which ones</b>", layout={"margin": "8px 0 0"}),
                *ranked,
                self.scoring,
            ]
        )
        self.add_class("prunelab-knobs")
        state.observe(self._rebuild, "network")
        state.observe(self._refresh, "plan")
        self._rebuild()

    def act(self, change: Callable[[], None]) -> None:
        """Do what a knob asks for; what is refused, or odd, is said; the knobs show what holds."""
        if self._quiet:
            return
        with warnings.catch_warnings(record=True) as odd:
            warnings.simplefilter("always", UserWarning)
            try:
                change()
                said = [str(w.message) for w in odd if issubclass(w.category, UserWarning)]
                said += self._say_swallowed()
            except (ValueError, OSError) as error:
                said = [str(error)]
        self.trouble.value = say_trouble(*dict.fromkeys(said[:3]))
        self._refresh()

    def _say_swallowed(self) -> list[str]:
        """Ratios that remove nothing, since what stays is rounded up."""
        state = self.state
        asked = resolve_ratios(state.graph, state.ratios)
        align = state.choice["align"]
        why = f"align {align}" if align > 1 else f"rounding {state.choice['rounding']!r}"
        names: dict[str, list[str]] = {}
        for leader in asked:
            if not state.removed(leader):
                narrow = state.graph.group_of(leader).size <= align
                then = f"they have no more than {align} filters"
                names.setdefault(then if narrow else "a larger ratio would not", []).append(
                    state.graph.shapes[leader].paper_name
                )
        return [f"{why} leaves {name_few(own)} whole: {then}" for then, own in names.items()]

    def _choose_preset(self, _: object) -> None:
        if self.preset.value != OWN:
            self.act(lambda: self.state.preset(self.preset.value, read_limit(self.limit.value)))

    def _make_settings(self) -> tuple[dict[str, widgets.Widget], dict[str, widgets.HTML]]:
        made: dict[str, widgets.Widget] = {}
        for name, options in CHOICES.items():
            made[name] = widgets.Dropdown(options=options, description=name, style=LABEL)
        made["align"] = widgets.BoundedIntText(
            1, min=1, max=64, description="align", layout={"width": "136px"}, style=LABEL
        )
        for name, knob in made.items():
            if name != "align":
                knob.layout.width = "auto"
            knob.observe(lambda change, name=name: self._choose(name, change["new"]), "value")
        about = {name: widgets.HTML() for name in made}
        for line in about.values():
            line.add_class("prunelab-about")
        about["align"].value = "what stays is rounded up to a multiple; 8 suits hardware"
        return made, about

    def _choose(self, name: str, value: Any) -> None:
        network = self.state.network
        of_images = name == "criterion" and value in IMAGE_CRITERIA
        if not of_images or value in network.known or self._quiet:
            self.act(lambda: self.state.choose(**{name: value}))
        elif not self.scoring.job.start():  # it looks at images first
            self._refresh()

    def _score(self, report: Report) -> str:
        criterion = self.settings["criterion"].value
        try:
            self.state.network.scores(criterion, report)
            self.act(lambda: self.state.choose(criterion=criterion))
        finally:
            self._refresh()
        return ""

    def _rebuild(self, _: object = None) -> None:
        """Rows for another network."""
        state = self.state
        old = self.ratios.children
        self.stages = {
            stage: StageRows(stage, state, self.act, self.quietly) for stage in state.graph.stages
        }
        self.ratios.children = tuple(self.stages.values())
        untitle(self)
        for row in old:
            close_all(row)
        self.trouble.value = ""
        self._refresh()

    def _refresh(self, _: object = None) -> None:
        with self.quietly():
            for name, knob in self.settings.items():
                knob.value = self.state.choice[name]
                if name in CHOICES:
                    self.about[name].value = escape(ABOUT[knob.value])
            name, limit = self.state.wish.preset or (OWN, None)
            options = (*self.state.presets(), *([OWN] if name == OWN else []))
            if self.preset.options != options:
                self.preset.options = options
            self.preset.value = name
            if limit is not None:
                self.limit.value = say_ratio(limit)
            self.limit.layout.visibility = "visible" if name in BUDGETS else "hidden"
            for rows in self.stages.values():
                rows.refresh()

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Knobs that move by themselves are not taken for a wish."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before


def read_limit(text: str) -> float:
    """The multiply-adds that may be left, typed in per cent; ValueError if none are."""
    limit = read_per_cent(text, "a limit")
    if not 0 < limit <= 1:
        raise ValueError(
            "a limit is more than 0 and at most 100 per cent of the multiply-adds; not "
            f"{text.strip()}"
        )
    return limit
