"""A model's forward as a graph of operators, from one run of it.

tracer: `trace_forward` · recorder: notes each operator while the model runs · numbers: those of
shapes and attributes, followed · spelling: calls as torch.fx has them · shapes: what a layer gives,
without running it · code: sentences about the model's code.
"""

from prunelab.graph.tracing.code import first_line, reads_training
from prunelab.graph.tracing.recorder import LAYERS, WIDTHS, LayerCall
from prunelab.graph.tracing.spelling import ASIDE
from prunelab.graph.tracing.tracer import Trace, WhollyUnfollowed, trace_forward

__all__ = [
    "ASIDE",
    "LAYERS",
    "WIDTHS",
    "LayerCall",
    "Trace",
    "WhollyUnfollowed",
    "first_line",
    "reads_training",
    "trace_forward",
]
