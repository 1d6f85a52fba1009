"""What a page shows: style.css is the layout of the lab; still, what stands there without a kernel."""

from prunelab.lab.page.still import STYLE, display_live, find_still

__all__ = [
    "STYLE",
    "display_live",
    "find_still",
]
