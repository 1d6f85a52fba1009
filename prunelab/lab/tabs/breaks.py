"""What breaks: classes that lose, what is taken for what, the images whose answer flips."""

import threading
import weakref
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import ipywidgets as widgets
import pandas as pd
from torch import nn

from prunelab import charts
from prunelab.lab.jobs import Job, JobBar
from prunelab.lab.live import live, redraw, table
from prunelab.lab.state import State
from prunelab.lab.tabs.view import View
from prunelab.pruning import prune
from prunelab.training import count_classes, count_confusions, find_flips, predict
from prunelab.utils.progress import Report

MOST = 2000  # images, unless more are asked for
CARDS = 25  # images that are shown
VERDICTS = {"that broke": "broke", "that were mended": "mended", "all": ""}
HINT = (
    "An accuracy does not say what is lost. <b>Look</b> asks the whole and the pruned network, and "
    "the retrained one where there is one, about validation images: which classes lose, what is "
    "taken for what, and which images the networks answer differently."
)


@dataclass(frozen=True, eq=False)
class Answers:
    """What networks answered, and which retrained one was among them."""

    predicted: pd.DataFrame
    retrained: "weakref.ref[nn.Module] | None"

    def of(self, trained: nn.Module | None) -> pd.DataFrame:
        """Without those of another retrained network than this one."""
        if trained is not None and self.retrained is not None and self.retrained() is trained:
            return self.predicted
        return self.predicted[self.predicted["network"] != "retrained"]


class Breaks(View):
    """Accuracy of each class, confusions, and images that flip, of the plan at hand."""

    title = "What breaks"
    seen = (
        "the error by class of the whole and the pruned network, and below it which answers "
        "become worse or better"
    )

    def __init__(self, state: State, desk: threading.Lock) -> None:
        super().__init__(state)
        self.images = widgets.BoundedIntText(
            MOST,
            min=1,
            max=10**7,
            description="images",
            tooltip="validation images, at most; always the same ones",
            layout={"width": "130px"},
            style={"description_width": "initial"},
        )
        self.job = Job(self._look, desk)
        self.bar = JobBar(
            self.job,
            "Look",
            help="ask each network about validation images",
            unit="answers",
            options=(self.images,),
        )
        self.compared = _make_dropdown("show", "220px")
        self.pair, self.verdict = _make_dropdown("images", "230px"), _make_dropdown("", "150px")
        _offer(self.verdict, list(VERDICTS.items()))
        self.compared.observe(self._redraw_map, "value")
        for choice in (self.pair, self.verdict):
            choice.observe(self._show_flips, "value")
        self.text, self.told, self.table = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.sheet = widgets.Image(format="png", layout={"max_width": "100%"})

    def build(self) -> None:
        self._drawn: tuple[Answers | None, nn.Module | None] | None = None
        self._predicted: pd.DataFrame | None = None

    def refresh(self) -> None:
        drawn = self.state.find("answers"), self.state.trained
        if drawn == self._drawn:
            return
        self._drawn, self._predicted = drawn, None
        if drawn[0] is None:
            self.text.value = HINT
            self.fill(self.bar, self.text)
        else:
            self._show(drawn[0].of(drawn[1]))

    def _look(self, report: Report) -> str:
        state, network, plan = self.state, self.state.network, self.state.plan
        trained = state.trained
        models = {"whole": network.model, "pruned": prune(network.model, plan, graph=network.graph)}
        if trained is not None:
            models["retrained"] = trained
        data = network.data
        images = min(self.images.value, len(data.val))
        found = predict(models, data.val, classes=data.classes, images=images, on_batch=report)
        if state.network is network:
            retrained = None if trained is None else weakref.ref(trained)
            state.note("answers", Answers(found, retrained), plan)
        return f"{images:,} validation images; test images are for the end."

    def _show(self, predicted: pd.DataFrame) -> None:
        networks = list(dict.fromkeys(predicted["network"]))
        pairs = [(" → ".join(pair), pair) for pair in combinations(networks, 2)]
        _offer(self.compared, [*pairs, *((name, (name,)) for name in networks)])
        _offer(self.pair, pairs)
        self._predicted, self._confusions = predicted, count_confusions(predicted)
        counted = count_classes(predicted)
        self.text.value = self._describe(counted)
        self.table.value = table(_name_classes(counted), "Table of all classes")
        self.map = live(self._make_map())
        self._show_flips()
        flips = widgets.HBox([self.pair, self.verdict], layout={"flex_flow": "row wrap"})
        accuracies = live(charts.class_accuracy(counted))
        parts = [accuracies, self.table, self.compared, self.map, flips, self.told, self.sheet]
        self.fill(self.bar, self.text, *parts)

    def _describe(self, counted: pd.DataFrame) -> str:
        sums = counted.groupby("network", observed=True)[["correct", "total"]].sum()
        shares = [f"{name} {own.correct / own.total:.1%}" for name, own in sums.iterrows()]
        said = f"Right on {sums['total'].max():,} validation images: {', '.join(shares)}."
        if self.state.trained is not None and "retrained" not in sums.index:
            said += " The retrained network was not asked yet: <b>Look</b> again."
        return said

    def _make_map(self) -> Any:
        confusions = self._confusions
        return charts.confusion(confusions[confusions["network"].isin(self.compared.value)])

    def _redraw_map(self, _: object) -> None:
        if self._predicted is not None:
            redraw(self.map, self._make_map())

    def _show_flips(self, _: object = None) -> None:
        if self._predicted is None:
            return
        one, other = self.pair.value
        flips = find_flips(self._predicted, one, other)
        counts = flips["verdict"].value_counts()
        shown = flips[flips["verdict"] == self.verdict.value] if self.verdict.value else flips
        self.told.value = (
            f"<b>{one} → {other}</b>: {counts['broke']:,} images broke (orange), "
            f"{counts['mended']:,} were mended (blue), {counts['both wrong']:,} are wrong in "
            f"another way (grey). {_count_cards(len(shown), other)}"
        )
        self.sheet.layout.display = "" if len(shown) else "none"
        if len(shown):
            split = self.state.network.data.val
            self.sheet.value = charts.flip_images(split, shown, limit=CARDS)


def _make_dropdown(description: str, width: str) -> widgets.Dropdown:
    style = {"description_width": "initial"}
    return widgets.Dropdown(description=description, layout={"width": width}, style=style)


def _offer(dropdown: widgets.Dropdown, options: list[Any]) -> None:
    """Offer these options; what was chosen stays chosen where it is among them."""
    before, values = dropdown.value, [value for _, value in options]
    dropdown.options = options
    dropdown.value = before if before in values else values[0]


def _count_cards(images: int, network: str) -> str:
    if not images:
        return "None to show."
    if images <= CARDS:
        return f"All {images} are below, first those of which {network} is surest."
    return f"Below: the {CARDS} of which {network} is surest."


def _name_classes(counted: pd.DataFrame) -> pd.DataFrame:
    """`count_classes` for reading: a row for each class, accuracies in per cent."""
    frame = counted.astype({"network": str, "class": str})
    named = frame.drop_duplicates("class").set_index("class")[["total"]]
    named.columns = ["images"]
    for name, own in frame.groupby("network", sort=False):
        named[f"{name}, %"] = 100 * own.set_index("class")["accuracy"]
    return named.reset_index()
