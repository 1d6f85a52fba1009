"""What is coupled with what, and only that: a traced model, its layers, filters that go together.

channel_graph: `trace` and its result · groups · walk: one run of a model · tracing: that run as a
graph of operators · propagation: labels (labels) of channels, through it · operators: one rule
each, for what calls says · flow: which maps go where · numbering · history.
"""

from prunelab.graph.channel_graph import ChannelGraph, check_graph, trace
from prunelab.graph.groups import Group
from prunelab.graph.labels import Channels, Layer, Mix
from prunelab.graph.operators import rule
from prunelab.graph.tracing import trace_forward

__all__ = [
    "ChannelGraph",
    "Channels",
    "Group",
    "Layer",
    "Mix",
    "check_graph",
    "rule",
    "trace",
    "trace_forward",
]
