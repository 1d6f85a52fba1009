"""What sensitivity curves say: which layers lose most, and whether flat norms foretell it."""

import math

import numpy as np
import pandas as pd

from prunelab.findings.words import count, differ, percent, signed

DRAWS = 9_999  # orders of the layers, of which chance is told
Z = 1.959964  # a normal variable stays within ± z, 95 times in 100


def describe_sensitivity(measured: pd.DataFrame, ratio: float) -> str:
    """Which layers lose most and least at a ratio, and whether layers of a stage are alike.

    Args:
        measured: of `measure_sensitivity`, of one network.
        ratio: the nearest that was measured is looked at.

    Returns:
        Lines; none for an empty frame.

    Example:
        >>> findings.say(findings.describe_sensitivity(measured, 0.5))
    """
    if measured.empty:
        return ""
    at, rows = _at_ratio(measured, ratio)
    whole = measured[measured["removed"] == 0].iloc[0]
    before = int(whole["correct"]), int(whole["total"])
    counts = [(int(row["correct"]), int(row["total"])) for _, row in rows.iterrows()]
    harmed = sum(own[0] < before[0] and differ(own, before) for own in counts)
    most, least = (rows.loc[rows["loss"].agg(pick)] for pick in ("idxmax", "idxmin"))
    ends = [
        f"without {percent(at, 0)} of the filters of {row['paper_name']}, which {word} by the "
        f"cross-entropy, {count(int(row['correct']), int(row['total']))}"
        for row, word in ((most, "harms most"), (least, "harms least"))
    ]
    lines = [
        f"Right are, by the whole network, {count(*before)}; {'; '.join(ends)}.",
        f"{harmed} of {len(rows)} layers lose more there than chance would explain with "
        f"{before[1]:,} images.",
    ]
    stages, share = _explained_by_stages(rows)
    if stages > 1 and math.isfinite(share):
        expected = (stages - 1) / (len(rows) - 1)
        lines.append(
            f"Which stage a layer is of explains {percent(share, 0)} of how the layers differ "
            f"there; {stages} stages put together at random would explain "
            f"{percent(expected, 0)} on average."
        )
    return "\n".join(lines)


def pair_steepness(
    norms: pd.DataFrame, sensitivity: pd.DataFrame, ratio: float = 0.5
) -> pd.DataFrame:
    """How steeply a layer's sorted norms fall, beside what the layer alone loses.

    Steepness is 1 - the mean share, the area above the layer's line in Fig. 2(a) of Li et al.
    2017: 0 where all norms are equal. Every filter counts for it; the ratio of the smallest norm to
    the largest hangs on two of them.

    Args:
        norms: of `rank_filters`; stored ones, with the columns model and weights, too.
        sensitivity: of `measure_sensitivity`, likewise.
        ratio: of the filters that go; the nearest that was measured.

    Returns:
        A row for each layer that both frames have; columns network, layer, paper_name, stage,
        steepness, ratio, lost (accuracy of the whole network less that without these filters).

    Example:
        >>> points = findings.pair_steepness(rank_filters(graph), measured)
        >>> charts.steepness(points)
    """
    columns = ["network", "layer", "paper_name", "stage", "steepness", "ratio", "lost"]
    if norms.empty or sensitivity.empty:
        return pd.DataFrame(columns=columns)
    if "network" not in sensitivity:
        known = {"model", "data"} <= set(sensitivity)
        named = sensitivity["model"] + ", " + sensitivity["data"] if known else "this network"
        sensitivity = sensitivity.assign(network=named)
    keys = [key for key in ("model", "weights", "layer") if key in norms and key in sensitivity]
    steep = (1 - norms.groupby(keys)["share"].mean()).rename("steepness").reset_index()
    found = []
    for name, measured in sensitivity.groupby("network", sort=False):
        whole = measured[measured["removed"] == 0].groupby("layer")["accuracy"].first()
        at, rows = _at_ratio(measured, ratio)
        lost = rows["layer"].map(whole) - rows["accuracy"]
        found.append(rows.assign(network=name, ratio=at, lost=lost))
    points = pd.concat(found).merge(steep, on=keys)
    return points[columns].drop_duplicates(["network", "layer"], ignore_index=True)


