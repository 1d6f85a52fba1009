"""What sensitivity curves promise of a plan, without running it."""

from collections import Counter

import numpy as np
import pandas as pd

from prunelab.graph import ChannelGraph
from prunelab.measure.budget import whole_accuracy
from prunelab.measure.search import find_owners, keep_falling
from prunelab.pruning import PruningPlan


def predict_accuracy(sensitivity: pd.DataFrame, graph: ChannelGraph, plan: PruningPlan) -> float:
    """The accuracy that a plan would have if no layer made another's loss worse, not retrained.

    The accuracy of the whole network times, for each layer or stage that was measured, the share of
    the correct predictions that is left: read off its curve at the number of filters that go, on
    the line between the two nearest numbers measured; beyond the last, as there. A stage that was
    measured as one is read at all its filters that go, wherever they are. Layers that were not
    measured count as no loss: `find_unmeasured` names them.

    Args:
        sensitivity: of `measure_sensitivity`.
        graph: the trace of the network that was measured.
        plan: of `make_plan`; at ratios that were measured, the accuracy is that of
            `choose_ratios(...).predicted`.

    Returns:
        An accuracy in [0, 1], in a few milliseconds. Together, layers lose more than that.

    Raises:
        ValueError: the frame is of another kind, or layers were measured twice.

    Example:
        >>> predict_accuracy(found, graph, make_plan(graph, {"stage1": 0.3}))
    """
    accuracy = whole_accuracy(sensitivity)
    gone, correct = (sensitivity[name].to_numpy() for name in ("removed", "correct"))
    curves = sensitivity.groupby("layer", sort=False).indices
    lost: Counter[str] = Counter()
    for leader, owner in find_owners(map(str, curves), graph).items():
        lost[owner] += _count_lost(graph, plan, leader)
    for name, rows in curves.items():
        own = rows[np.argsort(gone[rows], kind="stable")]
        accuracy *= float(np.interp(lost[str(name)], gone[own], keep_falling(correct[own])))
    return accuracy


def find_unmeasured(sensitivity: pd.DataFrame, graph: ChannelGraph, plan: PruningPlan) -> list[str]:
    """The layers that lose filters by a plan, of which `predict_accuracy` knows nothing.

    Args:
        sensitivity: of `measure_sensitivity`.
        graph: the trace of the network that was measured.
        plan: of `make_plan`.

    Returns:
        Leaders of groups; none where the prediction is of the whole plan.

    Example:
        >>> find_unmeasured(found, graph, make_plan(graph, {"*": 0.3}))
        []
    """
    known = find_owners(sensitivity["layer"].unique(), graph)
    leaders = [group.leader for group in graph.groups if group.prunable]
    return [name for name in leaders if name not in known and _count_lost(graph, plan, name)]


def _count_lost(graph: ChannelGraph, plan: PruningPlan, leader: str) -> int:
    return len(graph.numbers[leader]) - len(plan.keep[leader])
