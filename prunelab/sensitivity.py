"""How much each layer can lose: prune it alone, at several ratios, and look at the accuracy."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn

from prunelab.batches import FileSplit, Split
from prunelab.data import DataSplits
from prunelab.graph import trace
from prunelab.plan import make_plan
from prunelab.surgery import prune
from prunelab.training import evaluate

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # Li et al. 2017, Fig. 2(b)


def measure_sensitivity(
    model: nn.Module,
    data: DataSplits | Split | FileSplit,
    *,
    layers: Sequence[str] | None = None,
    ratios: Sequence[float] = RATIOS,
    criterion: str = "l1",
    order: str = "smallest",
    seed: int = 0,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> pd.DataFrame:
    """The accuracy of the network that results when one layer alone loses filters, without retraining (§3.2).

    data: the validation split of a data set, or a split. layers: layers, or stages (`stage1`, pruned as one);
        None means every group that can be pruned, by its leader. The others are in `trace(...).groups`,
        with the reason. on_row: called with each row as it is measured.

    Columns: layer, ratio (asked), removed, filters, correct, total, accuracy, loss. A row with ratio 0 for
    each layer is the whole network. Ratios that remove equally many filters are measured once.
    Raises ValueError for an unknown layer or one that cannot be pruned.
    """
    layers = [layers] if isinstance(layers, str) else layers
    split = data.val if isinstance(data, DataSplits) else data
    graph = trace(model, torch.zeros(1, 3, split.image_size, split.image_size))
    names: Iterable[str] = [g.leader for g in graph.groups if g.prunable] if layers is None else layers
    groups = {name: graph.select(name) for name in names}  # all names are checked before anything is measured
    whole = evaluate(model, split)
    rows = []
    for name, members in groups.items():
        filters = sum(group.size for group in members)
        measured = {0: whole}
        for ratio in sorted({0.0, *ratios}):
            plan = make_plan(graph, {name: ratio}, criterion=criterion, order=order, seed=seed)
            removed = sum(graph.shapes[g.leader].n_out - len(plan.keep[g.leader]) for g in members)
            if removed not in measured:
                measured[removed] = evaluate(prune(model, plan, graph=graph), split)
            found = measured[removed]
            rows.append(
                {"layer": name, "ratio": ratio, "removed": removed, "filters": filters, "correct": found.correct,
                 "total": found.total, "accuracy": found.accuracy, "loss": found.loss}
            )  # fmt: skip
            if on_row:
                on_row(rows[-1])
    return pd.DataFrame(rows)
