"""What a page shows: style.css lays the lab out; still stands there without a kernel."""

from prunelab.lab.page.still import STYLE, display_live, find_still, name_still

__all__ = [
    "STYLE",
    "display_live",
    "find_still",
    "name_still",
]
