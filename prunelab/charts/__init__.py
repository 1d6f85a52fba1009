"""Charts: each one a function of a tidy frame that returns an Altair chart.

`charts.enable()` makes them show without a network. style: one look · filters: norms and images ·
plans: what goes with what · curves: accuracy · costs, front: what multiply-adds and time buy ·
predictions: what breaks · tiles: inside a layer · network: it as a map, laid out by layout.
"""

import sys

# jsonschema, which altair imports, would build a grammar of web addresses: two seconds and a half,
# of each kernel, for a check that charts never make
without = sys.modules.setdefault("rfc3987_syntax", None) is None  # type: ignore[arg-type]

from prunelab.charts.costs import changes, choices, cost_left, latency, layer_cost, tradeoff
from prunelab.charts.curves import (
    HANDLES,
    compare_sensitivity,
    learning_curves,
    place_handles,
    sensitivity,
    sensitivity_handles,
    sensitivity_map,
    strategies,
)
from prunelab.charts.filters import (
    describe_norms,
    filter_images,
    filter_norms,
    layer_norms,
    norm_lines,
    steepness,
)
from prunelab.charts.front import front
from prunelab.charts.network import describe_network, network
from prunelab.charts.plans import coupling, kept_plans, overlap, plan_shares
from prunelab.charts.predictions import class_accuracy, confusion, flip_images
from prunelab.charts.style import Picture, as_picture, enable, picture, render_png
from prunelab.charts.sweep import sweep
from prunelab.charts.tiles import compare_scores, filter_tiles, kernel_pictures, map_pictures

if without:  # who wants it later gets it
    del sys.modules["rfc3987_syntax"]
del sys, without

__all__ = [
    "HANDLES",
    "Picture",
    "as_picture",
    "changes",
    "choices",
    "class_accuracy",
    "compare_scores",
    "compare_sensitivity",
    "confusion",
    "cost_left",
    "coupling",
    "describe_network",
    "describe_norms",
    "enable",
    "filter_images",
    "filter_norms",
    "filter_tiles",
    "flip_images",
    "front",
    "kept_plans",
    "kernel_pictures",
    "latency",
    "layer_cost",
    "layer_norms",
    "learning_curves",
    "map_pictures",
    "network",
    "norm_lines",
    "overlap",
    "picture",
    "place_handles",
    "plan_shares",
    "render_png",
    "sensitivity",
    "sensitivity_handles",
    "sensitivity_map",
    "steepness",
    "strategies",
    "sweep",
    "tradeoff",
]
