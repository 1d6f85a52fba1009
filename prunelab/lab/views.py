"""The tabs on the right: what is seen of the choice. A tab is drawn when it is looked at."""

from html import escape
from typing import Any

import ipywidgets as widgets
import pandas as pd
from torch import Tensor

from prunelab import charts
from prunelab.lab.live import live, move, table
from prunelab.lab.state import State


class View(widgets.VBox):
    """A tab: `build` for another network, `refresh` for another plan or layer.

    Both happen only when it is looked at.
    """

    title = ""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state, self._seen, self._stale, self._old = state, False, True, True
        state.observe(self._network_changed, "network")
        state.observe(self._plan_changed, ["plan", "layer", "measured"])

    def look(self, seen: bool) -> None:
        """Whether it is looked at; then it is brought up to date."""
        self._seen = seen
        self._catch_up()

    def _network_changed(self, _: object) -> None:
        self._stale = self._old = True
        self._catch_up()

    def _plan_changed(self, _: object) -> None:
        self._old = True
        self._catch_up()

    def _catch_up(self) -> None:
        if self._seen and self._stale:
            self._stale = False
            self.build()
        if self._seen and self._old:
            self._old = False
            self.refresh()

    def build(self) -> None:
        """Make what this network needs."""

    def refresh(self) -> None:
        """Show the plan and the layer at hand."""


class LayerPicker(widgets.Dropdown):
    """Which layer is looked at."""

    def __init__(self, state: State) -> None:
        super().__init__(
            description="layer", layout={"width": "420px"}, style={"description_width": "50px"}
        )
        self.state, self._building = state, False
        self.observe(lambda change: self._pick(change["new"]), "value")

    def _pick(self, name: str | None) -> None:
        if name and not self._building:
            self.state.layer = name

    def build(self) -> None:
        """Offer the layers of this network."""
        shapes = self.state.graph.shapes
        self._building = True  # new options come with a value of their own
        names = self.state.graph.scored
        self.options = [(f"{shapes[name].paper_name} · {name}", name) for name in names]
        self._building = False
        self.value = self.state.layer

    def refresh(self) -> None:
        """Show the one that the state says."""
        self.value = self.state.layer


class Norms(View):
    """Sorted filter norms, the cut of one layer, and the filters of the first one."""

    title = "Norms"

    def build(self) -> None:
        state = self.state
        self.picker = LayerPicker(state)
        self.picker.build()
        self.criterion = state.choice["criterion"]
        ranked = state.rank()
        self.lines = live(charts.norm_lines(ranked, state.layer))
        self.lines.selections.observe(self._picked, "picked")
        shown = charts.describe_norms(state.rank(state.layer), state.layer)
        self.dots = live(charts.layer_norms(shown, int(ranked.groupby("layer").size().max())))
        self.first = state.graph.layers[0]
        self._gone: list[int] | None = None  # what the images show
        self.images = widgets.Image(
            format="png", layout={"max_width": "720px", "object_fit": "contain"}
        )
        self.caption = widgets.HTML()
        below = [self.caption, self.images] if self._weight().ndim == 4 else []
        beside = widgets.HBox([self.lines, self.dots], layout={"flex_flow": "row wrap"})
        self.children = (self.picker, beside, *below)

    def refresh(self) -> None:
        if self.state.choice["criterion"] != self.criterion:
            self.build()
        layer = self.state.layer
        self.picker.refresh()
        move(self.lines, chosen=layer)
        move(self.dots, shown=charts.describe_norms(self.state.rank(layer), layer))
        if self._weight().ndim == 4:
            self._show_images()

    def _show_images(self) -> None:
        """The filters of the first layer; they are drawn anew when others go."""
        weight, gone = self._weight(), self._removed()
        if gone != self._gone:
            self._gone, self.images.value = gone, charts.filter_images(weight, gone)
        paper = self.state.graph.shapes[self.first].paper_name
        fate = f"{len(gone)} go (framed in orange, below)" if gone else "all stay"
        self.caption.value = (
            f"<b>The filters of {paper}</b>, largest norm first: {len(weight)}, {fate}"
        )

    def _weight(self) -> Tensor:
        return self.state.graph.filters(self.first)

    def _removed(self) -> list[int]:
        """Places of those that go, in the network at hand."""
        keep = set(self.state.plan.keep[self.first])
        numbers = self.state.graph.numbers[self.first].tolist()
        return [i for i, number in enumerate(numbers) if number not in keep]

    def _picked(self, change: dict[str, Any]) -> None:
        for point in change["new"].value:
            self.state.layer = point["layer"]


class Cost(View):
    """What each layer costs, before and after."""

    title = "Cost"

    def build(self) -> None:
        self.chart = live(charts.layer_cost(self.state.cost))
        self.text = widgets.HTML()
        self.children = (self.chart, self.text)
        self._drawn: pd.DataFrame | None = None

    def refresh(self) -> None:
        cost = self.state.cost
        if self._drawn is cost:
            return
        self._drawn = cost
        move(self.chart, left=charts.cost_left(cost))
        self.text.value = table(cost, "Table: a row for each conv and linear layer")


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
