"""A model's forward as a graph of operators (torch.fx), from one run of it."""

import inspect
import threading
from typing import Any

import torch
from torch import Tensor, fx, nn

from prunelab.graph.tracing.code import Unfollowed, explain
from prunelab.graph.tracing.recorder import LayerCall, Opaque, Recorder

# a recorder puts hooks into torch's classes
_ONE_AT_A_TIME = threading.RLock()


class Trace(fx.GraphModule):
    """A traced model.

    Attributes:
        values: {node: what it gave, tensors as their shapes on the meta device}.
        opaque: {module taken as a whole: why, and its layers}.
        plainly_read: (module, attribute) whose number some code got as it is.
    """

    values: dict[fx.Node, Any]
    opaque: dict[str, Opaque]
    plainly_read: set[tuple[str, str]]

    def recompile(self) -> Any:
        """Its code is text that says what a forward does, and never runs: any name may be in it."""
        self._code = self._graph.python_code("self").src


class WhollyUnfollowed(Unfollowed):
    """A model whose own forward cannot be followed; `calls` are its layers."""

    def __init__(self, why: str, calls: list[LayerCall]) -> None:
        super().__init__(why)
        self.calls = calls


def trace_forward(model: nn.Module, inputs: tuple[Tensor, ...]) -> Trace:
    """The traced model, in the mode that it is in.

    The model runs on the inputs; what its forward changes in it (counters, caches) is changed.

    Raises:
        WhollyUnfollowed: what its own forward does cannot be known from one run.
    """
    recorder = Recorder(model)
    names = [*inspect.signature(model.forward).parameters][: len(inputs)]
    names += [f"input_{i}" for i in range(len(names), len(inputs))]
    with _ONE_AT_A_TIME, torch.no_grad(), torch.random.fork_rng(devices=[]):
        given = tuple(recorder.place(x, name) for x, name in zip(inputs, names, strict=True))
        try:
            with recorder.running():
                returned = recorder.follow(lambda: model(*given))
            recorder.finish(returned)
        except Exception as error:
            if getattr(error, "raised_anyway", False):
                raise
            calls: list[LayerCall] = []
            recorder.run_whole(model, "", inputs, {}, calls)
            raise WhollyUnfollowed(explain(error), calls) from error
        finally:
            recorder.close()
    traced = Trace(model, recorder.graph)
    traced.values, traced.opaque = recorder.values, recorder.opaque
    traced.plainly_read = recorder.plainly_read
    return traced
