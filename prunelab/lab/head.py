"""What stays in view above: what is removed, what that does to the accuracy, undo and redo."""

from html import escape

import ipywidgets as widgets
import pandas as pd

from prunelab.lab.boxes import make_button
from prunelab.lab.state import Counted, Glance, State, Tray

COSTS = {
    "flops": ("multiply-adds", ""),
    "params": ("parameters", ""),
    "memory": ("memory of maps", "B"),
}


class Head(widgets.HBox):
    """Totals and accuracy of the plan at hand; undo, redo, and pin it among the plans."""

    def __init__(self, state: State, glance: Glance, tray: Tray) -> None:
        self.state, self.glance = state, glance
        self.totals = widgets.HTML(layout={"flex": "0 1 auto", "min_width": "0"})
        self.accuracy = widgets.HTML(layout={"flex": "1 1 auto", "min_width": "max-content"})
        self.undo = make_button(state.undo, "take back the last change", 36, icon="undo")
        self.redo = make_button(state.redo, "do it again", 36, icon="repeat")
        self.pin = make_button(tray.pin, "keep this plan, in Plans", 36, icon="thumb-tack")
        buttons = widgets.HBox([self.undo, self.redo, self.pin], layout={"flex": "0 0 auto"})
        super().__init__(
            [self.totals, self.accuracy, buttons],
            layout={"align_items": "center", "flex_flow": "row wrap"},
        )
        self.add_class("prunelab-head")
        state.observe(self._follow, ["plan", "measured", "noted"])
        glance.observe(self._show_accuracy, ["found", "whole", "trouble"])
        self._follow()

    def _follow(self, _: object = None) -> None:
        self.totals.value = describe_totals(self.state.cost)
        past, future = self.state.steps
        self.undo.disabled, self.redo.disabled = not past, not future
        self._show_accuracy()

    def _show_accuracy(self, _: object = None) -> None:
        glance = self.glance
        trained = self.state.trained is not None
        guess = None if trained or glance.found else self.state.predict()
        what = "retrained" if trained else "not retrained"
        if not self.state.plan.removed and not trained:
            what = "of the whole network"
        if glance.trouble:
            self.accuracy.value = _card("?", f"accuracy, {what}", escape(glance.trouble))
            return
        whole = glance.beside(glance.found) if glance.found else glance.whole
        self.accuracy.value = describe_accuracy(whole, glance.found, guess, what)


def _card(large: str, what: str, below: str) -> str:
    return (
        f'<div class="prunelab-card"><b class="large">{large}</b> {what}<br>{below or "&nbsp;"}'
        "</div>"
    )


def describe_totals(cost: pd.DataFrame) -> str:
    """What is left of multiply-adds, parameters and memory of maps, as HTML; of `Network.cost`."""
    cards = []
    for key, (name, unit) in COSTS.items():
        before, after = cost[key].sum(), cost[f"{key}_after"].sum()
        size, prefix = (1e6, "M") if before >= 1e6 else (1e3, "k")
        left = f"<b>{after / size:,.2f} {prefix}{unit}</b> of {before / size:,.2f} {prefix}{unit}"
        removed = f"−{1 - after / before:.1%}" if after < before else "0%"
        cards.append(_card(removed, name, left))
    return f'<div class="prunelab-cards">{"".join(cards)}</div>'


def describe_accuracy(
    whole: Counted | None, found: Counted | None, guess: float | None, what: str
) -> str:
    """The accuracy of the plan at hand, counted or, until then, guessed by the curves, as HTML."""
    below = ""
    if whole is not None:
        below = f"whole network <b>{whole.accuracy:.1%}</b>"
    what = f"accuracy, {what}"
    if found is not None:
        low, high = found.interval
        about = f"{low:.0%}–{high:.0%}, {found.total} validation images; {below}"
        return _card(f"{found.accuracy:.1%}", what, about)
    if guess is not None:
        what = "accuracy: a guess by the curves, each layer for itself"
        return _card(f"≲ {guess:.0%}", what, f"not counted yet; {below}")
    return _card("…", what, below)
