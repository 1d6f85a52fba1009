"""Which layer's maps flow where: layers and joins, with all that stands between swallowed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, fx

from prunelab.graph.calls import leaves
from prunelab.graph.tracing import Trace

Sizes = dict[str, tuple[int, ...]]  # {what made maps: their height and width}
# names for the operators that join maps
JOINS = {"iadd": "add", "imul": "multiply", "mul": "multiply", "cat": "concat"}
# what takes but the shape of a second tensor
SHAPED = ("_as", "_like")


class Flow(NamedTuple):
    """Maps on their way: from a layer, a join or an input to the next of these."""

    source: str
    target: str
    size: tuple[int, ...]  # of the maps that arrive


def find_flow(traced: Trace, used: Mapping[fx.Node, Sequence[str]]) -> list[Flow]:
    """The flow of a trace, in forward order; what is no layer is named by a kind and a number.

    used: {node: layers that it applies}. A layer that is applied twice is there once.
    """
    modules = dict(traced.named_modules())
    makers: dict[fx.Node, str] = {}  # node -> what made its maps; bare parameters have none
    joined: dict[tuple[str, ...], str] = {}  # a join's kind and what it took -> its name
    count: dict[str, int] = {}
    flows: dict[Flow, None] = {}  # each once

    def number(kind: str) -> str:
        count[kind] = count.get(kind, 0) + 1
        return f"{kind} {count[kind]}"

    def arrive(name: str, sources: Sizes) -> str:
        flows.update(dict.fromkeys(Flow(source, name, size) for source, size in sources.items()))
        return name

    for node, value in [*traced.values.items(), (_last(traced), None)]:
        name, kind = str(node.target), getattr(node.target, "__name__", str(node.target))
        if node.op == "call_module":
            kind = type(modules[name]).__name__
        kind = JOINS.get(kind.strip("_"), kind.strip("_"))
        written = kind == "setitem"
        if not (written or node.op == "output" or _has_maps(value)):
            continue
        given = [source for source in node.all_input_nodes if source in makers]
        sources = {makers[source]: _size_of(traced.values[source]) for source in given}
        parts = (kind, *sources)
        if kind == "concat":
            sources = _go_on(sources, joined)
        if kind.endswith(SHAPED):
            sources = dict([*sources.items()][:1])
        if node.op == "placeholder":
            makers[node] = number("input")
        elif node.op == "output":
            arrive(number("output"), sources)
        elif node.op == "call_module" and name in traced.opaque:
            makers[node] = arrive(name, sources)
        elif names := used.get(node):
            for name in names:
                makers[node] = arrive(name, sources)
                sources = {name: _size_of(value)}
        elif len(sources) > 1:
            makers[node] = joined[parts] = arrive(number(kind), sources)
        elif sources:
            (makers[node],) = sources
        if written and node in makers:  # from here on, the tensor holds what was written
            makers[node.args[0]] = makers[node]  # type: ignore[index]
    return list(flows)


def _go_on(sources: Sizes, joined: Mapping[tuple[str, ...], str]) -> Sizes:
    """A concatenation goes on from an earlier one of its first parts: a dense block is a chain."""
    names = [*sources]
    for n in range(len(names), 1, -1):
        if earlier := joined.get(("concat", *names[:n])):
            return {earlier: sources[names[0]], **{name: sources[name] for name in names[n:]}}
    return sources


def _last(traced: Trace) -> fx.Node:
    return next(iter(reversed(traced.graph.nodes)))


def _has_maps(value: object) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in leaves(value))


def _size_of(value: object) -> tuple[int, ...]:
    """The height and width of maps."""
    return next((tuple(leaf.shape[2:]) for leaf in leaves(value) if isinstance(leaf, Tensor)), ())
