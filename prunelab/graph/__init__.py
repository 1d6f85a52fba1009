"""What is coupled with what, and only that: a traced model, its layers, filters that go together.

channel_graph: `trace` and its result · groups · walk, tracer, propagation: one run of a model, with
labels (labels) on its channels · operators: one rule each · numbering · shapes · history.
"""

from prunelab.graph.channel_graph import ChannelGraph, trace
from prunelab.graph.groups import Group
from prunelab.graph.labels import Layer
from prunelab.graph.operators import rule
from prunelab.graph.tracer import trace_forward

__all__ = [
    "ChannelGraph",
    "Group",
    "Layer",
    "rule",
    "trace",
    "trace_forward",
]
