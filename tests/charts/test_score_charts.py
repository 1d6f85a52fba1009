"""Charts of scores: no line leaves its axes, nothing is rounded away, and words fit every score."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vl_convert
from test_odd_names import LIVE, walk

from prunelab import charts

CALLS = [charts.norm_lines, charts.filter_norms]


def rank(scores: list[float]) -> pd.DataFrame:
    """Two layers with these scores."""
    own = pd.Series(scores, dtype=float)
    frame = pd.DataFrame({"filter": range(len(own)), "score": own, "share": own / own.max()})
    frame = frame.assign(rank=(frame.index + 1) / len(own), fate="kept", stage="stage1")
    return pd.concat([frame.assign(layer=name, paper_name=name) for name in ("conv_1", "conv_2")])


def find_shares(spec: dict) -> dict:
    """What an axis of shares says."""
    axes = (part["y"] for part in walk(spec) if "y" in part)
    return next(axis for axis in axes if isinstance(axis, dict) and axis.get("field") == "share")


@pytest.mark.parametrize("draw", CALLS)
def test_scores_below_none_stay_inside_the_axes(draw):
    low, high = find_shares(draw(rank([2, 1, -1, -3.3])).to_dict())["scale"]["domain"]
    assert low <= -1.65
    assert high == 1
    low, high = find_shares(draw(rank([-1.0, -2.0, -4.0])).to_dict())["scale"]["domain"]
    assert low <= 1
    assert high >= 4


@pytest.mark.parametrize("draw", CALLS)
def test_an_axis_of_scores_starts_at_0_but_where_half_of_it_were_empty(draw):
    near = find_shares(draw(rank([1, 0.7, 0.4])).to_dict())
    assert near["scale"]["domain"] == [0, 1]
    assert "axis" not in near["title"]
    far = find_shares(draw(rank([1, 0.9, 0.83])).to_dict())
    assert far["scale"]["domain"] == [0.8, 1]
    assert far["title"].endswith("(axis from 0.8)")
    assert find_shares(draw(rank([1, 1])).to_dict())["scale"]["domain"] == [0.9, 1]


@pytest.mark.parametrize("draw", CALLS)
def test_a_layer_without_a_largest_score_costs_no_axis(draw):
    ranked = rank([1, 0.2])
    ranked.loc[ranked["layer"] == "conv_2", "share"] = [np.nan, -np.inf]
    assert find_shares(draw(ranked).to_dict())["scale"]["domain"] == [0, 1]


def test_no_score_is_called_a_norm():
    """A mean or a Taylor score is none."""
    ranked = rank([2, -1])
    shown = charts.describe_norms(ranked, "conv_1")
    drawn = [charts.norm_lines(ranked), charts.filter_norms(ranked), charts.layer_norms(shown, 2)]
    for chart in drawn:
        assert not re.search(r"\bnorms?\b", str(chart.to_dict()))


def list_ticks(chart: Any) -> set[str]:
    """The numbers on its axes."""
    drawn = vl_convert.vegalite_to_scenegraph(chart.to_dict(), vl_version=LIVE)
    labels = (part for part in walk(drawn) if part.get("role") == "axis-label")
    return {item["text"] for label in labels for item in label["items"]}


def test_small_scores_are_not_rounded_away():
    ranked = rank([3.2e-7, 2.5e-8, 1e-9])
    shown = charts.describe_norms(ranked, "conv_1")
    assert shown["scores"] == [3.2e-7, 2.5e-8, 1e-9]
    assert charts.describe_norms(rank([123.456789, 2]), "conv_1")["scores"] == [123.46, 2]


@pytest.mark.parametrize("size", [1e-6, 1e-9])
def test_ticks_of_small_scores_can_be_read(size):
    ranked = rank([2 * size, size, -size])
    shown = charts.describe_norms(ranked, "conv_1")
    beside = charts.compare_scores(ranked, ranked, "conv_1", names=("one", "other"))
    for chart in (charts.layer_norms(shown, 3), beside):
        ticks = list_ticks(chart)
        assert any("e" in tick for tick in ticks)
        assert max(map(len, ticks)) <= len("−1.5e-10")


def test_ticks_of_other_scores_are_plain():
    shown = charts.describe_norms(rank([20, 15, 2]), "conv_1")
    assert {"0", "5", "20"} <= list_ticks(charts.layer_norms(shown, 3))
