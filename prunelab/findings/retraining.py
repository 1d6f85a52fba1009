"""What retraining gives back, beside the whole network that was trained on for as long."""

import pandas as pd
import torch
from torch import nn

from prunelab.findings.frames import by_network
from prunelab.findings.words import count, differ, name_few, percent
from prunelab.graph import ChannelGraph, trace
from prunelab.pruning import PruningPlan, find_ratios, make_plan, make_steps
from prunelab.training import Metrics
from prunelab.utils.intervals import wilson


def spread_layers(graph: ChannelGraph) -> list[str]:
    """The first, the middle and the last layer that can be pruned alone.

    Args:
        graph: of `trace`.

    Returns:
        Their names, fewer where the network has fewer.

    Example:
        >>> layers = alone["layers"] or findings.spread_layers(graph)
    """
    able = [group.leader for group in graph.groups if group.prunable]
    places = sorted({0, len(able) // 2, len(able) - 1}) if able else []
    return [able[place] for place in places]


def plan_second_round(first: nn.Module, graph: ChannelGraph, ratio: float) -> PruningPlan:
    """What goes in the second of two rounds, by the norms of the network of the first.

    Args:
        first: the network that lost half of the ratio of each layer, and was retrained.
        graph: of the whole network.
        ratio: of filters that both rounds remove, from every layer that can lose some.

    Returns:
        A plan for `prune(first, plan)`.

    Example:
        >>> second = prune(first, findings.plan_second_round(first, graph, 0.5))
    """
    left = trace(first, torch.zeros(graph.input_shapes[0]))
    *_, last = make_steps(graph, {"*": ratio}, "rounds", rounds=2)
    return make_plan(left, find_ratios(left, last))


def note_continued(retrained: pd.DataFrame, continued: Metrics) -> pd.DataFrame:
    """Retrained networks whose curves begin where they should: at the whole one, trained on.

    Args:
        retrained: of `measure_retrained`, whose rows of ratio 0 are the network as it was given.
        continued: of `evaluate`: what the whole network does after training by the same settings.

    Returns:
        A copy of the frame, with that in the rows of ratio 0.

    Raises:
        ValueError: it was counted on other images.

    Example:
        >>> train(whole := deepcopy(network), data, settings)
        >>> retrained = findings.note_continued(retrained, evaluate(whole, data.val))
    """
    total = int(retrained["total"].max())
    if continued.total != total:
        raise ValueError(
            f"the retrained networks were counted on {total:,} images and the whole one on "
            f"{continued.total:,}; evaluate it on the same split"
        )
    low, high = wilson(continued.correct, total)
    values = (continued.correct, continued.accuracy, continued.loss, low, high)
    columns = ["correct", "accuracy", "loss", "accuracy_low", "accuracy_high"]
    frame = retrained.copy()
    frame.loc[frame["removed"] == 0, columns] = values
    return frame.astype({"correct": int})


def describe_regained(frame: pd.DataFrame) -> str:
    """What one layer's loss does without and with retraining.

    Args:
        frame: of `measure_sensitivity` and `measure_retrained`, with a column way (`not retrained`,
            `retrained`); of several networks where it has a column network; with columns epochs
            and precision they are told. Rows of ratio 0 are the whole network, of `retrained` as
            `note_continued` leaves them.

    Returns:
        Lines for each network; none for an empty frame.

    Example:
        >>> findings.say(findings.describe_regained(findings.read_frame("retrained")))
    """
    lines = []
    for name, rows in by_network(frame).items():
        ways = {way: own for way, own in rows.groupby("way", sort=False)}
        head = f"**{name}**: " if name else ""
        epochs = int(rows["epochs"].max()) if "epochs" in rows else 0
        long = f" for {epochs} epoch{'' if epochs == 1 else 's'}" if epochs else ""
        if "precision" in rows and rows["precision"].notna().any():
            long += f" in {name_few(rows['precision'].dropna().unique())}"
        said = {
            "not retrained": ("Not retrained", "the whole network"),
            "retrained": (f"Retrained{long}", "the whole network trained on for as long"),
        }
        for way, (what, control) in said.items():
            own = ways.get(way, rows[:0])
            whole, lost = own[own["removed"] == 0], own[own["removed"] > 0]
            if lost.empty or whole.empty:
                continue
            before = _counts(whole.iloc[0])
            below = [row for _, row in lost.iterrows() if _is_below(_counts(row), before)]
            named = f" ({name_few(map(_point, below))})" if below else ""
            worst = lost.iloc[int(lost["correct"].argmin())]
            text = (
                f"{head}{what}, {len(below)} of {len(lost)} networks that lost filters of one "
                f"layer are below {control} by more than chance{named}. That one has "
                f"{count(*before)} right; the lowest, {_point(worst)}, {count(*_counts(worst))}."
            )
            if len(below) < len(lost):
                rest = len(lost) - len(below)
                text += f" Of {rest}, {before[1]:,} images show no loss."
            lines.append(text)
    return "\n".join(lines)


def _counts(row: pd.Series) -> tuple[int, int]:
    return int(row["correct"]), int(row["total"])


def _is_below(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[0] and differ(one, other)


def _point(row: pd.Series) -> str:
    return f"{row['paper_name']} at {percent(row['ratio'], 0)}"
