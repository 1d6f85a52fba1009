"""Retraining what a plan left: kept by plan, in memory and in a file of the network's folder."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from prunelab.lab.state.network import Network
from prunelab.pruning import PruningPlan, prune
from prunelab.training import TrainSettings, train
from prunelab.utils.tensors import hash_text


@dataclass(frozen=True, eq=False)
class Training:
    """What a plan left, retrained.

    Attributes:
        model: the network.
        settings: how it learned.
        history: of `train`.
    """

    model: nn.Module
    settings: TrainSettings
    history: pd.DataFrame


def hash_plan(plan: PruningPlan) -> str:
    """A few letters that stand for the filters that a plan keeps."""
    return hash_text(json.dumps(plan.keep, sort_keys=True), 16)


def find_checkpoint(network: Network, plan: PruningPlan, settings: TrainSettings) -> Path:
    """The file in which a training is kept."""
    name = hash_text(repr(asdict(settings)), 8)
    return network.folder / f"{hash_plan(plan)}-retrained-{name}.safetensors"


def retrain(
    network: Network,
    plan: PruningPlan,
    settings: TrainSettings,
    *,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Training:
    """Retrain what a plan leaves of a network.

    Stopped and called again, it goes on where it was; one that is finished is only read. Callbacks
    and errors are those of `train`.
    """
    small = prune(network.model, plan, graph=network.graph)
    path = find_checkpoint(network, plan, settings)
    history = train(
        small, network.data, settings, checkpoint=path, on_epoch=on_epoch, on_batch=on_batch
    )
    return Training(small, settings, history)
