"""Knobs: a widget that picks ratios and shows at once what would go and what it would cost."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import altair as alt
import ipywidgets as widgets
import traitlets

from prunelab import charts
from prunelab.cost import total_cost
from prunelab.graph import ChannelGraph
from prunelab.plan import PruningPlan, make_plan, rank_filters


class Lab(widgets.VBox):
    """A ratio slider for each stage, the sorted norms with what would be removed, and the totals.

    ratios: a trait, {stage: fraction of filters removed}; set it, or move the sliders, and all follows.
    plan: the plan of the ratios at hand, for the cells below. Nothing is pruned here.

    >>> lab = Lab(trace(model, x), ratios={"stage1": 0.3})
    >>> lab.ratios = {"stage1": 0.5}; small = prune(model, lab.plan)
    """

    ratios = traitlets.Dict()

    def __init__(
        self, graph: ChannelGraph, *, ratios: Mapping[str, float] | None = None, criterion: str = "l1"
    ) -> None:
        self.graph, self.criterion = graph, criterion
        free = [stage for stage in graph.stages if graph.select(stage)]
        self.sliders = {
            stage: widgets.FloatSlider(
                0, min=0, max=0.9, step=0.05, description=stage, readout_format=".0%", continuous_update=False
            )
            for stage in free
        }
        self.totals = widgets.HTML()
        self.picture = _live_chart(self._chart(make_plan(graph, {})))
        super().__init__(
            [widgets.HBox(list(self.sliders.values()), layout={"flex_flow": "row wrap"}), self.totals, self.picture]
        )
        for slider in self.sliders.values():
            slider.observe(self._slider_moved, "value")
        self.ratios = {**dict.fromkeys(free, 0.0), **(ratios or {})}

    @property
    def plan(self) -> PruningPlan:
        """The plan of the ratios at hand."""
        return make_plan(self.graph, self.ratios, criterion=self.criterion)

    @traitlets.validate("ratios")
    def _check_ratios(self, proposal: dict[str, Any]) -> dict[str, float]:
        ratios = {**self.ratios, **proposal["value"]}
        make_plan(self.graph, ratios, criterion=self.criterion)  # raises what is wrong with them
        return ratios

    @traitlets.observe("ratios")
    def _ratios_changed(self, _: object) -> None:
        for stage, slider in self.sliders.items():
            slider.value = self.ratios.get(stage, 0.0)
        plan = self.plan
        self.totals.value = describe_totals(self.graph, plan)
        self.picture.chart = self._chart(plan)

    def _slider_moved(self, change: dict[str, Any]) -> None:
        self.ratios = {**self.ratios, change["owner"].description: change["new"]}

    def _chart(self, plan: PruningPlan) -> alt.FacetChart:
        return charts.filter_norms(rank_filters(self.graph, plan, criterion=self.criterion))


def _live_chart(chart: alt.FacetChart) -> alt.JupyterChart:
    with suppress(ImportError):  # without vl-convert the chart loads its code from the network
        alt.JupyterChart.enable_offline()
    return alt.JupyterChart(chart)


def describe_totals(graph: ChannelGraph, plan: PruningPlan) -> str:
    """Multiply-adds and parameters before and after, as HTML."""
    total = total_cost(graph, plan).to_dict("index")
    before, after = total["before"], total["after"]
    names = {"flops": "multiply-adds", "params": "parameters (conv and linear)"}
    return "<br>".join(
        f"<b>{after[key] / 1e6:,.2f} M</b> of {before[key] / 1e6:,.2f} M {name}, "
        f"<b>{1 - after[key] / before[key]:.1%}</b> removed"
        for key, name in names.items()
    )
