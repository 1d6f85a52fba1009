"""What stands in the place of a widget where no kernel runs: a picture of it, and a sentence."""

import base64
from html import escape
from pathlib import Path

import ipywidgets as widgets
from IPython.display import display

from prunelab.utils.paths import find_shipped

STYLE = Path(__file__).with_name("style.css")
LIVE = ":has(.prunelab-lab:not(.jupyter-widgets-disconnected), .prunelab-sweep)"
# the sentence and the picture before it go while the widget lives; a page that takes no styles, or
# draws outputs in another way, as of code hosts, shows them
HIDE = f"""<style>
.jp-OutputArea{LIVE} > .jp-OutputArea-child:has(.prunelab-gone),
.jp-OutputArea{LIVE} > .jp-OutputArea-child:has(+ .jp-OutputArea-child .prunelab-still),
.jp-OutputArea:has(.prunelab-gone)
  .jupyter-widgets.jp-OutputArea-output:not(:has(.prunelab-lab, .prunelab-sweep)) {{
  display: none;
}}
</style>"""


def find_still(name: str) -> Path | None:
    """The picture of a widget; None where no pictures are, as in an installed package."""
    try:
        return find_shipped(f"notebooks/images/{name}.png")
    except FileNotFoundError:
        return None


def name_still(tab: str) -> str:
    """The name of the picture of the lab with a tab in front."""
    return f"lab-{tab.lower().replace(' ', '-')}"


def display_live(widget: widgets.DOMWidget, what: str, still: str, words: str) -> None:
    """Display a widget, and before it what is seen where it has no kernel, or its kernel ended.

    Args:
        widget: the widget.
        what: what it is called, "The lab".
        still: the name of its picture.
        words: what that picture shows, for who cannot see it. JupyterLab drops the `alt` of an
            output, so the sentence below says it, too.
    """
    path = find_still(still)
    sentence = f"{what} needs a running kernel: run all cells, and it is here."
    if path is not None:
        drawn = {
            "image/png": base64.b64encode(path.read_bytes()).decode(),
            "text/plain": words,
        }
        display(drawn, metadata={"image/png": {"alt": words}}, raw=True)
        sentence = f"A still: {words} {sentence}"
    kind = "prunelab-gone prunelab-still" if path else "prunelab-gone"
    told = f'{HIDE}\n<p class="{kind}">{escape(sentence)}</p>'
    display({"text/html": told, "text/plain": sentence}, raw=True)
    display(widget._repr_mimebundle_(), raw=True)
