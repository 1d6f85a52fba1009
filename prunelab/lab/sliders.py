"""The sliders: one for each stage, which opens into one for each of its layers or tied groups."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import ipywidgets as widgets

from prunelab.graph import Group
from prunelab.lab.boxes import untitle
from prunelab.lab.state import State

MOST, STEP = 99, 0.5  # per cent; a layer keeps a filter anyway
ECHO_SECONDS = 2.0  # for which a page may still send where a slider was put
OWN = "prunelab-own"  # the look of a layer that does not follow its stage
Act = Callable[[Callable[[], None]], None]  # does what a knob asks for, or says why not


class Ratio(widgets.HBox):
    """A slider and a field for one ratio, and how many filters it removes.

    A page rounds what a slider shows to its steps, and may send that back: the ratio is what the
    state says, and a slider asks for another only when a hand has moved it by a step.

    Args:
        label: before the slider.
        tooltip: what it stands for.
        current: the ratio that the state says, in [0, 1).
        ask: takes the ratio that was asked for.
        act: `Knobs.act`.
    """

    def __init__(
        self,
        label: str,
        tooltip: str,
        current: Callable[[], float],
        ask: Callable[[float], None],
        act: Act,
    ) -> None:
        self.current, self.ask, self.act = current, ask, act
        self._shown: list[tuple[float, float]] = []  # where it was put, and when
        self.slider = widgets.FloatSlider(
            0,
            min=0,
            max=MOST,
            step=STEP,
            description=label,
            tooltip=tooltip,
            readout=False,
            layout={"flex": "1 1 auto", "min_width": "0"},
            style={"description_width": "62px"},
        )
        self.field = widgets.Text(
            "0",
            continuous_update=False,
            tooltip="filters removed, in per cent",
            layout={"width": "48px"},
        )
        self.count = widgets.HTML(layout={"flex": "0 0 84px"})
        self.slider.observe(self._moved, "value")
        self.field.observe(self._typed, "value")
        super().__init__(
            [self.slider, self.field, self.count],
            layout={"flex": "1 1 auto", "min_width": "0", "align_items": "center"},
        )

    def _moved(self, change: dict[str, Any]) -> None:
        if _are_near(change["new"], _place(self.current())):
            return
        late = time.monotonic() - ECHO_SECONDS
        self._shown = [(place, when) for place, when in self._shown if when > late]
        if any(_are_near(change["new"], place) for place, _ in self._shown):
            self._show()  # the page says where it was put a moment ago
        else:
            self.act(lambda: self.ask(round(change["new"] / 100, 4)))

    def _show(self) -> None:
        place = _place(self.current())
        if not _are_near(self.slider.value, place):
            self._shown.append((place, time.monotonic()))
            self.slider.value = place

    def _typed(self, change: dict[str, Any]) -> None:
        if change["new"] != say_ratio(self.current()):
            self.act(lambda: self.ask(read_ratio(change["new"])))

    def disable(self, disabled: bool) -> None:
        """Whether it cannot be moved."""
        self.slider.disabled = self.field.disabled = disabled

    def refresh(self, removed: int, filters: int) -> None:
        """Show what the state says.

        A slider that a hand moves is left alone: what is sent back would be its past.
        """
        self._show()
        self.field.value = say_ratio(self.current())
        self.count.value = f'<span style="white-space:nowrap">{removed:,} of {filters:,}</span>'


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
        self.free = [group for group in self.groups if group.prunable]
        about = f"filters removed from each of {len(self.free)} layers or tied groups, in per cent"
        self.ratio = Ratio(
            stage,
            about,
            lambda: state.ratio_of(stage),
            lambda ratio: state.set_stage(stage, ratio),
            act,
        )
        self.slider = self.ratio.slider
        self.ratio.disable(not self.free)
        self.opener = widgets.ToggleButton(
            False,
            icon="caret-right",
            tooltip=f"the layers of {stage}, one by one",
            layout={"width": "26px", "padding": "0"},
        )
        self.opener.observe(self._open, "value")
        self.layers: dict[str, LayerRow] = {}
        self.box = widgets.VBox(layout={"display": "none", "margin": "0 0 6px 10px"})
        super().__init__([widgets.HBox([self.opener, self.ratio]), self.box])

    def _open(self, change: dict[str, Any]) -> None:
        opened = change["new"]
        # rows are made when they are first looked at: a network may have hundreds
        if opened and not self.layers:
            for group in self.groups:
                self.layers[group.leader] = LayerRow(group, self.state, self.act)
            self.box.children = tuple(self.layers.values())
            untitle(self.box)
        self.opener.icon = "caret-down" if opened else "caret-right"
        self.box.layout.display = "" if opened else "none"
        with self.quietly():
            self.refresh()

    def refresh(self) -> None:
        """Show what the state says."""
        removed = sum(self.state.removed(group.leader) for group in self.free)
        self.ratio.refresh(removed, sum(group.size for group in self.free))
        if self.opener.value:
            for row in self.layers.values():
                row.refresh()


class LayerRow(widgets.HBox):
    """A slider for a layer, or a group of tied ones, and a button that lets it follow its stage."""

    def __init__(self, group: Group, state: State, act: Act) -> None:
        self.group, self.state, leader = group, state, group.leader
        tied = f" with {len(group.layers) - 1} tied to it" if len(group.layers) > 1 else ""
        about = f"{leader}, {group.size} filters{tied}"
        if not group.prunable:
            about += f": stays, {group.reason}"
        self.ratio = Ratio(
            state.graph.shapes[leader].paper_name,
            about,
            lambda: state.ratio_of(leader),
            self._set,
            act,
        )
        self.slider = self.ratio.slider
        self.ratio.disable(not group.prunable)
        self.follow = widgets.Button(
            icon="undo",
            tooltip=f"it has a ratio of its own: let it follow {group.stage} again",
            layout={"width": "26px", "padding": "0", "visibility": "hidden"},
        )
        self.follow.on_click(lambda _: act(lambda: state.set_ratio(leader, None)))
        super().__init__([self.follow, self.ratio], layout={"flex": "0 0 auto"})

    def _set(self, ratio: float) -> None:
        self.state.layer = self.group.leader  # the one that moves is looked at
        self.state.set_ratio(self.group.leader, ratio)

    def refresh(self) -> None:
        """Show what the state says."""
        leader = self.group.leader
        own = self.state.own_ratio(leader) is not None
        (self.add_class if own else self.remove_class)(OWN)
        self.follow.layout.visibility = "visible" if own else "hidden"
        self.ratio.refresh(self.state.removed(leader), self.group.size)


def say_ratio(ratio: float) -> str:
    """A ratio in per cent, as precise as it is: "28.23"."""
    return f"{100 * ratio:.6g}"


def read_ratio(text: str) -> float:
    """The ratio that was typed in per cent; ValueError if none was."""
    ratio = read_per_cent(text, "a ratio")
    if not 0 <= ratio < 1:
        raise ValueError(
            f"a ratio is at least 0 and less than 100 per cent of the filters; not {text.strip()}"
        )
    return ratio


def read_per_cent(text: str, what: str) -> float:
    """The fraction that was typed in per cent, with a point or a comma; ValueError if none was."""
    try:
        return round(float(text.strip().removesuffix("%").replace(",", ".")) / 100, 8)
    except ValueError:
        raise ValueError(f"{what} is a number in per cent, such as 33.3; not {text!r}") from None


def _are_near(one: float, other: float) -> bool:
    """Whether two places of a slider are the same step."""
    return abs(one - other) <= 0.5 * STEP


def _place(ratio: float) -> float:
    """Where a slider stands: at the nearest of its steps."""
    return min(MOST, round(100 * ratio / STEP) * STEP)
