"""What a chart shows, in a sentence or two: each a function of the frame that the chart draws.

They are the descriptions of charts and the alt texts of pictures: plain text, whatever names it
holds. A function is named as its chart is.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from prunelab.findings.words import name_few, percent

SPLITS = {"test_accuracy": "test", "val_accuracy": "validation", "train_accuracy": "train"}


def _count(number: float, one: str = "", many: str = "") -> str:
    """``1 layer``, ``9 layers``; a number alone where there is no word."""
    return f"{number:,.0f} {one if number == 1 else many or one + 's'}".strip()


def _range(values: pd.Series) -> str:
    low, high = percent(values.min()), percent(values.max())
    return low if low == high else f"{low} to {high}"


def _near_half(measured: pd.DataFrame) -> pd.DataFrame:
    """A row for each layer, of the point where about half of its filters go; what it had before."""
    frame = measured.reset_index(drop=True)
    far = (frame["removed"] / frame["filters"] - 0.5).abs()
    least = frame.loc[frame.groupby("layer", sort=False)["removed"].idxmin()]
    before = least.set_index("layer")["accuracy"]
    half = frame.loc[far.groupby(frame["layer"], sort=False).idxmin()]
    name = "paper_name" if "paper_name" in half else "layer"
    return half.assign(name=half[name], before=half["layer"].map(before))


def _fall(row: Any) -> str:
    gone = f"{row.removed:.0f} of {_count(row.filters, 'filter')} removed"
    return f"from {percent(row.before)} to {percent(row.accuracy)} with {gone}"


def sensitivity(measured: pd.DataFrame) -> str:
    """Also of `sensitivity_handles` and `sensitivity_map`."""
    half = _near_half(measured)
    rows = list(half.loc[(half["accuracy"] - half["before"]).sort_values().index].itertuples())
    images = _count(measured["total"].max(), "image")
    head = f"Accuracy without retraining against filters removed, {_count(len(rows), 'curve')}"
    said = f"{head}, {images}. Near half, {rows[0].name} goes {_fall(rows[0])}"
    if len(rows) == 1:
        return f"{said}."
    return f"{said}, the largest loss; {rows[-1].name} {_fall(rows[-1])}, the smallest."


def compare_sensitivity(measured: Mapping[str, pd.DataFrame]) -> str:
    """What each way leaves near half, the mean of all layers."""
    left = {name: _near_half(found)["accuracy"].mean() for name, found in measured.items()}
    panels = _count(len({name for found in measured.values() for name in found["layer"]}), "panel")
    order = sorted(left, key=lambda name: -left[name])
    ways = name_few(f"{name} {percent(left[name])}" for name in order)
    head = f"Accuracy against filters removed, {panels}, {_count(len(order), 'line')} in each"
    return f"{head}. Where about half go, the mean over the panels is {ways}."


def learning_curves(history: pd.DataFrame) -> str:
    """Where each training ends."""
    split = next(column for column in SPLITS if column in history)
    last = history.groupby("kind", sort=False)[split].last()
    ends = name_few(f"{kind} {percent(1 - accuracy)}" for kind, accuracy in last.items())
    longest = history.groupby("kind").size().max()
    head = f"Error by epoch, {_count(len(last), 'training')} of up to {_count(longest, 'epoch')}"
    return f"{head}. The {SPLITS[split]} error ends at: {ends}."


def filter_norms(ranked: pd.DataFrame) -> str:
    """Also of `norm_lines`."""
    least = ranked.groupby("layer", sort=False)["share"].min().sort_values()
    names = ranked.drop_duplicates("layer").set_index("layer")["paper_name"]
    first, last = least.index[0], least.index[-1]
    said = (
        f"Sorted filter scores of {_count(len(least), 'layer')}, each a share of its layer's "
        f"largest. The smallest is {percent(least[first])} of the largest in {names[first]}, the "
        f"steepest, and {percent(least[last])} in {names[last]}, the flattest."
    )
    gone = int((ranked["fate"] == "removed").sum()) if "fate" in ranked else 0
    return f"{said} {gone:,} of {_count(len(ranked), 'filter')} go." if gone else said


def layer_norms(shown: Mapping[str, Any]) -> str:
    """Of what `describe_norms` says."""
    scores = shown["scores"]
    said = f"{shown['title']}. Sorted scores, from {scores[0]:.3g} down to {scores[-1]:.3g}"
    cut = shown["cut"]
    return f"{said}." if cut is None else f"{said}; the cut is after the first {cut:.0f}."


def filter_images(filters: int, removed: Collection[int]) -> str:
    """Of a sheet of first filters."""
    head = f"{_count(filters, 'filter')} of a first layer as small pictures, largest norm first"
    gone = len(set(removed))
    if not gone:
        return f"{head}. All stay, framed in blue."
    return f"{head}. {filters - gone} stay, framed in blue; below them {gone} go, framed in orange."


def filter_tiles(ranked: pd.DataFrame) -> str:
    """Of the filters of one layer."""
    fates = ranked["fate"].value_counts()
    words = {"kept": "stay, in blue", "removed": "go, in orange", "fixed": "must stay, in grey"}
    told = name_few(f"{fates[fate]} {word}" for fate, word in words.items() if fate in fates)
    scores = ranked["score"]
    head = f"{_count(len(ranked), 'filter')} of {ranked['paper_name'].iloc[0]} as framed pictures"
    return f"{head}: {told}. Scores from {scores.max():.3g} down to {scores.min():.3g}."


def compare_scores(frame: pd.DataFrame, names: Sequence[str], agree: float) -> str:
    """Of a row for each filter; agree: Spearman's rank correlation."""
    said = "there is no order to compare" if pd.isna(agree) else f"rank correlation {agree:.2f}"
    gone = int((frame["fate"] == "removed").sum())
    head = f"Scores of {_count(len(frame), 'filter')} by {names[0]} against those by {names[1]}"
    return f"{head}: {said}. {gone} of them go."


