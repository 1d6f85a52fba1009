"""What goes with a filter, by us and by Torch-Pruning 1.6.

couplings.json explains where the two differ.
"""

import json
import warnings
from pathlib import Path

import torch_pruning as tp
from torch import Tensor, nn

from prunelab import ChannelGraph

EXPLAINED = json.loads(Path(__file__).with_name("couplings.json").read_text())
Coupled = set[tuple[str, str, int]]  # (layer, out or in, place)


def compare(name: str, model: nn.Module, graph: ChannelGraph, x: Tensor) -> str:
    """A verdict for all convs of a network.

    What goes with the first filter of each is compared place by place.
    """
    try:
        other = theirs(model, x)
    except ZeroDivisionError:
        unexplained = f"Torch-Pruning fails on {name}: couplings.json does not say so"
        assert name in EXPLAINED["fails"], unexplained
        return "Torch-Pruning fails"
    assert name not in EXPLAINED["fails"], f"Torch-Pruning can do {name} by now"
    assert other.keys() == set(graph.layers)
    grouped = 0
    for layer in graph.layers:
        mine = ours(graph, layer)
        if mine == other[layer]:
            continue
        assert mine > other[layer], (layer, other[layer] - mine)
        assert {entry[:2] for entry in mine} == {entry[:2] for entry in other[layer]}, layer
        assert any(graph.shapes[n].groups > 1 for n, _, _ in mine if n in graph.shapes), layer
        grouped += 1
    return f"same ({grouped} in units of groups)" if grouped else "same"


def ours(graph: ChannelGraph, layer: str) -> Coupled:
    """Filter 0 of a layer, and all that goes with it."""
    channels = graph.channels
    unit = channels.root[channels.made[layer][0]]
    found: Coupled = set()

    def add(name: str, role: str, labels: Tensor) -> None:
        places = (channels.root[labels] == unit).nonzero()
        found.update((name, role, int(place)) for place in places)

    for name, shape in graph.shapes.items():
        add(name, "out", channels.made[name])
        if not shape.groups == shape.n_in > 1:
            add(name, "in", channels.reads[name])
    for tensor, dims in channels.slices.items():
        if tensor.endswith("running_mean"):
            add(tensor.rpartition(".")[0], "out", dims[0])
    return found


def theirs(model: nn.Module, x: Tensor) -> dict[str, Coupled]:
    names = {module: name for name, module in model.named_modules()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = tp.DependencyGraph().build_dependency(model.eval(), x[:1])
    found: dict[str, Coupled] = {}
    for module in (m for m in names if isinstance(m, nn.Conv2d) and m in graph.module2node):
        depthwise = module.groups == module.out_channels > 1
        start = tp.prune_depthwise_conv_out_channels if depthwise else tp.prune_conv_out_channels
        own = found.setdefault(names[module], set())
        for step, places in graph.get_pruning_group(module, start, idxs=[0]):
            target = step.target.module
            norm = isinstance(target, nn.BatchNorm2d)
            if target not in names or not (norm or isinstance(target, nn.Conv2d | nn.Linear)):
                continue
            depthwise = isinstance(target, nn.Conv2d) and target.groups == target.in_channels > 1
            reads = "in_channels" in step.handler.__name__ and not norm and not depthwise
            own.update((names[target], "in" if reads else "out", int(place)) for place in places)
    return found
