"""Arms of an experiment beside each other: what differs, and what so few images do not show."""

import pandas as pd

from prunelab.findings.words import count
from prunelab.utils.intervals import difference


def differ(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two counts differ by more than chance.

    Args:
        one: (correct, total).
        other: likewise.

    Returns:
        True where the 95 % interval of the difference leaves out 0 (Newcombe 1998).

    Example:
        >>> findings.differ((349, 359), (340, 359))
        False
    """
    low, high = difference(one, other)
    return low > 0 or high < 0


def compare_arms(frame: pd.DataFrame, *, name: str = "network", control: str = "") -> str:
    """A sentence for each arm, beside the one that is its control.

    Args:
        frame: a row for each arm, with the columns correct and total, as of `compare_networks`.
        name: the column that names them.
        control: the arm that the others are held against; empty: the first.

    Returns:
        Lines: the control's count, and for each other arm its count and how many points it is
        above or below, with the interval, or that so many images show no difference.

    Raises:
        ValueError: there is no such control.

    Example:
        >>> findings.say(findings.compare_arms(compare_networks(networks, data.test)))
    """
    arms = {str(row[name]): (int(row["correct"]), int(row["total"])) for _, row in frame.iterrows()}
    control = control or next(iter(arms))
    if control not in arms:
        raise ValueError(f"there is no {control!r}; the arms are {', '.join(arms)}")
    lines = [f"**{control}**: {count(*arms[control])} right."]
    for arm, counts in arms.items():
        if arm != control:
            lines.append(f"**{arm}**: {count(*counts)}; {_set_beside(counts, arms[control])}.")
    return "\n".join(lines)


def _set_beside(one: tuple[int, int], other: tuple[int, int]) -> str:
    low, high = difference(one, other)
    if low <= 0 <= high:
        return f"no difference that {min(one[1], other[1]):,} images show"
    points = 100 * (one[0] / one[1] - other[0] / other[1])
    ends = sorted((abs(100 * low), abs(100 * high)))
    word = "above" if points > 0 else "below"
    return f"{abs(points):.1f} points {word} ({ends[0]:.1f} to {ends[1]:.1f})"
