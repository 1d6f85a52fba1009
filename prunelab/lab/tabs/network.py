"""What goes together."""

from html import escape

import ipywidgets as widgets
import pandas as pd

from prunelab import charts
from prunelab.lab.live import live, table
from prunelab.lab.state import State
from prunelab.lab.tabs.view import LayerPicker, View


class Coupling(View):
    """What goes with a layer's filters, who leads, and why; the same whatever the ratios."""

    title = "Coupling"

    def build(self) -> None:
        self.picker = LayerPicker(self.state)
        self.picker.build()
        coupled = self.state.graph.coupled(self.state.layer)
        self.chart = live(charts.coupling(coupled))
        self.text = widgets.HTML()
        self.children = (self.picker, self.chart, self.text)
        self._describe(coupled)

    def refresh(self) -> None:
        self.picker.refresh()
        if self._drawn != self.state.layer:
            coupled = self.state.graph.coupled(self.state.layer)
            self.chart.chart = charts.coupling(coupled)
            self._describe(coupled)

    def _describe(self, coupled: pd.DataFrame) -> None:
        self._drawn = self.state.layer
        self.text.value = describe_coupling(self.state) + table(coupled)


def describe_coupling(state: State) -> str:
    """Who leads and whether the group can lose filters, as HTML."""
    group = state.graph.group_of(state.layer)
    paper_name = state.graph.shapes[group.leader].paper_name
    what = f"<b>{paper_name}</b> ({escape(group.leader)})"
    if len(group.layers) > 1:
        what += f" leads: its norms decide for {len(group.layers)} tied layers"
    else:
        what += " goes alone"
    verdict = "its filters can go"
    if not group.prunable:
        verdict = f"<b>they stay</b>: {escape(group.reason)}"
    return f"<p>{what}; {verdict}.</p>"