def layer_cost(cost: pd.DataFrame) -> str:
    """What all layers cost before and after, and which costs most."""
    words = {"flops": "multiply-adds", "params": "parameters", "memory": "bytes of maps"}
    sums = []
    for name, word in words.items():
        if name in cost:
            before, after = cost[name].sum(), cost[f"{name}_after"].sum()
            less = percent(1 - after / before) if before else "nothing"
            sums.append(f"{word} fall from {before:,.0f} to {after:,.0f}, by {less}")
    top = cost.loc[[cost["flops"].idxmax()], "paper_name"].iloc[0]
    head = f"Cost of {_count(len(cost), 'layer')} before and after, as bars"
    return f"{head}: {'; '.join(sums)}. Most multiply-adds are in {top}."


def choices(compared: pd.DataFrame) -> str:
    """The most and the least accurate choice."""
    order = compared.sort_values("accuracy", ascending=False)
    head = f"Accuracy without retraining against multiply-adds left, {_count(len(order), 'point')}"
    return f"{head}. {_extremes(order, 'choice')}"


def kept_plans(plans: pd.DataFrame) -> str:
    """The most and the least accurate plan that was counted."""
    order = plans.dropna(subset=["accuracy"]).sort_values("accuracy", ascending=False)
    head = f"Accuracy against multiply-adds left, {_count(len(order), 'plan')}"
    return f"{head}. {_extremes(order, 'name')}" if len(order) else f"{head}."


def _extremes(order: pd.DataFrame, name: str) -> str:
    best, worst = order.iloc[0], order.iloc[-1]
    told = f"Most accurate is {best[name]}: {_at(best)}"
    return f"{told}." if len(order) == 1 else f"{told}; least, {worst[name]}: {_at(worst)}."


