"""Which filters go first: smallest, random or largest, and by which criterion."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from prunelab.data import DataSplits, take
from prunelab.findings.frames import by_network
from prunelab.findings.words import differ, join, name_few, percent
from prunelab.measure import measure_sensitivity
from prunelab.utils.checks import check_whole

# Li et al. 2017, §4.5: ℓ1 is ahead of these; mean_std equals it as far as 60 %, and then drops
BEHIND = ("mean_mean", "mean_l1", "mean_l2", "var_l2")
LEVEL, UP_TO = "mean_std", 0.6
MOST = 0.9  # §4.4: at this ratio, smallest is ahead of random on every layer


def measure_orders(
    model: nn.Module,
    data: DataSplits,
    *,
    draws: int = 3,
    images: int | None = None,
    seed: int = 0,
    **how: Any,
) -> pd.DataFrame:
    """Each layer pruned alone: its smallest filters go, random ones, or the largest.

    As in Li et al. 2017, §4.4 and Fig. 8; but what is random is drawn several times. All see the
    same images.

    Args:
        model: the network.
        data: of which the validation split is looked at.
        draws: how often random filters are drawn, by `seed`, `seed + 1` …
        images: only so many of the images, picked by `seed`; None: all.
        seed: of that pick and of the draws.
        how: more arguments of `measure_sensitivity`: layers, ratios, store, progress.

    Returns:
        The columns of `measure_sensitivity`, and order (smallest, random, largest) and draw (0 but
        for random).

    Raises:
        ValueError: no draws; and what `measure_sensitivity` raises.

    Example:
        >>> orders = findings.measure_orders(network, data, ratios=[0.5, 0.9])
    """
    check_whole("draws", draws)
    split = data.val
    if images is not None:
        check_whole("images", images, most=len(split), why="what the split has")
        shuffled = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        split = take(split, shuffled[:images])
    ways = [("smallest", 0), *(("random", draw) for draw in range(draws)), ("largest", 0)]
    found = []
    for order, draw in ways:
        rows = measure_sensitivity(model, split, order=order, seed=seed + draw, **how)
        found.append(rows.assign(order=order, draw=draw))
    return pd.concat(found, ignore_index=True)


def split_ways(frame: pd.DataFrame, by: str, *, most: int = 6) -> dict[str, pd.DataFrame]:
    """A frame as `charts.compare_sensitivity` takes it.

    Args:
        frame: of `measure_sensitivity`, with a column that tells ways apart; of several networks
            where it has a column network.
        by: that column: order, criterion or way.
        most: layers that are shown, of all networks together: of each, as many, from front to
            back, and of so many networks at most.

    Returns:
        ``{way: rows}``; layers by their paper names, of draws the mean. Its interval then holds
        those of all draws. Empty for an empty frame.

    Example:
        >>> charts.compare_sensitivity(findings.split_ways(orders, "order"))
    """
    if frame.empty:
        return {}
    networks = list(by_network(frame).items())[:most]
    shown = []
    for name, rows in networks:
        names = list(dict.fromkeys(rows["paper_name"]))
        count = min(len(names), max(1, most // len(networks)))
        places = np.linspace(0, len(names) - 1, count) if count > 1 else [len(names) // 2]
        rows = rows[rows["paper_name"].isin([names[round(place)] for place in places])]
        label = (
            f"{name.partition(',')[0]}: " + rows["paper_name"]
            if len(networks) > 1
            else rows["paper_name"]
        )
        shown.append(rows.assign(layer=label))
    together = pd.concat(shown)
    return {str(way): _average(rows) for way, rows in together.groupby(by, sort=False)}


def describe_orders(orders: pd.DataFrame, ratio: float = 0.3) -> str:
    """What is left at a ratio when the smallest, random or the largest filters go.

    Args:
        orders: of `measure_orders` or `read_frame`.
        ratio: the nearest that was measured is told.

    Returns:
        A line for each network; none for an empty frame.

    Example:
        >>> findings.say(findings.describe_orders(orders, 0.3))
    """
    lines = []
    for name, rows in by_network(orders).items():
        at, what = _nearest(rows, ratio), _alone(rows)
        here = rows[rows["ratio"] == at]
        means = here.groupby(["order", "draw"], sort=False)["accuracy"].mean()
        random = means["random"]
        spread = "one draw"
        if len(random) > 1:
            low, high = 100 * random.min(), percent(random.max())
            spread = f"{len(random)} draws, {low:.1f}–{high}"
        ahead, behind, _ = _beside_random(here)
        layers = here["layer"].nunique()
        lines.append(
            f"{_head(name)}at {percent(at, 0)}, the mean over {_number(layers, what)}: smallest "
            f"{percent(means['smallest'].item())}, random {percent(random.mean())} ({spread}), "
            f"largest {percent(means['largest'].item())}. Smallest is ahead of every draw by more "
            f"than chance in {len(ahead)} of {layers}{_named(ahead)}, behind in "
            f"{len(behind)}{_named(behind)}."
        )
        pairs = rows[rows["removed"] > 0].pivot_table(
            index=["layer", "ratio"], columns="order", values=["correct", "total"], aggfunc="first"
        )
        apart = sum(
            differ(
                (int(pair["correct", "smallest"]), int(pair["total", "smallest"])),
                (int(pair["correct", "largest"]), int(pair["total", "largest"])),
            )
            for _, pair in pairs.iterrows()
        )
        lines[-1] += (
            f" Smallest and largest differ by more than chance at {apart} of "
            f"{_number(len(pairs), 'point')} ({what}s × ratios)."
        )
    return "\n".join(lines)


def judge_smallest(orders: pd.DataFrame) -> str:
    """Whether the smallest filters are ahead of random ones on every layer when 90 % go (§4.4).

    Args:
        orders: of `measure_orders` or `read_frame`.

    Returns:
        A line for each network; it says so where no ratio near 90 % was measured. None for an empty
        frame.

    Example:
        >>> findings.say(findings.judge_smallest(orders))
    """
    lines = []
    for name, rows in by_network(orders).items():
        at, what = _nearest(rows, MOST), _alone(rows)
        claim = f"{_head(name)}that the smallest are ahead of random on every {what} at 90 % (§4.4)"
        if abs(at - MOST) > 0.05:
            lines.append(f"{claim} is not tested here: {percent(at, 0)} is the nearest ratio.")
            continue
        here = rows[rows["ratio"] == at]
        ahead, behind, better = _beside_random(here)
        layers = here["layer"].nunique()
        holds = "holds" if len(better) == layers else "does not hold"
        lines.append(
            f"{claim} {holds} here: above the mean of the draws in {len(better)} of {layers}, "
            f"above every draw by more than chance in {len(ahead)}{_named(ahead)}, below every "
            f"draw by more than chance in {len(behind)}{_named(behind)}."
        )
    return "\n".join(lines)


def compare_criteria(measured: pd.DataFrame, control: str = "l1") -> pd.DataFrame:
    """A criterion beside the others, point by point, a point being a layer at a ratio.

    Args:
        measured: of `measure_sensitivity`, with a column criterion; or of `read_frame`.
        control: the criterion that the others are held against.

    Returns:
        A row for each network and other criterion; columns network, criterion, accuracy (its mean),
        control (that of the control), points, ahead and behind (points at which the control is, by
        more than chance), ahead_late and behind_late (those of them beyond 60 %), late (points
        there). Empty where the control was not measured.

    Example:
        >>> findings.compare_criteria(measured)
    """
    columns = ["network", "criterion", "accuracy", "control", "points", "ahead", "behind", "late"]
    columns += ["ahead_late", "behind_late"]
    rows = []
    for name, found in by_network(measured).items():
        found = found[found["removed"] > 0]
        base = found[found["criterion"] == control]
        if base.empty:
            continue
        for criterion, own in found.groupby("criterion", sort=False):
            if criterion == control:
                continue
            both = base.merge(own, on=["layer", "ratio"], suffixes=("", "_own"))
            late = (both["ratio"] > UP_TO + 1e-9).to_numpy()
            known = np.array(
                [
                    differ(
                        (int(row["correct"]), int(row["total"])),
                        (int(row["correct_own"]), int(row["total_own"])),
                    )
                    for _, row in both.iterrows()
                ],
                dtype=bool,
            )
            ahead = known & (both["accuracy"] > both["accuracy_own"]).to_numpy()
            behind = known & ~ahead
            numbers = [len(both), ahead.sum(), behind.sum(), late.sum()]
            numbers += [(ahead & late).sum(), (behind & late).sum()]
            means = both["accuracy_own"].mean(), both["accuracy"].mean()
            rows.append([name or "this one", criterion, *means, *map(int, numbers)])
    return pd.DataFrame(rows, columns=columns)


def judge_criteria(measured: pd.DataFrame) -> str:
    """Whether ℓ1 is ahead of the criteria of maps, as Li et al. 2017, §4.5, find.

    Args:
        measured: as of `compare_criteria`.

    Returns:
        For each network a line on the four that ℓ1 is said to be ahead of, and one on mean_std;
        only of what was measured.

    Example:
        >>> findings.say(findings.judge_criteria(measured))
    """
    lines = []
    for name, rows in compare_criteria(measured).groupby("network", sort=False):
        own = rows.set_index("criterion")
        head = _head("" if name == "this one" else str(name))
        beaten = [one for one in own.index if one in BEHIND]
        if beaten:
            short = [one for one in beaten if own.loc[one, "ahead"] <= own.loc[one, "behind"]]
            counts = [f"{one} {_tell(own.loc[one])}" for one in beaten]
            holds = f"does not hold here for {join(short)}" if short else "holds here"
            lines.append(
                f"{head}that ℓ1 is ahead of the criteria of maps but {LEVEL} (§4.5) {holds}. Of "
                f"{_number(int(own.loc[beaten[0], 'points']), 'point')}, it is "
                f"ahead by more than chance of {join(counts)}."
            )
        if LEVEL in own.index:
            lines.append(f"{head}{_tell_level(own.loc[LEVEL])}")
    return "\n".join(lines)


def describe_l2(measured: pd.DataFrame) -> str:
    """Whether pruning by ℓ2 ends elsewhere than by ℓ1 (Li et al. 2017, appendix, Fig. 10).

    Args:
        measured: as of `compare_criteria`.

    Returns:
        A line for each network that was measured by both; one that says that none was. None for an
        empty frame.

    Example:
        >>> findings.say(findings.describe_l2(measured))
    """
    lines = []
    for _, row in compare_criteria(measured).query("criterion == 'l2'").iterrows():
        same = row["points"] - row["ahead"] - row["behind"]
        lines.append(
            f"{_head('' if row['network'] == 'this one' else row['network'])}ℓ1 and ℓ2 show no "
            f"difference at {same} of {_number(row['points'], 'point')}; ℓ1 is "
            f"ahead at {row['ahead']}, ℓ2 at {row['behind']}. The means are "
            f"{percent(row['control'])} and {percent(row['accuracy'])}."
        )
    if not lines and len(measured):
        return "Here: ℓ1 and ℓ2 were not both measured."
    return "\n".join(lines)


def describe_agreement(overlaps: pd.DataFrame, chance: float) -> str:
    """Which criteria choose the same filters, and which do so no more than chance.

    Args:
        overlaps: of `compare_plans`, with plans named by their criteria, and one named random.
        chance: the share that unrelated choices have in common.

    Returns:
        Lines.

    Example:
        >>> findings.say(findings.describe_agreement(compare_plans(plans), 0.5))
    """
    shared = overlaps.groupby(["one", "other"], sort=False)["overlap"].mean()
    kinds = [name for name in shared.index if not any(one.startswith("random") for one in name)]
    pairs = shared[[name for name in kinds if not any("greedy" in one for one in name)]]
    lines = []
    if len(pairs):
        ranked = [tuple(map(str, pair)) for pair in pairs.sort_values().index]
        least, most = ranked[0], ranked[-1]
        below = int((pairs <= chance).sum())
        lines.append(
            f"{join(most)} agree most ({percent(pairs.max(), 0)} of what they remove is the same), "
            f"{join(least)} least ({percent(pairs.min(), 0)}); of {len(pairs)} pairs, {below} "
            f"share no more than unrelated choices would ({percent(chance, 0)})."
        )
    drawn = shared.drop(kinds)
    if len(drawn):
        lines.append(
            f"With the random choice they share {percent(drawn.min(), 0)} to "
            f"{percent(drawn.max(), 0)}."
        )
    if ("l1", "l1, greedy") in shared.index:
        same = shared["l1", "l1, greedy"]
        lines.append(f"Greedy and independent scoring by ℓ1 share {percent(same, 0)}.")
    return "\n".join(lines)


def _average(rows: pd.DataFrame) -> pd.DataFrame:
    """Of several draws a row for each point, with the mean, and an interval that holds theirs."""
    if "draw" not in rows or rows["draw"].nunique() < 2:
        return rows.round(4)
    how = {name: "first" for name in rows.columns if name not in ("layer", "ratio")}
    how |= {"correct": "mean", "accuracy": "mean", "loss": "mean"}
    how |= {"accuracy_low": "min", "accuracy_high": "max"}
    return rows.groupby(["layer", "ratio"], sort=False, as_index=False).agg(how).round(4)


def _nearest(rows: pd.DataFrame, ratio: float) -> float:
    ratios = rows.loc[rows["removed"] > 0, "ratio"].unique()
    return float(min(ratios, key=lambda own: (round(abs(own - ratio), 9), own)))


def _alone(rows: pd.DataFrame) -> str:
    """What is pruned alone: a layer, or a stage, which is called as it is."""
    return "stage" if (rows["layer"] == rows["stage"]).all() else "layer"


def _beside_random(here: pd.DataFrame) -> tuple[list[str], list[str], list[str]]:
    """Layers where smallest is ahead of all draws by more than chance, behind all, above the mean.

    here: rows of one network and ratio.
    """
    ahead, behind, better = [], [], []
    for name, rows in here.groupby("paper_name", sort=False):
        counts = [
            (str(order), int(correct), int(total))
            for order, correct, total in rows[["order", "correct", "total"]].itertuples(index=False)
        ]
        smallest = next((own, total) for order, own, total in counts if order == "smallest")
        draws = [(own, total) for order, own, total in counts if order == "random"]
        known = all(differ(smallest, draw) for draw in draws)
        if known and all(smallest[0] > own for own, _ in draws):
            ahead.append(str(name))
        if known and all(smallest[0] < own for own, _ in draws):
            behind.append(str(name))
        if smallest[0] > sum(own for own, _ in draws) / len(draws):
            better.append(str(name))
    return ahead, behind, better


def _tell(row: Any) -> str:
    """How often the control is ahead of a criterion, and how often behind."""
    return f"at {row['ahead']} (behind at {row['behind']})"


def _tell_level(row: Any) -> str:
    early = row["points"] - row["late"]
    apart = row["ahead"] + row["behind"] - row["ahead_late"] - row["behind_late"]
    level = apart <= -(-early // 20)  # as often as chance tells equals apart, 5 in 100
    drops = row["ahead_late"] > row["behind_late"]
    sides = []
    if early:
        word = "no more than chance" if level else "more than chance"
        sides.append(
            f"up to {percent(UP_TO, 0)} the two differ at {apart} of "
            f"{_number(early, 'point')}, {word} makes of equals"
        )
    if row["late"]:
        sides.append(
            f"beyond, ℓ1 is ahead at {row['ahead_late']} of {_number(row['late'], 'point')}, "
            f"behind at {row['behind_late']}"
        )
    holds = "holds here" if level and drops and early and row["late"] else "does not show here"
    return (
        f"that {LEVEL} equals ℓ1 up to {percent(UP_TO, 0)} and then drops (§4.5) {holds}: "
        f"{'; '.join(sides)}."
    )


def _head(name: str) -> str:
    return f"**{name}**: " if name else "Here: "


def _number(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _named(names: Sequence[str]) -> str:
    """`` (conv_2 and conv_4)``; nothing where none is."""
    return f" ({name_few(names)})" if names else ""
