"""Knobs: pick layers and ratios, see at once what would go and what it costs, try it, keep it.

The widget is layout over the library: `state` holds the choice, `knobs` and `sliders` are the left
side, `tabs` the right, `actions` what is below; `jobs` are threads of long work, `live` moving
charts, `page` how it looks and what stands there without a kernel, `sweep` a look at one.
"""

from prunelab.lab.sweep.view import SweepView
from prunelab.lab.widget import Lab

__all__ = [
    "Lab",
    "SweepView",
]
