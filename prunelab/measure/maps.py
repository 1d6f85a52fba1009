"""What a layer makes of images."""

from typing import Any

import torch
from torch import Tensor, nn

from prunelab.graph import ChannelGraph, check_graph
from prunelab.utils.modules import find_place


def feature_maps(graph: ChannelGraph, layer: str, images: Tensor) -> Tensor:
    """What a layer makes of images, before batch norm, in evaluation mode.

    Args:
        graph: of `trace`; its model is as before afterwards.
        layer: by its qualified or its paper name.
        images: (n, 3, h, w), normalised, on any device.

    Returns:
        (n, filters, h, w) on the model's device; where the layer runs several times in a forward,
        what it makes at first.

    Raises:
        ValueError: no graph, an unknown layer, or one that the model's code applies as a function.

    Example:
        >>> images, labels = next(data.val.batches(8))
        >>> feature_maps(graph, "conv_2", images).shape
        torch.Size([8, 16, 32, 32])
    """
    check_graph(graph, "feature_maps")
    model, module = graph.model, graph.module_of(layer)
    found: list[Tensor] = []

    def note(module: nn.Module, args: Any, out: Tensor) -> None:
        maps = out.movedim(-1, 1) if isinstance(module, nn.Linear) else out
        found.append(maps.clone())  # what follows may work in place

    training = {part: part.training for part in model.modules()}
    handle = module.register_forward_hook(note)
    try:
        with torch.no_grad():
            model.eval()(images.to(*find_place(model)))
    finally:
        handle.remove()
        for part, mode in training.items():
            part.training = mode
    return found[0]
