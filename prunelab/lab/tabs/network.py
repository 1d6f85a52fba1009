"""The network as a map, and what goes together."""

from html import escape
from typing import Any

import ipywidgets as widgets

from prunelab import charts
from prunelab.lab.live import live, move, table
from prunelab.lab.state import State
from prunelab.lab.tabs.view import LayerPicker, View


class Map(View):
    """The network as its maps flow, with the cut drawn in; a click on a block looks at its layer.

    Below it: who leads the layer's group, and what loses something with it.
    """

    title = "Network"
    seen = (
        "the network as a map, a block for each layer in the order of its maps, orange where "
        "filters go"
    )
    SHADES = ("saving", "sensitivity", "stage")

    def build(self) -> None:
        graph = self.state.graph
        self.picker = LayerPicker(self.state)
        self.picker.build()
        self.colour = widgets.Dropdown(
            options=self.SHADES[::2],
            description="colour",
            tooltip="saving: multiply-adds that go; sensitivity: accuracy that is lost",
            layout={"width": "170px"},
            style={"description_width": "50px"},
        )
        self.fold = widgets.Checkbox(True, description="fold repeats", indent=False)
        every, folded = (charts.describe_network(graph, fold=fold) for fold in (False, True))
        knobs = [self.picker, self.colour]
        if len(folded["kept"]) < len(every["kept"]):
            knobs.append(self.fold)
        self.top = widgets.HBox(knobs, layout={"flex_flow": "row wrap"})
        self.text = widgets.HTML()
        self._drawn: tuple[str, bool] | None = None
        self._told = ""
        for knob in (self.colour, self.fold):
            knob.observe(lambda _: self.refresh(), "value")

    def refresh(self) -> None:
        state, layer = self.state, self.state.layer
        self.picker.refresh()
        shades = [s for s in self.SHADES if s != "sensitivity" or state.measured is not None]
        if list(self.colour.options) != shades:
            kept = self.colour.value if self.colour.value in shades else shades[0]
            self.colour.options, self.colour.value = shades, kept
        choice: dict[str, Any] = {"colour": self.colour.value, "fold": self.fold.value}
        if self.colour.value == "sensitivity":
            choice["measured"] = state.measured
        drawn = self.colour.value, self.fold.value
        if drawn != self._drawn:
            self._drawn = drawn
            self.chart = live(charts.network(state.graph, state.plan, layer=layer, **choice))
            self.chart.selections.observe(self._picked, "picked")
            self.fill(self.top, self.chart, self.text)
        shown = charts.describe_network(state.graph, state.plan, **choice)
        move(self.chart, pruned=shown, chosen=layer)
        if layer != self._told:
            self._told = layer
            coupled = table(state.graph.coupled(layer), "Table: what loses something with it")
            self.text.value = describe_coupling(state) + coupled

    def _picked(self, change: dict[str, Any]) -> None:
        for point in change["new"].value:
            if point["layer"] in self.state.graph.scored:
                self.state.layer = point["layer"]


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
