"""Colours as numbers: linear light, and the contrast of two."""

import numpy as np

TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def to_linear(colour: str) -> np.ndarray:
    """Linear RGB (IEC 61966-2-1)."""
    code = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(colour: str, other: str = "#ffffff") -> float:
    """Of two colours (WCAG 2.2); 1 to 21."""
    dark, light = sorted(float(to_linear(one) @ TO_XYZ[1]) for one in (colour, other))
    return (light + 0.05) / (dark + 0.05)
