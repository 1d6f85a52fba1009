"""Sorted filter norms: of every layer, and of the one that is looked at."""

from typing import Any

import ipywidgets as widgets
from torch import Tensor

from prunelab import charts
from prunelab.lab.live import live, move
from prunelab.lab.state import State
from prunelab.lab.tabs.view import LayerPicker, View


class Norms(View):
    """Sorted filter norms, the cut of one layer, and the filters of the first one."""

    title = "Norms"
    seen = (
        "the sorted norms of each layer's filters, a line for each layer; beside them those "
        "of one layer, orange where filters go; below, the filters of the first layer as "
        "small pictures"
    )

    def build(self) -> None:
        state = self.state
        self.picker = LayerPicker(state)
        self.picker.build()
        self.criterion = state.choice["criterion"]
        ranked = state.rank()
        self.lines = live(charts.norm_lines(ranked, state.layer))
        self.lines.selections.observe(self._picked, "picked")
        shown = describe_layer(state)
        self.dots = live(charts.layer_norms(shown, int(ranked.groupby("layer").size().max())))
        self.first = state.graph.layers[0]
        self._gone: list[int] | None = None  # what the images show
        self.images = widgets.Image(
            format="png", layout={"max_width": "720px", "object_fit": "contain"}
        )
        self.caption = widgets.HTML()
        below = [self.caption, self.images] if self._weight().ndim == 4 else []
        for chart in (self.lines, self.dots):
            chart.layout.flex, chart.layout.width, chart.layout.min_width = "1 1 280px", "", "280px"
        beside = widgets.HBox([self.lines, self.dots], layout={"flex_flow": "row wrap"})
        self.fill(self.picker, beside, *below)

    def refresh(self) -> None:
        if self.state.choice["criterion"] != self.criterion:
            self.build()
        layer = self.state.layer
        self.picker.refresh()
        move(self.lines, chosen=layer)
        move(self.dots, shown=describe_layer(self.state))
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


def describe_layer(state: State) -> dict[str, Any]:
    """`describe_norms` of the layer at hand, under its paper name: the picker says the other.

    There is no room for both: some names are longer than the chart is wide.
    """
    shown = charts.describe_norms(state.rank(state.layer), state.layer)
    return {**shown, "title": shown["title"].replace(f" ({state.layer})", "", 1)}
