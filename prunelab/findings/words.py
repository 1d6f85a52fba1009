"""How numbers and sentences are written, everywhere alike."""

from collections.abc import Iterable
from typing import Any

from prunelab.utils.intervals import wilson


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
