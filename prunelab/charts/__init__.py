"""Charts: each one a function of a tidy frame that returns an Altair chart.

`charts.enable()` makes them show without a network. style: one look · filters: norms and images ·
plans: what goes with what, and what criteria share · curves: accuracy · costs: multiply-adds, time,
and what they buy.
"""

from prunelab.charts.costs import choices, cost_left, latency, layer_cost, tradeoff
from prunelab.charts.curves import compare_sensitivity, learning_curves, sensitivity
from prunelab.charts.filters import (
    describe_norms,
    filter_images,
    filter_norms,
    layer_norms,
    norm_lines,
)
from prunelab.charts.plans import coupling, overlap
from prunelab.charts.style import enable, render_png

__all__ = [
    "choices",
    "compare_sensitivity",
    "cost_left",
    "coupling",
    "describe_norms",
    "enable",
    "filter_images",
    "filter_norms",
    "latency",
    "layer_cost",
    "layer_norms",
    "learning_curves",
    "norm_lines",
    "overlap",
    "render_png",
    "sensitivity",
    "tradeoff",
]
