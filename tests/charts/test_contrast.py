"""Colours stand out from white, and are told apart by people who lack a kind of cones, too."""

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
from colours import TO_XYZ, contrast, to_linear
from test_odd_names import DRAWN, PLAIN, walk

import prunelab.lab
from prunelab.charts import style
from prunelab.charts.plans import SHARED

LEAST = 4.5  # WCAG 2.2, 1.4.3
# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
SIGHT = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
DRAWN_WITH = {"line", "point", "circle", "square", "rule", "text", "tick", "bar", "trail"}
COLOURED = ("color", "fill", "stroke")


def to_lab(linear: np.ndarray) -> np.ndarray:
    """CIELAB 1976, white D65."""
    xyz = TO_XYZ @ linear.clip(0, 1) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one: str, other: str, sight: Any) -> float:
    seen = [to_lab(np.asarray(sight) @ to_linear(colour)) for colour in (one, other)]
    return float(np.linalg.norm(seen[0] - seen[1]))


def find_colours(item: Any) -> Iterator[str]:
    """All colours of a part of a spec, but for what a mark is not drawn with."""
    if isinstance(item, dict):
        for key, part in item.items():
            if key not in ("data", "datasets", "tooltip", "test"):
                yield from find_colours(part)
    elif isinstance(item, list):
        for part in item:
            yield from find_colours(part)
    elif isinstance(item, str) and re.fullmatch("#[0-9a-fA-F]{6}|#[0-9a-fA-F]{3}", item):
        yield item


def find_drawn(spec: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Each colour of lines, points, bars and words, and how opaque it is drawn."""
    for part in walk({key: value for key, value in spec.items() if key != "datasets"}):
        mark, encoding = part.get("mark"), part.get("encoding", {})
        if not isinstance(mark, dict) or mark["type"] not in DRAWN_WITH:
            continue
        opacity = mark.get("opacity", mark.get("strokeOpacity", 1))
        if opacity <= 0.01:  # to be hit by a pointer, not to be seen
            continue
        assert "opacity" not in encoding, "a colour that fades"
        yield from ((colour, opacity) for key in COLOURED for colour in find_colours(mark.get(key)))
        for key in COLOURED:
            yield from ((colour, opacity) for colour in find_colours(encoding.get(key)))


@pytest.mark.parametrize("name", DRAWN)
def test_lines_points_and_words_stand_out(name):
    for colour, opacity in find_drawn(DRAWN[name](PLAIN).to_dict()):
        assert contrast(colour) >= LEAST, colour
        assert opacity == 1, f"{colour} is mixed with the page: {opacity}"


@pytest.mark.parametrize("name", DRAWN)
def test_a_scheme_has_no_pale_end(name):
    """Schemes are named, not listed: only that of a map of fields is left, without its yellow."""
    for part in walk(DRAWN[name](PLAIN).to_dict()):
        if "scheme" in part:
            assert part["scheme"] == {"name": "viridis", "extent": [0, 0.8]}


def test_the_palette_stands_out():
    colours = [*style.OTHER_COLOURS, *style.COLOURS.values(), *style.KIND_COLOURS.values()]
    colours += [*style.ramp(9), style.CHOSEN]
    assert min(map(contrast, colours)) >= LEAST
    assert contrast("#E69F00") < LEAST  # what it was
    words = style.theme()["config"]["title"]["subtitleColor"]
    assert contrast(words) >= LEAST


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_are_told_apart(sight):
    for one, other in combinations(style.OTHER_COLOURS, 2):
        assert distance(one, other, SIGHT[sight]) > 15, (one, other)
    for one, other in combinations(style.ramp(9), 2):
        assert distance(one, other, SIGHT[sight]) > 5, (one, other)


@pytest.mark.parametrize("sight", SIGHT)
def test_the_layer_that_is_looked_at_is_none_of_the_ramp(sight):
    least = 50 if sight == "all cones" else 20
    for colour in style.ramp(55):
        assert distance(style.CHOSEN, colour, SIGHT[sight]) > least, colour


@pytest.mark.parametrize("sight", SIGHT)
def test_nine_layers_of_a_stage_are_apart(sight):
    for one, other in combinations(style.ramp(9), 2):
        assert distance(one, other, SIGHT[sight]) > 10, (one, other)


def test_the_simulation_is_one():
    """Red and green of one lightness are apart for all cones only."""
    red, green = "#a05050", "#607040"
    assert distance(red, green, SIGHT["deuteranopia"]) < distance(red, green, np.eye(3)) / 2


@pytest.mark.parametrize("names", [2, style.FEW, style.FEW + 1, 110])
def test_few_are_told_apart_by_more_than_colour(names):
    scales = style.tell_apart([f"name {i}" for i in range(names)])
    assert ("strokeDash" in scales) == ("shape" in scales) == (names <= style.FEW)
    for scale in scales.values():
        values = [str(value) for value in scale.to_dict()["range"]]
        assert len(set(values)) == len(values) == names


def test_black_words_on_fields():
    """The numbers of `overlap`."""
    assert 21 / contrast(SHARED) >= LEAST


def test_the_lab_s_colours_stand_out():
    """Those of its own bars and marks, which are no words; words are in the page's colours."""
    folder = Path(prunelab.lab.__file__).parent
    edges = {"#ddd", "#dddddd"}  # of lines between things
    for path in (*folder.rglob("*.py"), *folder.rglob("*.css")):
        for colour in set(re.findall("#[0-9a-fA-F]{6}\\b|#[0-9a-fA-F]{3}\\b", path.read_text())):
            if colour not in edges:
                assert contrast(colour) >= 3, (path.name, colour)  # WCAG 2.2, 1.4.11


def test_errors_are_spread():
    near = style.scale_errors(pd.Series([0.003, 0.006, 0.88]), "error")
    scale = near["scale"].to_dict()
    assert (scale["type"], scale["domain"]) == ("log", [0.002, 1])
    none = style.scale_errors(pd.Series([0.0, 0.02]), "error")
    scale = none["scale"].to_dict()
    assert (scale["type"], scale["domain"]) == ("symlog", [0, 0.02])
    for odd in ([], [0.0], [1.0], [None], [0.5]):
        how = style.scale_errors(pd.Series(odd, dtype=float), "error")
        low, high = how["scale"].to_dict()["domain"]
        assert 0 <= low < high <= 1
    assert isinstance(near["axis"], alt.Axis)
    assert style.name_start("accuracy", 0.65) == "accuracy (axis from 65 %)"
    assert style.name_start("accuracy", 0) == "accuracy"


def test_an_axis_of_errors_is_named_as_it_is():
    """None has no logarithm: near it the axis is even, and marks there keep off the frame."""
    assert style.scale_errors(pd.Series([0.02, 0.6]), "error")["title"] == "error (log scale)"
    none = style.scale_errors(pd.Series([0.0, 0.004, 0.6]), "error")
    assert none["title"] == "error (log scale above 0.2 %)"
    assert none["scale"].to_dict()["padding"] > 4
