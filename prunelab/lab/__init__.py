"""Knobs: pick layers and ratios, see at once what would go and what it would cost, try it, keep the recipe.

The widget is layout over the library: `state.py` holds the choice, `knobs.py` is the left side, `views.py` the tabs,
`actions.py` what is below, `jobs.py` the threads of long work, `export.py` the recipe and the code.
"""

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
from prunelab.lab.views import Tabs
from prunelab.plan import PruningPlan

__all__ = ["Lab"]


class Lab(widgets.VBox):
    """The lab: knobs on the left, tabs on the right, what to do with the choice below.

    model: a network of `load_model` or of your own, or a name; None is our ResNet-20, trained on digits.
    data: a data set or its name. weights: a file, for a model by name. ratios, choice: as in `make_plan`.

    ratios: a trait, {layer, stage or "*": fraction of filters removed}; set it, or move the sliders, and all follows.
    plan: the plan of the choice at hand. state: all of it (`state.network.model`, `state.small`, `state.measured`, …).

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
        self.knobs, self.tabs, self.actions = Knobs(self.state, desk), Tabs(self.state, desk), Actions(self.state, desk)
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
        self.state.network.plan(proposal["value"], self.state.choice)  # raises what is wrong with them
        return dict(proposal["value"])

    @traitlets.observe("ratios")
    def _ratios_changed(self, change: dict[str, Any]) -> None:
        if change["new"] != self.state.ratios:
            self.state.choose(ratios=change["new"])


def describe_totals(cost: pd.DataFrame) -> str:
    """What is left of multiply-adds, parameters and memory of maps, as HTML; the cost of `Network.cost`."""
    names = {"flops": ("multiply-adds", ""), "params": ("parameters", ""), "memory": ("memory of maps", "B")}
    cards = []
    for key, (name, unit) in names.items():
        before, after = cost[key].sum(), cost[f"{key}_after"].sum()
        size, prefix = (1e6, "M") if before >= 1e6 else (1e3, "k")
        cards.append(
            f'<div style="margin-right:48px"><span style="font-size:24px;line-height:1.3">{1 - after / before:.1%}</span> '
            f"of {name} removed<br><b>{after / size:,.2f} {prefix}{unit}</b> of {before / size:,.2f} {prefix}{unit}</div>"
        )
    return f'<div style="display:flex;flex-wrap:wrap;line-height:1.4;margin:4px 0">{"".join(cards)}</div>'
