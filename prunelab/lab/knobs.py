"""The left side: which network, how filters are ranked, and how many go."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import ipywidgets as widgets

from prunelab.data import NAMED
from prunelab.lab.jobs import Job, JobBar, Report
from prunelab.lab.sliders import StageRows
from prunelab.lab.state import State, open_network
from prunelab.models import model_names
from prunelab.pruning import CRITERIA, IMAGE_CRITERIA, ORDERS, ROUNDINGS, STRATEGIES

OURS_LABEL = "our ResNet-20 on digits"
WIDE, NARROW = "330px", "150px"
LABEL = {"description_width": "60px"}
CHOICES = {
    "criterion": CRITERIA,
    "order": ORDERS,
    "strategy": STRATEGIES,
    "rounding": list(ROUNDINGS),
}
HELPS = {
    "criterion": "how filters are scored; a small score says that a filter matters little",
    "order": "which go: the smallest scores (the paper), random ones, the largest",
    "strategy": "greedy leaves out kernels that read maps which are already gone (§3.3)",
    "rounding": "of ratio × filters; ceil gives the paper's table",
}


class Knobs(widgets.VBox):
    """Choosing: each knob changes the state, and shows it again when something else did."""

    def __init__(self, state: State, desk: threading.Lock) -> None:
        self.state, self._quiet = state, False
        self.trouble = widgets.HTML(layout={"width": WIDE})
        self.opening = _Opening(state, desk)
        self.settings = self._make_settings()
        self.scoring = Job(self._score, desk)
        self.preset = widgets.Dropdown(description="preset", layout={"width": "176px"}, style=LABEL)
        self.limit = widgets.BoundedFloatText(
            70,
            min=1,
            max=100,
            step=1,
            layout={"width": "58px"},
            tooltip="multiply-adds that may be left, in per cent, for uniform and budget",
        )
        self.apply = widgets.Button(description="Apply", layout={"width": "62px"})
        self.apply.on_click(lambda _: self.act(self._apply_preset))
        self.stages: dict[str, StageRows] = {}
        self.ratios = widgets.VBox()
        super().__init__(
            [
                self.opening,
                *self.settings.values(),
                widgets.HBox([self.preset, widgets.Label("≤ %"), self.limit, self.apply]),
                widgets.HTML("filters removed, %", layout={"margin": "6px 0 0 0"}),
                self.ratios,
                self.trouble,
            ],
            layout={"width": "350px", "flex": "0 0 350px"},
        )
        state.observe(self._rebuild, "network")
        state.observe(self._refresh, "plan")
        self._rebuild()

    def _apply_preset(self) -> None:
        self.state.preset(self.preset.value, self.limit.value / 100)

    def act(self, change: Callable[[], None]) -> None:
        """Do what a knob asks for; what is refused, or odd, is said; the knobs show what holds."""
        if self._quiet:
            return
        with warnings.catch_warnings(record=True) as odd:
            warnings.simplefilter("always", UserWarning)
            try:
                change()
                said = [str(w.message) for w in odd if issubclass(w.category, UserWarning)]
            except (ValueError, OSError) as error:
                said = [str(error)]
        self.trouble.value = "<br>".join(f"⚠ {escape(text)}" for text in dict.fromkeys(said[:3]))
        self._refresh()

    def _make_settings(self) -> dict[str, widgets.Widget]:
        made: dict[str, widgets.Widget] = {}
        for name, options in CHOICES.items():
            made[name] = widgets.Dropdown(
                options=options,
                description=name,
                tooltip=HELPS[name],
                layout={"width": WIDE},
                style=LABEL,
            )
        made["align"] = widgets.BoundedIntText(
            1,
            min=1,
            max=64,
            description="align",
            tooltip="what stays is rounded up to a multiple of this; 8 suits hardware",
            layout={"width": NARROW},
            style=LABEL,
        )
        for name, knob in made.items():
            knob.observe(lambda change, name=name: self._choose(name, change["new"]), "value")
        return made

    def _choose(self, name: str, value: Any) -> None:
        network = self.state.network
        of_images = name == "criterion" and value in IMAGE_CRITERIA
        if not of_images or value in network.known or self._quiet:
            self.act(lambda: self.state.choose(**{name: value}))
        elif self.scoring.start():  # it looks at images first
            self.trouble.value = f"{value} looks at {len(network.data.train):,} training images …"
        else:
            self.trouble.value = self.scoring.message
            self._refresh()

    def _score(self, report: Report) -> str:
        criterion = self.settings["criterion"].value
        try:
            self.state.network.scores(criterion)
        finally:
            self.act(lambda: self.state.choose(criterion=criterion))
        return ""

    def _rebuild(self, _: object = None) -> None:
        """Rows for another network."""
        state = self.state
        self.stages = {
            stage: StageRows(stage, state, self.act, self.quietly) for stage in state.graph.stages
        }
        self.ratios.children = tuple(self.stages.values())
        self.preset.options = state.presets()
        self.preset.value = self.preset.options[0]
        self.trouble.value = ""
        self._refresh()

    def _refresh(self, _: object = None) -> None:
        with self.quietly():
            for name, knob in self.settings.items():
                knob.value = self.state.choice[name]
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


class _Opening(widgets.Accordion):
    """Another network, weights, or data."""

    def __init__(self, state: State, desk: threading.Lock) -> None:
        self.state = state
        wide = {"layout": {"width": "300px"}, "style": LABEL}
        self.model = widgets.Dropdown(
            options=[OURS_LABEL, *model_names()], description="network", **wide
        )
        self.weights = widgets.Text(
            description="weights",
            placeholder="a file (.safetensors, .pt, .th); empty: fresh",
            continuous_update=False,
            **wide,
        )
        self.data = widgets.Combobox(
            value="digits",
            options=NAMED,
            description="data",
            placeholder="digits, cifar10 … or a folder",
            **wide,
        )
        self.bar = JobBar(Job(self._open, desk), "Open", help="trace this network and take it up")
        super().__init__(
            [widgets.VBox([self.model, self.weights, self.data, self.bar])],
            layout={"width": "350px"},
        )
        state.observe(self._name, "network")
        self._name()

    def _open(self, report: Report) -> str:
        name = None if self.model.value == OURS_LABEL else self.model.value
        network = open_network(name, self.data.value, self.weights.value.strip() or None)
        report(1, 2)
        self.state.show(network)
        fresh = name and not network.weights
        return "With fresh weights: nothing was learned yet." if fresh else ""

    def _name(self, _: object = None) -> None:
        network = self.state.network
        model = network.architecture or type(network.model).__name__
        self.titles = (f"{model} on {network.data.name}",)