def _at(row: Any) -> str:
    return f"{percent(row['accuracy'])} at {percent(row['flops_left'])} of the multiply-adds"


def front(found: pd.DataFrame) -> str:
    """The front from end to end."""
    ahead = found[found["on_front"]].sort_values("flops_left")
    head = f"Accuracy without retraining against multiply-adds left, {len(found)} networks"
    if ahead.empty:
        return f"{head}, none on the front."
    ends = name_few(dict.fromkeys([_at(ahead.iloc[-1]), _at(ahead.iloc[0])]))
    return f"{head}, {len(ahead)} on the front. Its ends are {ends}."


def latency(measured: pd.DataFrame) -> str:
    """The network that gained most time, and the one that gained least."""
    pruned = measured[measured["flops_left"] < 1]
    head = f"Time left against multiply-adds left, {_count(len(measured), 'point')}"
    if pruned.empty:
        return f"{head}; none has fewer multiply-adds."
    order = pruned.sort_values("time_left")
    told = [
        f"{row['model']} takes {percent(row['time_left'])} of the time at "
        f"{percent(row['flops_left'])} of the multiply-adds (batch of {row['batch']})"
        for row in order.iloc[[0, -1]].to_dict("records")
    ]
    slower = int((order["time_left"] > order["flops_left"]).sum())
    ends = name_few(dict.fromkeys(told))
    return f"{head}. From fastest to slowest: {ends}; {slower} of {len(order)} lie above the line."


def tradeoff(rows: pd.DataFrame) -> str:
    """The error of each kind of network."""
    errors = (1 - rows["test_accuracy"]).groupby(rows["kind"], sort=False)
    kinds = ", ".join(f"{kind} {_range(own)}" for kind, own in errors)
    head = f"Test error against multiply-adds, {_count(len(rows), 'network')} of "
    return f"{head}{_count(rows['recipe'].nunique(), 'recipe')}. Errors: {kinds}."


def changes(listed: pd.DataFrame) -> str:
    """The change of each network, and how many intervals leave out none."""
    ours = listed[listed["whose"] == "ours"]
    beyond = int(((ours["low"] > 0) | (ours["high"] < 0)).sum())
    told = name_few(
        f"{row['network']} {row['kind']} {row['change']:+.2f}" for row in ours.to_dict("records")
    )
    head = f"Points of test error more than the baseline, {_count(len(ours), 'network')}"
    return f"{head}: {told}. The intervals of {beyond} leave out 0."


def sweep(compared: pd.DataFrame) -> str:
    """The front from end to end."""
    ahead = compared[compared["on_front"]].sort_values("flops")
    head = f"Test error against multiply-adds, {_count(len(compared), 'point')}"
    if ahead.empty:
        return f"{head}, none on the front."
    ends = [
        f"{percent(row['error'])} at {_count(row['flops'], 'multiply-add')}"
        for row in ahead.iloc[[0, -1]].to_dict("records")
    ]
    return f"{head}, {len(ahead)} on the front: from {' to '.join(dict.fromkeys(ends))}."


def coupling(coupled: pd.DataFrame) -> str:
    """How many modules lose something, by role."""
    words = {"leader": "leads", "tied": "tied to it", "follows": "norms that follow"}
    words["reads"] = "that read its maps"
    counts = coupled["role"].value_counts()
    told = name_few(f"{counts[role]} {word}" for role, word in words.items() if role in counts)
    return f"{_count(len(coupled), 'module')} lose something, front to back: {told}."


def overlap(compared: pd.DataFrame) -> str:
    """The pairs that share most and least."""
    pairs = compared.groupby(["one", "other"])["overlap"].mean().sort_values()
    head = f"What is shared of the filters removed, {_count(len(pairs), 'pair')} of criteria"
    if pairs.empty:
        return f"{head}."
    ends = [f"{one} and {other} {percent(pairs[one, other])}" for one, other in pairs.index]
    return f"{head}. Least: {ends[0]}; most: {ends[-1]}."


