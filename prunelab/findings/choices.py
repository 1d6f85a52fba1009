"""What came of a choice: ratios for a budget beside equal ones, greedy beside independent."""

import pandas as pd

from prunelab.findings.words import count, differ, join, percent

ARMS = ("greedy", "independent")


def describe_promises(compared: pd.DataFrame) -> str:
    """How far what the curves promised is from what was measured.

    Args:
        compared: of `compare_ratios`; rows without a prediction are left out.

    Returns:
        A line; that nothing was predicted, where that is so.

    Example:
        >>> findings.say(findings.describe_promises(compared))
    """
    rows = compared.dropna(subset=["predicted"]).reset_index(drop=True)
    if rows.empty:
        return "Nothing was predicted here."
    over = rows["predicted"] - rows["accuracy"]
    high = int((rows["predicted"] > rows["accuracy_high"]).sum())
    low = int((rows["predicted"] < rows["accuracy_low"]).sum())
    within = len(rows) - high - low
    worst = rows.iloc[int(over.abs().to_numpy().argmax())]
    return (
        f"In {high} of {len(rows)} plans the curves promised more than came out, in {low} less, "
        f"and in {within} what the images allow. The largest gap: {percent(worst['predicted'])} "
        f"promised, {count(int(worst['correct']), int(worst['total']))} measured."
    )


def describe_budgets(compared: pd.DataFrame, *, split: str = "test") -> str:
    """Chosen ratios beside equal ones, budget by budget.

    Args:
        compared: of `compare_ratios`, with choices `chosen` and `uniform` and a column budget, of
            one network.
        split: whose images were counted.

    Returns:
        A line for each budget, and one that counts them where there are several.

    Example:
        >>> findings.say(findings.describe_budgets(compared))
    """
    lines, verdicts = [], []
    for budget, rows in compared.groupby("budget", sort=False):
        arms = {row["choice"]: row for _, row in rows.iterrows()}
        if not {"chosen", "uniform"} <= set(arms):
            continue
        pair = arms["chosen"], arms["uniform"]
        chosen, equal = ((int(row["correct"]), int(row["total"])) for row in pair)
        verdict = f"no difference that {chosen[1]:,} {split} images show"
        if differ(chosen, equal):
            verdict = f"{'chosen' if chosen[0] > equal[0] else 'equal'} ones are ahead"
        verdicts.append(verdict.split()[0])
        left = [percent(row["flops_left"]) for row in pair]
        lines.append(
            f"With {percent(float(str(budget)), 0)} of the multiply-adds, chosen ratios have "
            f"{count(*chosen)} right, equal ones {count(*equal)}: {verdict}. "
            f"(They leave {left[0]} and {left[1]}.)"
        )
    if not lines:
        return ""
    ahead = {
        name: verdicts.count(word)
        for name, word in (("chosen", "chosen"), ("equal", "equal"), ("neither", "no"))
    }
    said = join(f"{name} in {number}" for name, number in ahead.items())
    if len(lines) > 1:
        lines.append(f"Ahead, of {len(lines)} budgets: {said}.")
    return "\n".join(lines)


def describe_strategies(frame: pd.DataFrame) -> str:
    """At which ratios the two strategies differ, network by network.

    Args:
        frame: a row for each strategy and ratio. Columns: strategy, ratio, correct, total and,
            where there are several networks, network; epochs, where some were retrained.

    Returns:
        A line for each network; none for an empty frame.

    Example:
        >>> findings.say(findings.describe_strategies(findings.read_frame("strategies")))
    """
    lines = []
    for name, rows in name_retrained(frame).groupby("network", sort=False):
        ahead: dict[str, list[str]] = {arm: [] for arm in (*ARMS, "")}
        for ratio, pair in rows.groupby("ratio"):
            arms = {row["strategy"]: row for _, row in pair.iterrows()}
            greedy, independent = (
                (int(arms[arm]["correct"]), int(arms[arm]["total"])) for arm in ARMS
            )
            winner = ARMS[0] if greedy[0] > independent[0] else ARMS[1]
            known = differ(greedy, independent)
            ahead[winner if known else ""].append(percent(float(str(ratio)), 0))
        said = [f"{arm} keeps more at {join(ahead[arm])}" for arm in ARMS if ahead[arm]]
        if ahead[""]:
            where = join(ahead[""]) if said else f"any of {len(ahead[''])} ratios"
            said.append(f"at {where} no difference that {int(rows['total'].max()):,} images show")
        sentence = "; ".join(said) + "."
        ratios = sorted(rows["ratio"].unique())
        floor = _find_floor(rows, ratios)
        if 0 < floor < len(ratios) - 2:
            from_on = f"{percent(ratios[floor], 0)} on neither differs from what is left at"
            sentence += f" From {from_on} {percent(ratios[-1], 0)}, so nothing can be told there."
        lines.append(f"**{name!s}**: {sentence}" if name else sentence[:1].upper() + sentence[1:])
    return "\n".join(lines)


def name_retrained(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, whose column network says for how many epochs each was retrained, if at all.

    Args:
        frame: with columns network and epochs, or without.
    """
    frame = frame if "network" in frame else frame.assign(network="")
    if "epochs" not in frame:
        return frame
    after = (
        frame["epochs"]
        .fillna(0)
        .map(lambda n: f"retrained, {n:g} epoch{'s' * (n != 1)}" if n else "")
    )
    names = [", ".join(filter(None, pair)) for pair in zip(frame["network"], after, strict=True)]
    return frame.assign(network=names)


def _find_floor(rows: pd.DataFrame, ratios: list[float]) -> int:
    """The place of the ratio from which on no accuracy differs from any other."""
    for place in reversed(range(len(ratios))):
        here = rows[rows["ratio"] >= ratios[place]]
        least, most, total = here["correct"].min(), here["correct"].max(), here["total"].max()
        if differ((int(least), int(total)), (int(most), int(total))):
            return place + 1
    return 0


def describe_overlap(compared: pd.DataFrame) -> str:
    """How much of what both strategies remove is the same.

    Args:
        compared: of `compare_plans`, of two plans, with a column paper_name.

    Returns:
        A line.

    Example:
        >>> findings.say(findings.describe_overlap(compared))
    """
    same = compared.loc[compared["overlap"] == 1, "paper_name"]
    others = compared[compared["overlap"] < 1]
    if others.empty:
        return "Both remove the same filters in all layers."
    low, high = others["overlap"].min(), others["overlap"].max()
    agree = f"They agree on all that goes from {join(same)}. " if len(same) else ""
    return (
        f"{agree}In the other {len(others)} layers {percent(low, 0)} to {percent(high, 0)} of what "
        "one removes the other removes, too."
    )
