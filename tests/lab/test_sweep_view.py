"""The look at a sweep, without a page."""

import json
import time

import pandas as pd
import pytest

from prunelab import read_sweep
from prunelab.lab import SweepView
from prunelab.lab.sweep import view as module
from prunelab.utils.tensors import write_whole


@pytest.fixture
def running(tmp_path):
    """A CSV of a sweep that goes on: ours, with a point that waits and one that failed."""
    points = read_sweep()
    points.loc[7, ["state", "test_accuracy", "flops"]] = ["waiting", None, None]
    points.loc[6, "state"] = "failed"
    points["error"] = points["error"].astype(object)
    points.loc[6, "error"] = "ValueError: <b>it</b> was told to\nand more"
    path = tmp_path / "running.csv"
    points.to_csv(path, index=False)
    return path


def test_it_shows_what_is_published():
    view = SweepView()
    assert "digits-small</b>: 8 points, 8 done" in view.head.value
    assert (view.bar.value, view.bar.max, view.bar.bar_style) == (8, 8, "success")
    assert view.is_over
    assert list(view.filters) == ["ratio"]
    assert "ratio=0.2" in view.told.value
    assert view.told.value.index("baseline") < view.told.value.index("ratio=0.6")


def test_a_filter_leaves_a_part_and_the_baselines():
    view = SweepView()
    view.filters["ratio"].value = "0.4"
    assert set(view.shown["ratio"].dropna()) == {0.4}
    assert view.shown["for_others"].sum() == 2
    assert "ratio=0.6" not in view.told.value
    drawn = json.dumps(view.chart.chart.to_dict())
    assert "ratio=0.4" in drawn
    assert "ratio=0.6" not in drawn
    view.filters["ratio"].value = "all"
    assert len(view.shown) == 8


def test_what_failed_is_said_and_escaped(running):
    view = SweepView(running)
    assert "6 done" in view.head.value
    assert view.bar.bar_style == "danger"
    assert not view.is_over
    assert "&lt;b&gt;it&lt;/b&gt; was told to" in view.rows.value
    assert "and more" not in view.rows.value


def test_it_follows_until_all_is_done(running, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0.05)
    view = SweepView(running)
    assert not view.is_over
    write_whole(running, read_sweep().to_csv(index=False))  # as a sweep does
    until = time.monotonic() + 20
    while view.bar.value < 8 and time.monotonic() < until:
        time.sleep(0.05)
    assert view.bar.value == 8
    assert view.is_over


def test_nothing_is_done_yet(tmp_path):
    points = read_sweep().assign(state="waiting")
    pd.DataFrame(points).to_csv(tmp_path / "new.csv", index=False)
    view = SweepView(tmp_path / "new.csv")
    assert view.told.value == "No point is done yet."
    assert view.chart is None


def test_no_sweep_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no sweep in"):
        SweepView(tmp_path)