def plan_shares(shares: pd.DataFrame) -> str:
    """Of each plan, the layer that loses most."""
    top = shares.loc[shares.groupby("name", sort=False)["removed"].idxmax()]
    told = name_few(
        f"{row['name']} takes most from {row['paper_name']}, {percent(row['removed'])}"
        for row in top.to_dict("records")
    )
    return f"Share of each layer's filters that goes, {_count(len(top), 'plan')}: {told}."


def class_accuracy(counted: pd.DataFrame) -> str:
    """The class that loses most from the first network to the second, and the one that does least.

    Of one network, the classes with the most and the fewest errors.
    """
    frame = counted.astype({"network": str, "class": str})
    networks = list(dict.fromkeys(frame["network"]))
    wide = frame.pivot_table("accuracy", "class", "network")
    lost = wide[networks[0]] - wide[networks[1]] if len(networks) > 1 else -wide[networks[0]]
    ends = lost.sort_values(kind="stable").index
    told = []
    which = ["loses most", "loses least"] if len(networks) > 1 else ["is worst", "is best"]
    for name, word in zip([ends[-1], ends[0]], which, strict=True):
        path = " to ".join(percent(1 - wide.loc[name, network]) for network in networks[:2])
        told.append(f"{name} {word}, {path}")
    head = f"Error of each of {_count(len(wide), 'class', 'classes')}, {name_few(networks)}"
    change = f" From {networks[0]} to {networks[1]}," if len(networks) > 1 else ""
    return f"{head}.{change} {'; '.join(told)}." if change else f"{head}: {'; '.join(told)}."


def confusion(fields: pd.DataFrame, networks: Sequence[str]) -> str:
    """Of the fields that are drawn; of two networks, of changes."""
    wrong = fields[fields["class"] != fields["predicted"]]
    right = fields.loc[fields["class"] == fields["predicted"], "images"].sum()
    more = "more " if len(networks) > 1 else ""
    head = f"What is taken for what, {' to '.join(networks)}: {right:+,.0f} images right"
    head = head if more else head.replace("+", "", 1)
    if wrong.empty:
        return f"{head}, no answer wrong{' more or less' if more else ''}."
    top = wrong.loc[[wrong["images"].idxmax()]].iloc[0]
    pair = f"{top['class']} taken for {top['predicted']}"
    told = f"{head}, {wrong['images'].sum():+,.0f} wrong. Most: {pair}, {top['images']:,.0f} {more}"
    return f"{told.rstrip()}." if more else f"{told.rstrip()}.".replace(", +", ", ")


def flip_images(flips: pd.DataFrame, limit: int) -> str:
    """Of a sheet of cards."""
    shown = flips.head(limit)
    verdicts = shown["verdict"].value_counts()
    first = shown.iloc[0]
    told = name_few(f"{count} {verdict}" for verdict, count in verdicts.items() if count)
    head = f"{len(shown)} of {_count(len(flips), 'image')} that two networks answer differently"
    answers = f"{first['before']}, then {first['after']}"
    return f"{head}: {told}. The first is {first['label']}: {answers}."


def network(cost: pd.DataFrame, name: str) -> str:
    """Of the frame of `measure_cost`."""
    before, after = cost["flops"].sum(), cost["flops_after"].sum()
    share = 1 - cost["maps_after"] / cost["maps"]
    head = f"{name} as a map from its input to its output: {_count(len(cost), 'layer')}"
    if not share.max() > 0:
        return f"{head}, {before:,.0f} multiply-adds, nothing removed."
    top = cost.loc[[share.idxmax()]].iloc[0]
    gone = f"{top['maps'] - top['maps_after']:.0f} of {_count(top['maps'], 'filter')}"
    less = percent(1 - after / before)
    return f"{head}. {less} of the multiply-adds go. {top['paper_name']} loses most, {gone}."
