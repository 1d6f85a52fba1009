"""Buttons, and what is done to a widget and to all that it holds."""

from collections.abc import Callable, Iterator
from html import escape

import ipywidgets as widgets


def make_button(
    act: Callable[[], object],
    help: str,
    width: int,
    *,
    label: str = "",
    icon: str = "",
    trouble: widgets.HTML | None = None,
) -> widgets.Button:
    """A button of so many pixels that does something; what is refused is said in `trouble`."""
    button = widgets.Button(
        description=label, icon=icon, tooltip=help, layout={"width": f"{width}px"}
    )

    def press(_: object) -> None:
        try:
            act()
        except (ValueError, OSError) as error:
            if trouble is None:
                raise
            trouble.value = say_trouble(str(error))

    button.on_click(press)
    return button


def say_trouble(*texts: str) -> str:
    """What is refused, or odd, as HTML, a line for each."""
    return "<br>".join(f"⚠ {escape(text)}" for text in texts)


def walk(widget: widgets.Widget) -> Iterator[widgets.Widget]:
    """A widget and all that it holds."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def untitle(widget: widgets.Widget) -> None:
    """Leave no title "null" on a page, which ipywidgets 8 writes where there is no tooltip."""
    for part in walk(widget):
        if getattr(part, "tooltip", "") is None:
            part.tooltip = ""


def close_all(widget: widgets.Widget) -> None:
    """Close a widget and all that it holds, on the page too."""
    for part in [*walk(widget)]:
        for own in (getattr(part, "layout", None), getattr(part, "style", None), part):
            if isinstance(own, widgets.Widget):
                own.close()
