"""How numbers, sentences and the arms of an experiment are written, everywhere alike."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from prunelab.utils.intervals import difference, wilson

FEW = 4  # names in a row, at most


def say(*sentences: str) -> Any:
    """Sentences as a cell's output: a list, where there are several.

    Args:
        sentences: in Markdown; an empty one is left out.

    Returns:
        What Jupyter shows as text; nothing to show where no sentence is left.

    Example:
        >>> findings.say(findings.compare_arms(compare_networks(networks, data.test)))
    """
    from IPython.display import Markdown

    lines = [line for sentence in sentences for line in sentence.splitlines() if line.strip()]
    if not lines:
        return None
    return Markdown(lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines))


def percent(share: float, digits: int = 1) -> str:
    """A fraction as per cent.

    Args:
        share: 0.972 and the like.
        digits: behind the point.

    Example:
        >>> findings.percent(0.972)
        '97.2 %'
    """
    return f"{100 * share:.{digits}f} %"


def count(correct: int, total: int) -> str:
    """A count and what it says of the accuracy.

    Args:
        correct: images that were right.
        total: images.

    Returns:
        The count, its share, and the 95 % interval of that.

    Example:
        >>> findings.count(349, 359)
        '349 of 359 (97.2 %, 94.9–98.5 %)'
    """
    low, high = wilson(correct, total)
    return f"{correct:,} of {total:,} ({percent(correct / total)}, {100 * low:.1f}–{percent(high)})"


def join(words: Iterable[str], last: str = "and") -> str:
    """Words as a sentence lists them.

    Args:
        words: what is listed.
        last: before the last one.

    Example:
        >>> findings.join(["conv_2", "conv_4", "conv_6"])
        'conv_2, conv_4 and conv_6'
    """
    *before, end = list(words) or ["none"]
    return f"{', '.join(before)} {last} {end}" if before else end


def name_few(names: Iterable[object]) -> str:
    """Names as a sentence lists them; of many, the first few and how many more.

    Args:
        names: what is listed.

    Example:
        >>> findings.name_few(range(9))
        '0, 1, 2, 3 and 5 more'
    """
    told = [str(name) for name in names]
    return join([*told[:FEW], f"{len(told) - FEW} more"] if len(told) > FEW else told)


def signed(number: float, digits: int = 2) -> str:
    """A number with its sign: `+0.37`, `−0.84`."""
    return f"{number:+.{digits}f}".replace("-", "−")


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
            lines.append(f"**{arm}**: {count(*counts)}; {set_beside(counts, arms[control])}.")
    return "\n".join(lines)


def set_beside(one: tuple[int, int], other: tuple[int, int]) -> str:
    """How far one count is above or below another, or that so many images do not show it."""
    low, high = difference(one, other)
    if low <= 0 <= high:
        return f"no difference that {min(one[1], other[1]):,} images show"
    points = 100 * (one[0] / one[1] - other[0] / other[1])
    ends = sorted((abs(100 * low), abs(100 * high)))
    word = "above" if points > 0 else "below"
    return f"{abs(points):.1f} points {word} ({ends[0]:.1f} to {ends[1]:.1f})"
