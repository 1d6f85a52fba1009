"""Intervals of measured fractions, and of what several runs gave."""

import math
import statistics
from collections.abc import Sequence


def wilson(correct: int, total: int) -> tuple[float, float]:
    """The 95 % interval of the fraction correct / total (Wilson 1927).

    It is never outside [0, 1], and holds for few images too.
    """
    z = 1.959964  # a normal variable stays within ± z, 95 times in 100
    share, spread = correct / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def difference(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
    """The 95 % interval of the difference of two fractions, each (correct, total).

    Newcombe's of 1998 (his method 10), made of both Wilson intervals. It takes the two counts as
    independent; of the same images, the true interval is narrower in most cases.
    """
    (low, high), (low_other, high_other) = wilson(*one), wilson(*other)
    share, share_other = one[0] / one[1], other[0] / other[1]
    middle = share - share_other
    below = math.hypot(share - low, high_other - share_other)
    above = math.hypot(high - share, share_other - low_other)
    return middle - below, middle + above


def over_runs(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of two or more independent runs (Student 1908).

    Of two it is 6 times their distance to each side: so little do two say.
    """
    from scipy.stats import t  # takes a while to import

    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values) - half, statistics.fmean(values) + half