def correlate_steepness(points: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Spearman's rank correlation of steepness and accuracy lost, for each network.

    Args:
        points: of `pair_steepness`.
        seed: of the orders that are drawn.

    Returns:
        A row for each network; columns network, layers, ratio, rho, rho_low and rho_high (95 %, by
        Fisher's z with the error of Bonett and Wright 2000), p (the share of drawn orders with a
        correlation as strong, either way), chance (how strong it gets in 95 of 100 drawn orders).
        Empty values where there are fewer than 4 layers, or all lose the same.

    Example:
        >>> findings.correlate_steepness(points)["rho"]
    """
    rows = []
    for name, own in points.groupby("network", sort=False):
        row = {"network": name, "layers": len(own), "ratio": float(own["ratio"].iloc[0])}
        one, other = (own[column].rank().to_numpy() for column in ("steepness", "lost"))
        row |= dict.fromkeys(("rho", "rho_low", "rho_high", "p", "chance"), math.nan)
        if len(own) > 3 and one.std() > 0 and other.std() > 0:
            one, other = ((ranks - ranks.mean()) / ranks.std() for ranks in (one, other))
            rho = float(one @ other) / len(own)
            drawn = np.tile(other, (DRAWS, 1))
            np.random.default_rng(seed).permuted(drawn, axis=1, out=drawn)
            chance = np.abs(drawn @ one) / len(own)
            error = math.sqrt((1 + rho**2 / 2) / (len(own) - 3))
            z = math.atanh(max(-0.9999, min(0.9999, rho)))
            row |= {"rho": rho, "chance": float(np.quantile(chance, 0.95))}
            row |= {"rho_low": math.tanh(z - Z * error), "rho_high": math.tanh(z + Z * error)}
            row["p"] = float(1 + (chance >= abs(rho) - 1e-9).sum()) / (DRAWS + 1)
        rows.append(row)
    columns = ["network", "layers", "ratio", "rho", "rho_low", "rho_high", "p", "chance"]
    return pd.DataFrame(rows, columns=columns)


def describe_correlation(points: pd.DataFrame, seed: int = 0) -> str:
    """Whether flat norms mean sensitive layers, network by network.

    Args:
        points: of `pair_steepness`.
        seed: as in `correlate_steepness`.

    Returns:
        A line for each network, and one that counts them; a sentence where there are none.

    Example:
        >>> findings.say(findings.describe_correlation(points))
    """
    lines, told = [], []
    for _, row in correlate_steepness(points, seed).iterrows():
        if math.isnan(row["rho"]):
            lines.append(
                f"**{row['network']}**: {row['layers']} layers at {percent(row['ratio'], 0)}, "
                "which are too few for ranks, or all lose the same."
            )
            continue
        told.append(row)
        lines.append(
            f"**{row['network']}**, {row['layers']} layers at {percent(row['ratio'], 0)}: "
            f"ρ = {signed(row['rho'])} ({signed(row['rho_low'])} to {signed(row['rho_high'])}); "
            f"with {row['layers']} layers chance reaches ±{row['chance']:.2f} "
            f"({_say_p(row['p'])})."
        )
    if not told:
        return "\n".join([*lines, "There is no network here whose layers could be ranked."])
    beyond = [row for row in told if row["p"] < 0.05]
    flat = sum(row["rho"] < 0 for row in beyond)
    lines.append(
        f"Were flat layers the sensitive ones, ρ would be negative: that is so in "
        f"{sum(row['rho'] < 0 for row in told)} of {len(told)} networks, and beyond chance in "
        f"{flat}. The steep layers lose more, beyond chance, in {len(beyond) - flat}."
    )
    return "\n".join(lines)


def _at_ratio(measured: pd.DataFrame, ratio: float) -> tuple[float, pd.DataFrame]:
    """The measured ratio that is nearest, and its rows."""
    ratios = measured.loc[measured["removed"] > 0, "ratio"].unique()
    at = min(ratios, key=lambda own: (round(abs(own - ratio), 9), own))
    rows = measured[measured["ratio"] == at].drop_duplicates("layer")
    return float(at), rows.reset_index(drop=True)


def _explained_by_stages(rows: pd.DataFrame) -> tuple[int, float]:
    """Stages, and the share of the variance of accuracy over layers that is between them."""
    accuracy, stages = rows["accuracy"], rows.groupby("stage")["accuracy"]
    spread = ((accuracy - accuracy.mean()) ** 2).sum()
    if stages.ngroups >= len(rows) or spread == 0:
        return stages.ngroups, math.nan
    return stages.ngroups, 1 - float(((accuracy - stages.transform("mean")) ** 2).sum() / spread)


def _say_p(p: float) -> str:
    return f"p = {p:.2f}" if p >= 0.01 else "p < 0.01"
