"""The sliders: one for each stage, which opens into one for each of its layers or tied groups."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import ipywidgets as widgets

from prunelab.graph import Group
from prunelab.lab.state import State

MOST = 99  # per cent; a layer keeps a filter anyway
Act = Callable[[Callable[[], None]], None]  # does what a knob asks for, or says why not


class StageRows(widgets.VBox):
    """A slider for a stage, which opens into one for each of its layers or tied groups.

    act: `Knobs.act`. quietly: `Knobs.quietly`.
    """

    def __init__(
        self,
        stage: str,
        state: State,
        act: Act,
        quietly: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.stage, self.state, self.act, self.quietly = stage, state, act, quietly
        self.groups = [group for group in state.graph.groups if group.stage == stage]
        free = sum(group.prunable for group in self.groups)
        about = f"filters removed from each of {free} layers or tied groups, in per cent"
        self.slider = _make_slider(stage, about)
        self.slider.disabled = not free
        self.slider.observe(self._moved, "value")
        self.opener = widgets.ToggleButton(
            False,
            icon="caret-right",
            tooltip=f"the layers of {stage}, one by one",
            layout={"width": "40px"},
        )
        self.opener.observe(self._open, "value")
        self.layers: dict[str, LayerRow] = {}
        self.box = widgets.VBox(
            layout={"max_height": "280px", "overflow": "auto", "display": "none"}
        )
        super().__init__([widgets.HBox([self.opener, self.slider]), self.box])

    def _moved(self, change: dict[str, Any]) -> None:
        ratio = _ratio(change["new"])
        if ratio != round(self.state.ratio_of(self.stage), 4):
            self.act(lambda: self.state.set_stage(self.stage, ratio))

    def _open(self, change: dict[str, Any]) -> None:
        opened = change["new"]
        # rows are made when they are first looked at: a network may have hundreds
        if opened and not self.layers:
            for group in self.groups:
                self.layers[group.leader] = LayerRow(group, self.state, self.act)
            self.box.children = tuple(self.layers.values())
        self.opener.icon = "caret-down" if opened else "caret-right"
        self.box.layout.display = "" if opened else "none"
        with self.quietly():
            self.refresh()

    def refresh(self) -> None:
        """Show what the state says."""
        _move(self.slider, self.state.ratio_of(self.stage))
        if self.opener.value:
            for row in self.layers.values():
                row.refresh()


class LayerRow(widgets.HBox):
    """A slider for a layer, or a group of tied ones, and a switch that keeps it whole."""

    def __init__(self, group: Group, state: State, act: Act) -> None:
        self.group, self.state, self.act = group, state, act
        tied = f" with {len(group.layers) - 1} tied to it" if len(group.layers) > 1 else ""
        about = f"{group.leader}, {group.size} filters{tied}"
        if not group.prunable:
            about += f": stays, {group.reason}"
        self.slider = _make_slider(state.graph.shapes[group.leader].paper_name, about)
        self.skip = widgets.ToggleButton(
            False,
            description="skip",
            tooltip=f"keep {group.leader} whole",
            layout={"width": "48px"},
        )
        self.slider.disabled = self.skip.disabled = not group.prunable
        self.slider.observe(self._moved, "value")
        self.skip.observe(self._skip, "value")
        super().__init__([self.skip, self.slider], layout={"flex": "0 0 auto"})

    def _moved(self, change: dict[str, Any]) -> None:
        ratio = _ratio(change["new"])
        # a page may send 40.00000000000001 of itself
        if ratio != round(self.state.ratio_of(self.group.leader), 4):
            self.act(lambda: self._set(ratio))

    def _set(self, ratio: float) -> None:
        self.state.layer = self.group.leader  # the one that moves is looked at
        self.state.set_ratio(self.group.leader, ratio)

    def _skip(self, change: dict[str, Any]) -> None:
        ratio = 0.0 if change["new"] else None
        self.act(lambda: self.state.set_ratio(self.group.leader, ratio))

    def refresh(self) -> None:
        """Show what the state says."""
        self.skip.value = self.state.skips(self.group.leader)
        self.slider.disabled = self.skip.value or not self.group.prunable
        _move(self.slider, self.state.ratio_of(self.group.leader))


def _make_slider(label: str, tooltip: str) -> widgets.FloatSlider:
    return widgets.FloatSlider(
        0,
        min=0,
        max=MOST,
        step=1,
        description=label,
        tooltip=tooltip,
        readout_format=".1f",
        layout={"width": "290px"},
        style={"description_width": "74px"},
    )


def _ratio(per_cent: float) -> float:
    return round(per_cent / 100, 4)


def _move(slider: widgets.FloatSlider, ratio: float) -> None:
    """Move a slider that stands elsewhere.

    One that a hand moves is left alone: what is sent back would be its past.
    """
    if _ratio(slider.value) != round(ratio, 4):
        slider.value = round(100 * ratio, 2)
