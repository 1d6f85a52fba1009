"""Intervals of measured fractions."""

import math


def wilson(correct: int, total: int) -> tuple[float, float]:
    """The 95 % interval of the fraction correct / total (Wilson 1927).

    It is never outside [0, 1], and holds for few images too.
    """
    z = 1.959964  # a normal variable stays within ± z, 95 times in 100
    share, spread = correct / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)
