"""What retraining gives back to a network of which one layer alone lost filters."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from prunelab.data import DataSplits
from prunelab.graph import trace
from prunelab.measure.curves import RATIOS, UNPRUNED, make_curves, tabulate
from prunelab.measure.store import Store
from prunelab.pruning import prune
from prunelab.training import TrainSettings, evaluate, train
from prunelab.utils.progress import track
from prunelab.utils.tensors import hash_tensors


def measure_retrained(
    model: nn.Module,
    data: DataSplits,
    settings: TrainSettings,
    *,
    layers: Sequence[str] | None = None,
    ratios: Sequence[float] = RATIOS,
    criterion: str = "l1",
    order: str = "smallest",
    seed: int = 0,
    checkpoints: str | Path | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """The accuracy when one layer alone loses filters and the network is retrained.

    As in Li et al. 2017, §3.2 and Fig. 2(c); counted on the validation split.

    Args:
        model: the network; it is left untouched.
        data: a data set, of which the training split is learnt.
        settings: of each retraining; there is one for each layer and number of filters.
        layers: layers or stages; None: every group that can be pruned.
        ratios: of filters that go, in [0, 1).
        criterion: how filters are scored, as in `make_plan`.
        order: which of them go, as there.
        seed: of random orders and criteria of images.
        checkpoints: a folder for one file a retraining. Stopped and called again with it, it goes
            on from there.
        progress: show how far it is.

    Returns:
        The columns of `measure_sensitivity`. The rows with ratio 0 are the whole network as it was
        given.

    Raises:
        ValueError: an unknown layer or one that cannot be pruned; and what `train` raises.

    Example:
        >>> settings = TrainSettings(epochs=20, lr=0.001, milestones=())
        >>> measure_retrained(model, data, settings, checkpoints="fig2c")
    """
    if not isinstance(data, DataSplits):
        raise ValueError(
            f"measure_retrained takes a data set, as load_data gives one, not {type(data).__name__}"
        )
    graph = trace(model, torch.zeros(data.image_shape))
    curves = make_curves(graph, layers, ratios, criterion, order, data, seed)
    found = Store(None, {})
    block = (0, len(data.val))
    whole = evaluate(model, data.val)
    found.add((UNPRUNED, 0, *block), whole.correct, whole.loss * whole.total)
    tasks = []
    for curve in curves:
        tasks += [(curve.key, removed, plan) for removed, plan in curve.plans.items()]
    for key, removed, plan in track(tasks, "retraining", len(tasks), "networks", show=progress):
        small = prune(model, plan, graph=graph)
        file = None
        if checkpoints is not None:
            start = hash_tensors(small.state_dict())[:8]
            file = Path(checkpoints) / f"{key}-{removed}-{start}.safetensors"
        train(small, data, settings, checkpoint=file)
        counted = evaluate(small, data.val, precision=settings.precision)
        found.add((key, removed, *block), counted.correct, counted.loss * counted.total)
    return tabulate(graph, curves, found, [block])
