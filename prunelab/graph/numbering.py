"""The numbers that the paper gives to layers, and which of them are shortcuts."""

from collections.abc import Mapping
from dataclasses import replace

from torch import fx, nn

from prunelab.graph.labels import Layer
from prunelab.utils.modules import CONVS, NORMS

# what may stand between a shortcut's conv and the addition
PASSED = (*NORMS, nn.Identity, nn.Dropout)


def number_layers(layers: Mapping[str, Layer], shortcuts: set[str]) -> dict[str, Layer]:
    """Layers with the paper's numbers: convs in forward order, the rest apart."""
    count = {"conv": 0, "shortcut": 0, "linear": 0, "filter": 0}
    numbered = {}
    for name, layer in layers.items():
        kind = "shortcut" if name in shortcuts else layer.kind
        count[kind] += 1
        numbered[name] = replace(layer, kind=kind, paper_name=f"{kind}_{count[kind]}")
    return numbered


def find_shortcuts(traced: fx.GraphModule) -> set[str]:
    """The 1×1 convs that carry a block's input to its addition (Li et al. 2017, §3.3, Fig. 4)."""
    modules = dict(traced.named_modules())
    above: dict[fx.Node, int] = {}  # node -> bits of the nodes it comes from
    found: set[str] = set()
    for i, node in enumerate(traced.graph.nodes):
        above[node] = 1 << i
        for source in node.all_input_nodes:
            above[node] |= above[source]
        joins = getattr(node.target, "__name__", node.target) in ("add", "add_", "iadd")
        if not joins or len(node.all_input_nodes) != 2:
            continue
        one, two = (_conv_behind(source, modules) for source in node.all_input_nodes)
        for short, long in ((one, two), (two, one)):
            if short is None or long is None or set(modules[str(short.target)].kernel_size) != {1}:
                continue
            fork, end = short.args[0], long.args[0]
            assert isinstance(fork, fx.Node)
            assert isinstance(end, fx.Node)
            if fork is not end and above[end] & above[fork] == above[fork]:
                found.add(str(short.target))
    return found


def _conv_behind(node: fx.Node, modules: Mapping[str, nn.Module]) -> fx.Node | None:
    while node.op == "call_module" and isinstance(modules[str(node.target)], PASSED):
        node = node.args[0]  # type: ignore[assignment]
    conv = node.op == "call_module" and isinstance(modules[str(node.target)], CONVS)
    return node if conv else None
