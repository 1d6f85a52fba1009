"""The widget: knobs on the left, tabs on the right, what to do with the choice below."""

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
from prunelab.lab.knobs import Knobs
from prunelab.lab.state import State, open_network
from prunelab.lab.tabs import Cost, Coupling, Norms, Sensitivity, Time, View
from prunelab.pruning import PruningPlan


class Lab(widgets.VBox):
    """The lab: knobs on the left, tabs on the right, what to do with the choice below.

    Args:
        model: a network of `load_model` or of your own, or a name for `load_model`; None is our
            ResNet-20, trained on digits.
        data: a data set, or what `load_data` takes: a name or an image folder.
        weights: a file that `load_model` takes or `save_pruned` wrote, for a model by name.
        ratios: where the sliders begin, as in `make_plan`.
        choice: criterion, strategy, order, rounding and align, as in `make_plan`.

    Attributes:
        ratios: {layer, stage or "*": fraction of filters removed}, a trait; set it, or move the
            sliders, and all follows.
        plan: the plan of the choice at hand, a trait that follows.
        state: all of it: `state.network.model`, `state.small`, `state.measured`, `state.trained`.

    Raises:
        ValueError: what `load_model`, `load_data`, `trace` or `make_plan` refuses; for `ratios`
            also when they are set later, and then nothing changes.
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
        **choice: Any,
    ) -> None:
        self.state = State(open_network(model, data, weights), ratios=ratios, **choice)
        desk = threading.Lock()
        self.totals = widgets.HTML()
        self.knobs = Knobs(self.state, desk)
        self.tabs = Tabs(self.state, desk)
        self.actions = Actions(self.state, desk)
        sides = widgets.HBox([self.knobs, self.tabs], layout={"flex_flow": "row wrap"})
        super().__init__([self.totals, sides, self.actions])
        self.state.observe(self._follow, "plan")
        self._follow()

    def _follow(self, _: object = None) -> None:
        self.totals.value = describe_totals(self.state.cost)
        self.set_trait("plan", self.state.plan)
        self.ratios = dict(self.state.ratios)

    @traitlets.validate("ratios")
    def _check_ratios(self, proposal: dict[str, Any]) -> dict[str, float]:
        ratios = dict(proposal["value"])
        self.state.network.plan(ratios, self.state.choice)  # raises what is wrong with them
        return ratios

    @traitlets.observe("ratios")
    def _ratios_changed(self, change: dict[str, Any]) -> None:
        if change["new"] != self.state.ratios:
            self.state.choose(ratios=change["new"])


class Tabs(widgets.Tab):
    """The views; the one in front is kept up to date."""

    def __init__(self, state: State, desk: threading.Lock) -> None:
        self.views: tuple[View, ...] = (
            Norms(state),
            Sensitivity(state, desk),
            Cost(state),
            Coupling(state),
            Time(state, desk),
        )
        super().__init__(list(self.views), layout={"flex": "1 1 640px", "min_width": "640px"})
        self.titles = tuple(view.title for view in self.views)
        self.observe(self._turn, "selected_index")
        self.selected_index = 0
        self._turn()

    def _turn(self, _: object = None) -> None:
        for i, view in enumerate(self.views):
            view.look(i == self.selected_index)


def describe_totals(cost: pd.DataFrame) -> str:
    """What is left of multiply-adds, parameters and memory of maps, as HTML; of `Network.cost`."""
    names = {
        "flops": ("multiply-adds", ""),
        "params": ("parameters", ""),
        "memory": ("memory of maps", "B"),
    }
    cards = []
    for key, (name, unit) in names.items():
        before, after = cost[key].sum(), cost[f"{key}_after"].sum()
        size, prefix = (1e6, "M") if before >= 1e6 else (1e3, "k")
        large = f'<span style="font-size:24px;line-height:1.3">{1 - after / before:.1%}</span>'
        left = f"<b>{after / size:,.2f} {prefix}{unit}</b> of {before / size:,.2f} {prefix}{unit}"
        cards.append(f'<div style="margin-right:48px">{large} of {name} removed<br>{left}</div>')
    style = "display:flex;flex-wrap:wrap;line-height:1.4;margin:4px 0"
    return f'<div style="{style}">{"".join(cards)}</div>'
