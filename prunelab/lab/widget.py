"""The widget: totals above, knobs on the left, tabs on the right, what to do with it below."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import traitlets
from IPython.display import display
from torch import nn

from prunelab.data import DataSplits
from prunelab.lab.actions import Actions
from prunelab.lab.boxes import untitle
from prunelab.lab.head import Head
from prunelab.lab.knobs import Knobs
from prunelab.lab.state import Glance, State, Tray, open_network
from prunelab.lab.tabs import TABS, Plans, View
from prunelab.pruning import PruningPlan

STYLE = Path(__file__).with_name("style.css")
# seen in the place of the widget by who opens the notebook without a kernel, or ends it; a page
# that takes no styles, as of code hosts, shows it too
GONE = """<style>
.prunelab-gone { display: none; }
.jp-OutputArea:not(:has(.prunelab-lab:not(.jupyter-widgets-disconnected))) .prunelab-gone {
  display: block;
}
.jp-OutputArea:has(.prunelab-gone) .jupyter-widgets.jp-OutputArea-output:not(:has(.prunelab-lab)) {
  display: none;
}
</style>
<p class="prunelab-gone">The lab needs a running kernel: run all cells, and it is here.</p>"""


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
        normalization: Any = None,
        image_size: int | None = None,
        label: str | None = None,
        images: int = 300,
        **choice: Any,
    ) -> None:
        told = {"normalization": normalization, "image_size": image_size, "label": label}
        how = {name: value for name, value in told.items() if value}
        self.state = State(open_network(model, data, weights, **how), ratios=ratios, **choice)
        desk = threading.Lock()
        self.glance = Glance(self.state, desk, images)
        self.tray = Tray(self.state, self.glance)
        self.head = Head(self.state, self.glance, self.tray)
        self.knobs = Knobs(self.state, desk)
        self.tabs = Tabs(self.state, self.tray, desk)
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
        """The lab, and a sentence that is seen where its kernel has ended."""
        display({"text/html": GONE, "text/plain": "the lab: run all cells"}, raw=True)
        display(self._repr_mimebundle_(), raw=True)


class Tabs(widgets.Tab):
    """The views; the one in front is kept up to date."""

    def __init__(self, state: State, tray: Tray, desk: threading.Lock) -> None:
        self.views: tuple[View, ...] = (*(tab(state, desk) for tab in TABS), Plans(tray))
        super().__init__(list(self.views))
        self.titles = tuple(view.title for view in self.views)
        self.observe(self._turn, "selected_index")
        self.selected_index = 0
        self._turn()

    def __getitem__(self, title: str) -> View:
        """A view by its title."""
        return self.views[self.titles.index(title)]

    def _turn(self, _: object = None) -> None:
        for i, view in enumerate(self.views):
            view.look(i == self.selected_index)
