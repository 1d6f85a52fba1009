"""Plans that are kept side by side: pinned ones, and all that were retrained."""

from functools import partial
from html import escape
from typing import Any

import ipywidgets as widgets

from prunelab import charts
from prunelab.lab.boxes import close_all, make_button, say_trouble
from prunelab.lab.live import live
from prunelab.lab.state import Pin, Tray
from prunelab.lab.tabs.view import View
from prunelab.utils.tensors import write_whole

BARS = (150, 22)  # pixels of a thumbnail


class Plans(View):
    """The tray: a row and a point for each plan; a click takes it up again."""

    title = "Plans"
    seen = (
        "plans side by side, whose accuracy is compared with the multiply-adds they leave; "
        "one was retrained"
    )

    def __init__(self, tray: Tray) -> None:
        super().__init__(tray.state)
        self.tray = tray
        self.text = widgets.HTML()
        make = partial(make_button, trouble=self.text)
        self.pin = make(tray.pin, "keep the plan at hand, as it is now", 120, label="Pin this plan")
        self.export = make(
            self._export, "write the table as CSV and the charts as PNG", 74, label="Export"
        )
        self.rows = widgets.VBox()
        tray.observe(self._changed, ["pins", "trouble"])
        tray.glance.observe(self._changed, "whole")
        self._drawn: tuple[Any, ...] | None = None

    def build(self) -> None:
        self._drawn = None

    def refresh(self) -> None:
        tray, whole = self.tray, self.tray.glance.whole
        drawn = tray.pins, tray.trouble, whole
        if self._drawn == drawn:
            return
        self._drawn = drawn
        head = widgets.HBox([self.pin, self.export], layout={"align_items": "center"})
        before, self.rows.children = self.rows.children, tuple(map(self._make_row, tray.pins))
        for row in before:
            close_all(row)
        self.text.value = say_trouble(tray.trouble) if tray.trouble else ""
        if not tray.pins:
            self.text.value += (
                "Nothing is pinned yet. A pinned plan stays here, with its accuracy, also when "
                "the notebook is opened again; what was retrained is pinned by itself."
            )
            self.fill(head, self.text)
            return
        chart = live(charts.kept_plans(tray.frame(), whole.accuracy if whole else None))
        chart.selections.observe(self._picked, "picked")
        self.fill(head, self.text, chart, self.rows, live(charts.plan_shares(tray.shares())))

    def _make_row(self, pin: Pin) -> widgets.HBox:
        name = widgets.Text(
            pin.name, continuous_update=False, tooltip="its name", layout={"width": "120px"}
        )
        name.observe(lambda _: self._rename(pin, name), "value")
        about = widgets.HTML(f"{draw_shares(pin)} {_describe(pin)}", layout={"flex": "1 1 300px"})
        make = partial(make_button, trouble=self.text)
        load = make(partial(self.tray.load, pin), "take this plan up again", 74, label="Load")
        drop = make(partial(self.tray.drop, pin), "keep it no longer", 36, icon="trash")
        return widgets.HBox([name, load, about, drop], layout={"align_items": "center"})

    def _rename(self, pin: Pin, name: widgets.Text) -> None:
        if name.value != pin.name and not self.tray.rename(pin, name.value):
            name.value = pin.name

    def _picked(self, change: dict[str, Any]) -> None:
        names = [point["name"] for point in change["new"].value]
        for row, pin in zip(self.rows.children, self.tray.pins, strict=True):
            if pin.name in names:
                row.children[1].click()  # as Load beside it

    def _export(self) -> None:
        frame, folder = self.tray.frame(), self.state.network.folder
        if frame.empty:
            self.text.value = "Nothing is pinned yet, so there is nothing to export."
            return
        whole = self.tray.glance.whole
        made = {"plans.csv": frame.to_csv(index=False).encode()}
        drawn = {
            "plans.png": charts.kept_plans(frame, whole.accuracy if whole else None),
            "layers.png": charts.plan_shares(self.tray.shares()),
        }
        for name, chart in drawn.items():
            made[name] = charts.render_png(chart, scale=2) or b""
        files = [write_whole(folder / name, content) for name, content in made.items() if content]
        names = ", ".join(file.name for file in files)
        self.text.value = f"Written: {names} in <code>{escape(str(folder))}</code>"


def _describe(pin: Pin) -> str:
    """What it leaves, as HTML."""
    text = f"{pin.flops_left:.1%} of multiply-adds"
    if pin.total:
        text += f", <b>{pin.correct / pin.total:.1%}</b> of {pin.total} images right"
    if pin.retrained:
        text += f", retrained for {pin.retrained.epochs} epochs at {pin.retrained.lr:g}"
    return text


def draw_shares(pin: Pin) -> str:
    """A thumbnail: a bar for each layer, as high as the share of its filters that goes; SVG."""
    width, height = BARS
    step = width / max(len(pin.shares), 1)
    bars = [
        f'<rect x="{i * step:.1f}" y="{height * (1 - share):.1f}" width="{0.85 * step:.1f}" '
        f'height="{height * share:.1f}"/>'
        for i, share in enumerate(pin.shares.values())
    ]
    return (
        f'<svg width="{width}" height="{height}" style="vertical-align:middle;'
        f'border-bottom:1px solid var(--jp-border-color1)" fill="#bc5a00">'
        f"{''.join(bars)}</svg>"
    )
