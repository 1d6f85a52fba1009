"""What every tab is: drawn when it is looked at, and brought up to date then."""

import threading

import altair as alt
import ipywidgets as widgets

from prunelab.lab.boxes import untitle, walk
from prunelab.lab.state import Network, State


class View(widgets.VBox):
    """A tab: `build` for another network, `refresh` for another plan or layer.

    Both happen only when it is looked at. seen: what a picture of it shows.
    """

    title = ""
    seen = ""

    def __init__(self, state: State, desk: "threading.Lock | None" = None) -> None:
        super().__init__()
        self.state, self._seen, self._old = state, False, True
        self._built: Network | None = None  # the network that it is built for
        state.observe(self._changed, ["network", "plan", "layer", "measured", "noted"])

    def look(self, seen: bool) -> None:
        """Whether it is looked at; then it is brought up to date."""
        self._seen = seen
        self._catch_up()

    def _changed(self, _: object) -> None:
        self._old = True
        self._catch_up()

    def _catch_up(self) -> None:
        with self.state.lock:
            if self._seen and self._built is not self.state.network:
                self._built = self.state.network
                self.build()
            if self._seen and self._old:
                self._old = False
                self.refresh()

    def fill(self, *parts: widgets.Widget) -> None:
        """Show these parts; live charts that are shown no longer are closed, and their boxes."""
        before = [own for part in self.children for own in walk(part)]  # type: ignore[has-type]
        self.children = parts
        untitle(self)
        kept = {own for part in parts for own in walk(part)}
        for own in before:
            charts = [own, *getattr(own, "children", ())]
            if own not in kept and any(isinstance(part, alt.JupyterChart) for part in charts):
                own.close()

    def build(self) -> None:
        """Make what this network needs."""

    def refresh(self) -> None:
        """Show the plan and the layer at hand."""


class LayerPicker(widgets.Dropdown):
    """Which layer is looked at."""

    def __init__(self, state: State) -> None:
        super().__init__(
            description="layer",
            layout={"width": "auto", "max_width": "420px"},
            style={"description_width": "50px"},
        )
        self.state, self._building = state, False
        self.observe(lambda change: self._pick(change["new"]), "value")

    def _pick(self, name: str | None) -> None:
        with self.state.lock:  # a page may still speak of the network before
            if name in self.state.graph.scored and not self._building:
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
