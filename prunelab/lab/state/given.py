"""What a lab is given to begin with, checked: the layer to look at, curves measured before."""

import pandas as pd

from prunelab.graph import ChannelGraph
from prunelab.utils.tensors import hash_tensors

NEEDED = (
    "layer ratio removed filters correct total accuracy loss accuracy_low accuracy_high "
    "paper_name stage"
).split()


def find_scored(graph: ChannelGraph, layer: str) -> str:
    """The qualified name of a layer that has filters to look at; ValueError for others."""
    name, scored = graph.find(layer), graph.scored
    if name in scored:
        return name
    first, last = (graph.shapes[own].paper_name for own in (scored[0], scored[-1]))
    raise ValueError(
        f"{layer!r} has no filters to look at; the layers that have are {first} … {last}"
    )


def check_curves(measured: pd.DataFrame, graph: ChannelGraph) -> None:
    """ValueError unless `measured` may be of `measure_sensitivity` of this network."""
    if not isinstance(measured, pd.DataFrame):
        kind = type(measured).__name__
        raise ValueError(f"measured must be a frame of measure_sensitivity, not {kind}")
    missing = [name for name in NEEDED if name not in measured]
    if missing or measured.empty:
        what = ", ".join(missing) or "rows"
        raise ValueError(f"measured must be a frame of measure_sensitivity; this one has no {what}")
    if measured.duplicated(["layer", "ratio"]).any():
        raise ValueError(
            "measured has a layer twice at one ratio: give the frame of one criterion and order"
        )
    own = hash_tensors(graph.model.state_dict())
    if measured.attrs.get("weights", own) != own:
        raise ValueError("measured is of another network: its weights are others")
    for name, curve in measured.groupby("layer", sort=False):
        try:
            filters = sum(group.size for group in graph.select(str(name)))
        except ValueError as error:
            raise ValueError(f"measured is of another network: {error}") from None
        if (curve["filters"] != filters).any():
            raise ValueError(
                f"measured is of another network: {name} has {filters} filters in this one, and "
                f"{curve['filters'].iloc[0]} there"
            )
        if not (curve["removed"] == 0).any():
            raise ValueError(
                f"measured lacks the whole network's accuracy: keep the rows of ratio 0 ({name})"
            )
