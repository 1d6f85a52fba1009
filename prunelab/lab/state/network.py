"""What is opened: a network, its data and its trace, with where they came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from prunelab.data import DataSplits, load_data
from prunelab.experiments import recipe_names
from prunelab.graph import ChannelGraph, trace
from prunelab.models import load_model, load_model_and_data
from prunelab.pruning import (
    MAP_STATISTICS,
    PruningPlan,
    make_plan,
    measure_cost,
    measure_memory,
    score_filters,
    score_statistics,
)
from prunelab.utils.paths import find_weights, runs_dir
from prunelab.utils.progress import Report
from prunelab.utils.tensors import hash_tensors, hash_text

OURS = "resnet20-digits"  # trained by us, in data/checkpoints


@dataclass(frozen=True, eq=False)
class Network:
    """A traced network and its data, with where they came from, and the scores of its filters.

    Attributes:
        model: the network, on the data's device.
        data: its data.
        graph: its trace.
        architecture: its name for `load_model`, where it has one.
        by_name: whether it was opened by name and file; then a recipe or code can do so again.
        weights: the file they came from.
        source: the data's name for `load_data`.
        how: further arguments of `load_data`, where they were given.
        known: {criterion: scores}, those computed so far.
    """

    model: nn.Module
    data: DataSplits
    graph: ChannelGraph
    architecture: str | None
    by_name: bool
    weights: str | None
    source: str | None
    how: dict[str, Any] = field(default_factory=dict)
    known: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def scores(self, criterion: str, report: Report | None = None) -> dict[str, Tensor]:
        """The scores of a criterion, computed once; those of maps are found in one pass."""
        if criterion not in self.known:
            if criterion in MAP_STATISTICS:
                self.known.update(score_statistics(self.graph, self.data, on_progress=report))
            else:
                self.known[criterion] = score_filters(
                    self.graph, criterion, data=self.data, on_progress=report
                )
        return self.known[criterion]

    def plan(self, ratios: Mapping[str, float], **choice: Any) -> PruningPlan:
        """`make_plan`, without scoring anew."""
        scores = None if choice["strategy"] == "greedy" else self.scores(choice["criterion"])
        return make_plan(self.graph, ratios, scores=scores, data=self.data, **choice)

    def cost(self, plan: PruningPlan | None = None) -> pd.DataFrame:
        """`measure_cost`, and the memory of maps."""
        return measure_memory(self.graph, measure_cost(self.graph, plan))

    @cached_property
    def recipes(self) -> list[str]:
        """The recipes that prune such a network."""
        begin = f"{self.architecture}-pruned"
        own = [name for name in recipe_names() if name.startswith(begin)]
        return [name for name in own if "scratch" not in name]

    @cached_property
    def folder(self) -> Path:
        """Where what is made of this network and these data is kept."""
        about = f"{hash_tensors(self.model.state_dict())} {self.data.fingerprint}"
        return runs_dir() / "lab" / hash_text(about, 16)


def open_network(
    model: nn.Module | str | None = None,
    data: DataSplits | str | Path = "digits",
    weights: str | Path | None = None,
    **how: Any,
) -> Network:
    """A network by module or name (None: our ResNet-20 on digits), traced, on the data's device.

    weights: as in `load_model`. how: further arguments of `load_model_and_data`. Raises what these
    raise.
    """
    if model is None:
        model, weights = "resnet20", weights or find_weights(OURS)
    name = model if isinstance(model, str) else getattr(model, "architecture", {}).get("name", "")
    if not isinstance(model, str):
        found, splits = model, data if isinstance(data, DataSplits) else load_data(data, **how)
    elif isinstance(data, DataSplits):
        found = load_model(model, num_classes=len(data.classes), weights=weights)
        splits = data
    else:
        found, splits = load_model_and_data(model, data, weights=weights, **how)
    return Network(
        model=found,
        data=splits,
        graph=trace(found.to(splits.device), torch.zeros(splits.image_shape)),
        architecture=name or None,
        by_name=isinstance(model, str),
        weights=str(weights) if weights else None,
        source=None if isinstance(data, DataSplits) else str(data),
        how=how,
    )
