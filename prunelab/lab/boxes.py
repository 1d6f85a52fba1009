"""What is done to a widget and to all that it holds."""

from collections.abc import Iterator

import ipywidgets as widgets


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
