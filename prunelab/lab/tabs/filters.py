"""Inside a layer: its filters as pictures, picked by hand with a click, and two criteria."""

import io
import threading
from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

import altair as alt
import ipywidgets as widgets
import pandas as pd
from PIL import Image
from torch import Tensor

from prunelab import charts
from prunelab.lab.boxes import say_trouble
from prunelab.lab.jobs import Job, JobBar
from prunelab.lab.live import live, redraw
from prunelab.lab.state import State
from prunelab.lab.tabs.view import LayerPicker, View
from prunelab.measure import feature_maps
from prunelab.pruning import CRITERIA, IMAGE_CRITERIA, rank_filters
from prunelab.utils.progress import Report

KERNELS, MAPS = "kernels", "maps on image"
EMPTY = alt.Chart(alt.Data(values=[])).mark_point()
NARROW = {"description_width": "initial"}


class Filters(View):
    """The filters of a layer as tiles: a click lets one go, or stay, whatever its score."""

    title = "Filters"
    seen = (
        "the filters of one layer as small pictures, sorted by score, those that go framed in "
        "orange; below, each filter as a point, one criterion against another"
    )

    def __init__(self, state: State, desk: threading.Lock) -> None:
        super().__init__(state)
        self.picker = LayerPicker(state)
        self.what = widgets.Dropdown(
            options=[KERNELS, MAPS],
            tooltip="the weights, or what the layer makes of a validation image",
            layout={"width": "150px"},
        )
        self.sample = widgets.Image(format="png", layout={"width": "48px", "height": "48px"})
        self.label = widgets.HTML()
        self.forget = widgets.Button(
            description="Undo hand picks of this layer",
            tooltip="let the scores decide again",
            layout={"width": "220px"},
        )
        self.trouble = widgets.HTML()
        self.second = widgets.Dropdown(
            options=CRITERIA, value="l2", description="compare with", style=NARROW
        )
        self.job = Job(self._score, desk)
        self.bar = JobBar(
            self.job, "Score", help="look at the training images, once", unit="images"
        )
        self.what.observe(self._look_again, "value")
        self.second.observe(self._look_again, "value")
        self.forget.on_click(lambda _: self._act(self.state.forget_hand))

    def build(self) -> None:
        self.picker.build()
        self.image = widgets.BoundedIntText(
            max=len(self.state.network.data.val) - 1,
            description="validation image",
            layout={"width": "190px"},
            style=NARROW,
        )
        self.image.observe(self._look_again, "value")
        self._pictures: tuple[object, dict[int, str]] = None, {}
        self._sampled: tuple[int, Tensor] | None = None
        self._shown: dict[str, object] = {}  # by chart
        self.tiles, self.scatter = live(EMPTY), live(EMPTY)
        self.tiles.layout.overflow = "auto"  # tiles keep their size
        flow = {"flex_flow": "row wrap", "align_items": "center"}
        chosen = [self.picker, self.what, self.image, self.sample, self.label]
        compared = widgets.HBox([self.second, self.bar], layout=flow)
        top = widgets.HBox(chosen, layout=flow)
        self.fill(top, self.tiles, self.forget, self.trouble, compared, self.scatter)

    def refresh(self) -> None:
        self.picker.refresh()
        self.trouble.value = ""
        for part in (self.image, self.sample, self.label):
            part.layout.display = "" if self.what.value == MAPS else "none"
        ranked = self._rank()
        self.forget.disabled = not ranked["by_hand"].any()
        if self._is_new("tiles", [ranked.to_csv(), self.what.value, self.image.value]):
            redraw(self.tiles, charts.filter_tiles(ranked, self._draw()))
            self.tiles.selections.observe(self._picked, "picked")
        self._show_scores(ranked)

    def _is_new(self, chart: str, shown: object) -> bool:
        """Whether a chart shows something else so far; then it is drawn anew."""
        before, self._shown[chart] = self._shown.get(chart), shown
        return before != shown

    def _look_again(self, _: object) -> None:
        self._changed(None)

    def _rank(self) -> pd.DataFrame:
        """The filters of the layer at hand, with what was picked by hand."""
        state, settings = self.state, self.state.plan.settings
        leader, hand = state.graph.group_of(state.layer).leader, set()
        for name in ("keep", "drop"):
            for layer, numbers in settings.get(name, {}).items():
                if state.graph.group_of(layer).leader == leader:
                    hand |= set(numbers)
        ranked = state.rank(state.layer)
        return ranked.assign(by_hand=ranked["filter"].isin(hand))

    def _draw(self) -> dict[int, str]:
        """The pictures of the layer's filters; they are drawn once for each layer and image."""
        graph, layer = self.state.graph, self.state.layer
        key = layer, self.what.value, self.image.value
        if key != self._pictures[0]:
            drawn = None
            if self.what.value == MAPS:
                try:
                    drawn = charts.map_pictures(feature_maps(graph, layer, self._sample())[0])
                except ValueError as error:
                    self._say(error)
            drawn = drawn or charts.kernel_pictures(graph.filters(layer))
            self._pictures = key, dict(zip(graph.numbers[layer].tolist(), drawn, strict=True))
        return self._pictures[1]

    def _sample(self) -> Tensor:
        """The validation image that is chosen, (1, 3, h, w), which is shown with its class."""
        number, data = self.image.value, self.state.network.data
        if self._sampled is None or self._sampled[0] != number:
            images, labels = next(iter(data.val.batches(1, skip=number)))
            self._sampled = number, images
            self.sample.value = _to_png(images[0])
            self.label.value = f"<b>{escape(str(data.classes[int(labels[0])]))}</b>"
        return self._sampled[1]

    def _picked(self, change: dict[str, Any]) -> None:
        for point in change["new"].value:
            self._act(partial(self.state.toggle, number=int(point["filter"])))

    def _act(self, change: Callable[[str], None]) -> None:
        """Do to the layer what a click asks for; what is refused is said."""
        try:
            change(self.state.layer)
        except ValueError as error:
            self._say(error)

    def _say(self, error: Exception) -> None:
        self.trouble.value = say_trouble(str(error))

    def _show_scores(self, ranked: pd.DataFrame) -> None:
        """Show the second criterion beside the one at hand, or offer to score by it."""
        network, layer, other = self.state.network, self.state.layer, self.second.value
        known = other in network.known or other not in IMAGE_CRITERIA
        self.bar.layout.display = "none" if known and not self.job.running else ""
        self.scatter.layout.display = "none"
        if not known:
            return
        try:
            scores = {layer: network.scores(other)[layer]}
        except ValueError as error:
            return self._say(error)
        self.scatter.layout.display = ""
        names = self.state.choice["criterion"], other
        if self._is_new("scatter", [ranked.to_csv(), names]):
            second = rank_filters(self.state.graph, scores=scores)
            redraw(self.scatter, charts.compare_scores(ranked, second, layer, names=names))

    def _score(self, report: Report) -> str:
        network, criterion = self.state.network, self.second.value
        network.scores(criterion, report)
        if self.state.network is network:
            self._look_again(None)
        return f"{criterion} looked at {len(network.data.train):,} training images."


def _to_png(image: Tensor) -> bytes:
    """An image, stretched to the whole range. (3, h, w) -> a PNG"""
    low, high = image.min(), image.max()
    pixels = ((image - low) / (high - low).clamp(min=1e-12) * 255).byte().movedim(0, -1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.cpu().numpy()).save(buffer, "PNG")
    return buffer.getvalue()
