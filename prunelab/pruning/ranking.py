"""Filters and choices as tables: ranked by score, and how much the choices of plans overlap."""

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

from torch import Tensor

from prunelab.data import DataSplits
from prunelab.graph import ChannelGraph
from prunelab.pruning.criteria import score_filters
from prunelab.pruning.plan import PruningPlan, check_widths

if TYPE_CHECKING:
    import pandas as pd


def compare_plans(plans: Mapping[str, PruningPlan]) -> "pd.DataFrame":
    """How much the choices of plans overlap.

    Args:
        plans: {name: plan}, of different criteria, orders or strategies, for one network.

    Returns:
        A row for each layer and each pair of plans; layers where either removes none are left out.
        Columns: layer, one, other, removed_one, removed_other, common (filters that both remove),
        overlap (common over the smaller number removed: 1 where one choice holds the other).

    Raises:
        ValueError: the plans are of different networks.

    Example:
        >>> compare_plans({c: make_plan(graph, {"*": 0.5}, criterion=c) for c in ("l1", "l2")})
    """
    import pandas as pd

    rows = []
    for (one, a), (other, b) in combinations(plans.items(), 2):
        check_widths(a.widths, b.widths, other)
        for layer in a.removed.keys() & b.removed.keys():
            first, second = set(a.removed[layer]), set(b.removed[layer])
            common = len(first & second)
            sizes = len(first), len(second)
            rows.append((layer, one, other, *sizes, common, common / min(sizes)))
    columns = ["layer", "one", "other", "removed_one", "removed_other", "common", "overlap"]
    order: dict[Any, int] = {name: i for plan in plans.values() for i, name in enumerate(plan.keep)}
    return pd.DataFrame(sorted(rows, key=lambda row: (row[1:3], order[row[0]])), columns=columns)


def rank_filters(
    graph: ChannelGraph,
    plan: PruningPlan | None = None,
    *,
    criterion: str = "l1",
    data: DataSplits | None = None,
    scores: Mapping[str, Tensor] | None = None,
) -> "pd.DataFrame":
    """The filters of each layer, largest first, as Fig. 2(a) of Li et al. 2017 draws them.

    Args:
        graph: of `trace`.
        plan: of `make_plan`, for the fates; None: nothing goes.
        criterion: as in `score_filters`.
        data: for criteria that look at images.
        scores: those of `score_filters`, when at hand; then only their layers.

    Returns:
        A row for each filter; columns layer, paper_name, stage, filter (original number), score,
        rank (in (0, 1], over the layer's filters), share (score over the layer's largest), fate
        (kept, removed or fixed: it cannot go).
    """
    import pandas as pd

    keep = {} if plan is None else plan.keep
    frames = []
    scores = score_filters(graph, criterion, data=data) if scores is None else scores
    for name, own in scores.items():
        group, numbers = graph.group_of(name), graph.numbers[name].numpy()
        frame = pd.DataFrame({"filter": numbers, "score": own.cpu().numpy()})
        stays = frame["filter"].isin(keep.get(name, numbers))
        frame["fate"] = stays.map({True: "kept", False: "removed"}) if group.prunable else "fixed"
        frame = frame.sort_values("score", ascending=False, ignore_index=True)
        frame["rank"] = (frame.index + 1) / len(frame)
        frame["share"] = frame["score"] / frame["score"].max()
        paper_name, stage = graph.shapes[name].paper_name, graph.stage_of.get(name, group.stage)
        frames.append(frame.assign(layer=name, paper_name=paper_name, stage=stage))
    columns = ["layer", "paper_name", "stage", "filter", "score", "rank", "share", "fate"]
    return pd.concat(frames, ignore_index=True)[columns]
