"""The widget: totals above, knobs on the left, tabs on the right, what to do with it below."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pandas as pd
import traitlets
from torch import nn

from prunelab.data import DataSplits
from prunelab.lab.actions import Actions
from prunelab.lab.boxes import untitle
from prunelab.lab.head import Head
from prunelab.lab.knobs import Knobs
from prunelab.lab.page import STYLE, display_live, name_still
from prunelab.lab.state import Glance, State, Tray, open_network
from prunelab.lab.tabs import TABS, TITLES, Plans, View
from prunelab.pruning import PruningPlan
from prunelab.utils.checks import check_choice


class Lab(widgets.VBox):
    """The lab: knobs on the left, tabs on the right, what to do with the choice below.

    Args:
        model: a network of `load_model` or of your own, or a name for `load_model`; None is our
            ResNet-20, trained on digits.
        data: a data set, or what `load_data` takes: a name, an image folder or a table.
        weights: what `load_model` takes: a file, also a pruned one, or a run's folder; for a model
            by name.
        normalization: as in `load_data`; None: the weights' or the data's own.
        image_size: likewise.
        label: what tables call the data.
        ratios: where the sliders begin, as in `make_plan`.
        images: validation images whose correct predictions are counted after each move; 0: none.
        tab: which one is in front, by its title.
        layer: which one is looked at, by its name or paper name; None: the first that can lose
            filters.
        measured: of `measure_sensitivity`, of this network by this criterion and order; the tab
            Sensitivity shows it at once, and budgets take it.
        choice: criterion, strategy, order, rounding and align, as in `make_plan`.

    Attributes:
        ratios: {layer, stage or "*": fraction of filters removed}, a trait; set it, or move the
            sliders, and all follows.
        plan: the plan of the choice at hand, a trait that follows.
        state: all of it: `state.network.model`, `state.small`, `state.measured`, `state.trained`.

    Raises:
        ValueError: what `load_model`, `load_data`, `trace` or `make_plan` refuses; for `ratios`
            also when they are set later, and then nothing changes; an unknown tab or layer, or a
            frame of another network.
        FileNotFoundError: there is no such file of weights.

    Example:
        >>> lab = Lab(model, data, ratios={"stage1": 0.3})
        >>> lab.ratios = {"stage1": 0.5}
        >>> small = prune(model, lab.plan)
    """

    ratios = traitlets.Dict()
    plan = traitlets.Instance(PruningPlan)

    def __init__(
        self,
        model: nn.Module | str | None = None,
        data: DataSplits | str | Path = "digits",
        *,
        weights: str | Path | None = None,
        ratios: Mapping[str, float] | None = None,
        normalization: Any = None,
        image_size: int | None = None,
        label: str | None = None,
        images: int = 300,
        tab: str = TITLES[0],
        layer: str | None = None,
        measured: pd.DataFrame | None = None,
        **choice: Any,
    ) -> None:
        check_choice("tab", tab, TITLES)
        told = {"normalization": normalization, "image_size": image_size, "label": label}
        how = {name: value for name, value in told.items() if value}
        network = open_network(model, data, weights, **how)
        self.state = State(network, ratios=ratios, layer=layer, measured=measured, **choice)
        desk = threading.Lock()
        self.glance = Glance(self.state, desk, images)
        self.tray = Tray(self.state, self.glance)
        self.head = Head(self.state, self.glance, self.tray)
        self.knobs = Knobs(self.state, desk)
        self.tabs = Tabs(self.state, self.tray, desk, tab)
        self.actions = Actions(self.state, self.tray, desk)
        right = widgets.VBox([self.tabs, self.actions])
        right.add_class("prunelab-right")
        sides = widgets.VBox([self.knobs, right])
        sides.add_class("prunelab-sides")
        style = widgets.HTML(f"<style>{STYLE.read_text()}</style>", layout={"display": "none"})
        super().__init__([style, self.head, sides])
        self.add_class("prunelab-lab")
        untitle(self)
        self.state.observe(self._follow, "plan")
        self._follow()

    def _follow(self, _: object = None) -> None:
        self.set_trait("plan", self.state.plan)
        self.ratios = dict(self.state.ratios)

    @traitlets.validate("ratios")
    def _check_ratios(self, proposal: dict[str, Any]) -> dict[str, float]:
        ratios = dict(proposal["value"])
        if ratios != self.state.ratios:
            self.state.network.plan(ratios, **self.state.choice)  # raises what is wrong with them
        return ratios

    @traitlets.observe("ratios")
    def _ratios_changed(self, change: dict[str, Any]) -> None:
        if change["new"] != self.state.ratios:
            self.state.choose(ratios=change["new"])

    def _ipython_display_(self) -> None:
        """The lab; where it has no kernel, a picture of the tab in front."""
        front = self.tabs.views[self.tabs.selected_index]
        words = f"The lab on its tab {front.title}: {front.seen}."
        display_live(self, "The lab", name_still(front.title), words)


class Tabs(widgets.Tab):
    """The views; the one in front is kept up to date."""

    def __init__(self, state: State, tray: Tray, desk: threading.Lock, front: str) -> None:
        self.views: tuple[View, ...] = (*(tab(state, desk) for tab in TABS), Plans(tray))
        super().__init__(list(self.views))
        self.titles = TITLES
        self.observe(self._turn, "selected_index")
        self.selected_index = TITLES.index(front)
        self._turn()

    def __getitem__(self, title: str) -> View:
        """A view by its title."""
        return self.views[self.titles.index(title)]

    def _turn(self, _: object = None) -> None:
        for i, view in enumerate(self.views):
            view.look(i == self.selected_index)
