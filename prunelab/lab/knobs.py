"""The left side: which network, how filters are ranked, and how many go."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import ipywidgets as widgets

from prunelab.criteria import CRITERIA, IMAGE_CRITERIA
from prunelab.data import NAMED
from prunelab.graph import Group
from prunelab.lab.jobs import Job, JobBar, Report
from prunelab.lab.state import State, open_network
from prunelab.models import model_names
from prunelab.plan import ORDERS, ROUNDINGS, STRATEGIES

OURS = "our ResNet-20 on digits"
MOST = 99  # per cent; a layer keeps a filter anyway
WIDE, NARROW = "330px", "150px"


class Knobs(widgets.VBox):
    """Choosing: each knob changes the state, and shows it again when something else did."""

    def __init__(self, state: State, desk: threading.Lock) -> None:
        self.state, self._quiet = state, False
        self.trouble = widgets.HTML(layout={"width": WIDE})
        self.opening = _Opening(state, desk)
        self.settings = self._make_settings()
        self.scoring = Job(self._score, desk)
        self.preset = widgets.Dropdown(description="preset", layout={"width": "176px"}, style=_label(60))
        self.limit = widgets.BoundedFloatText(
            70,
            min=1,
            max=100,
            step=1,
            layout={"width": "58px"},
            tooltip="multiply-adds that may be left, in per cent, for uniform and budget",
        )
        self.apply = widgets.Button(description="Apply", layout={"width": "62px"})
        self.apply.on_click(lambda _: self.act(lambda: state.preset(self.preset.value, self.limit.value / 100)))
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

    def act(self, change: Callable[[], None]) -> None:
        """Do what a knob asks for; what is refused, or odd, is said, and the knobs show what holds."""
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
        choices = {"criterion": CRITERIA, "order": ORDERS, "strategy": STRATEGIES, "rounding": list(ROUNDINGS)}
        helps = {
            "criterion": "how filters are scored; a small score says that a filter matters little",
            "order": "which go: the smallest scores (the paper), random ones, the largest",
            "strategy": "greedy leaves out kernels that read maps which are already gone (§3.3)",
            "rounding": "of ratio × filters; ceil gives the paper's table",
        }
        made: dict[str, widgets.Widget] = {
            name: widgets.Dropdown(
                options=options, description=name, tooltip=helps[name], layout={"width": WIDE}, style=_label(60)
            )
            for name, options in choices.items()
        }
        made["align"] = widgets.BoundedIntText(
            1, min=1, max=64, description="align", layout={"width": NARROW}, style=_label(60),
            tooltip="what stays is rounded up to a multiple of this; 8 suits hardware",
        )  # fmt: skip
        for name, knob in made.items():
            knob.observe(lambda change, name=name: self._choose(name, change["new"]), "value")
        return made

    def _choose(self, name: str, value: Any) -> None:
        waits = name == "criterion" and value in IMAGE_CRITERIA and value not in self.state.network.known
        if waits and not self._quiet:  # it looks at images first
            if self.scoring.start():
                self.trouble.value = f"{value} looks at {len(self.state.network.data.train):,} training images …"
            else:
                self.trouble.value = self.scoring.message
                self._refresh()
            return
        self.act(lambda: self.state.choose(**{name: value}))

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
        self.stages = {stage: StageRows(stage, state, self) for stage in state.graph.stages}
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


class StageRows(widgets.VBox):
    """A slider for a stage, which opens into one for each of its layers or tied groups."""

    def __init__(self, stage: str, state: State, knobs: Knobs) -> None:
        self.stage, self.state, self.knobs = stage, state, knobs
        self.groups = [group for group in state.graph.groups if group.stage == stage]
        free = sum(group.prunable for group in self.groups)
        self.slider = _slider(stage, f"filters removed from each of {free} layers or tied groups, in per cent")
        self.slider.disabled = not free
        self.slider.observe(self._moved, "value")
        self.opener = widgets.ToggleButton(
            False, icon="caret-right", tooltip=f"the layers of {stage}, one by one", layout={"width": "40px"}
        )
        self.opener.observe(self._open, "value")
        self.layers: dict[str, LayerRow] = {}
        self.box = widgets.VBox(layout={"max_height": "280px", "overflow": "auto", "display": "none"})
        super().__init__([widgets.HBox([self.opener, self.slider]), self.box])

    def _moved(self, change: dict[str, Any]) -> None:
        ratio = _ratio(change["new"])
        if ratio != round(self.state.ratio_of(self.stage), 4):
            self.knobs.act(lambda: self.state.set_stage(self.stage, ratio))

    def _open(self, change: dict[str, Any]) -> None:
        if change["new"] and not self.layers:  # made when they are first looked at: a network may have hundreds
            self.layers = {group.leader: LayerRow(group, self.state, self.knobs.act) for group in self.groups}
            self.box.children = tuple(self.layers.values())
        self.opener.icon = "caret-down" if change["new"] else "caret-right"
        self.box.layout.display = "" if change["new"] else "none"
        with self.knobs.quietly():
            self.refresh()

    def refresh(self) -> None:
        _show(self.slider, self.state.ratio_of(self.stage))
        if self.opener.value:
            for row in self.layers.values():
                row.refresh()


class LayerRow(widgets.HBox):
    """A slider for a layer, or a group of tied ones, and a switch that keeps it whole."""

    def __init__(self, group: Group, state: State, act: Callable[[Callable[[], None]], None]) -> None:
        self.group, self.state, self.act = group, state, act
        tied = f" with {len(group.layers) - 1} tied to it" if len(group.layers) > 1 else ""
        about = f"{group.leader}, {group.size} filters{tied}"
        self.slider = _slider(
            state.graph.shapes[group.leader].paper_name, about if group.prunable else f"{about}: stays, {group.reason}"
        )
        self.skip = widgets.ToggleButton(
            False, description="skip", tooltip=f"keep {group.leader} whole", layout={"width": "48px"}
        )
        self.slider.disabled = self.skip.disabled = not group.prunable
        self.slider.observe(self._moved, "value")
        self.skip.observe(lambda c: act(lambda: state.set_ratio(group.leader, 0.0 if c["new"] else None)), "value")
        super().__init__([self.skip, self.slider], layout={"flex": "0 0 auto"})
        if not group.prunable:
            self.layout.opacity = "0.5"

    def _moved(self, change: dict[str, Any]) -> None:
        ratio = _ratio(change["new"])
        if ratio != round(self.state.ratio_of(self.group.leader), 4):  # a page may send 40.00000000000001 of itself
            self.act(lambda: self._set(ratio))

    def _set(self, ratio: float) -> None:
        self.state.layer = self.group.leader  # the one that moves is looked at
        self.state.set_ratio(self.group.leader, ratio)

    def refresh(self) -> None:
        self.skip.value = self.state.skips(self.group.leader)
        self.slider.disabled = self.skip.value or not self.group.prunable
        _show(self.slider, self.state.ratio_of(self.group.leader))


class _Opening(widgets.Accordion):
    """Another network, weights, or data."""

    def __init__(self, state: State, desk: threading.Lock) -> None:
        self.state = state
        wide = {"layout": {"width": "300px"}, "style": _label(60)}
        self.model = widgets.Dropdown(options=[OURS, *model_names()], description="network", **wide)
        self.weights = widgets.Text(
            description="weights",
            placeholder="a file (.safetensors, .pt, .th); empty: fresh",
            continuous_update=False,
            **wide,
        )
        self.data = widgets.Combobox(
            value="digits", options=NAMED, description="data", placeholder="digits, cifar10 … or a folder", **wide
        )
        self.bar = JobBar(Job(self._open, desk), "Open", help="trace this network and take it up")
        super().__init__([widgets.VBox([self.model, self.weights, self.data, self.bar])], layout={"width": "350px"})
        self.titles = (self._title(),)
        state.observe(lambda _: setattr(self, "titles", (self._title(),)), "network")

    def _open(self, report: Report) -> str:
        name = None if self.model.value == OURS else self.model.value
        network = open_network(name, self.data.value, self.weights.value.strip() or None)
        report(1, 2)
        self.state.show(network)
        fresh = name and not network.weights
        return "With fresh weights: nothing was learned yet." if fresh else ""

    def _title(self) -> str:
        network = self.state.network
        return f"{network.architecture or type(network.model).__name__} on {network.data.name}"


def _slider(label: str, tooltip: str) -> widgets.FloatSlider:
    return widgets.FloatSlider(
        0, min=0, max=MOST, step=1, description=label, tooltip=tooltip, readout_format=".1f",
        layout={"width": "290px"}, style=_label(74),
    )  # fmt: skip


def _ratio(per_cent: float) -> float:
    return round(per_cent / 100, 4)


def _show(slider: widgets.FloatSlider, ratio: float) -> None:
    """Move a slider that stands elsewhere. One that a hand moves is left alone: what is sent back would be its past."""
    if _ratio(slider.value) != round(ratio, 4):
        slider.value = round(100 * ratio, 2)


def _label(width: int) -> dict[str, str]:
    return {"description_width": f"{width}px"}
