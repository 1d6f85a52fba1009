"""The chart of a front: drawn whole and so far, with what is pinned and the goal."""

import io

import altair as alt
import pandas as pd
import pytest
from PIL import Image

from prunelab import charts

FRONT = pd.DataFrame(
    {
        "point": [0, 1, 2, 3],
        "found": ["whole", "layers", "uniform", "changed"],
        "ratios": [{}, {"stage1": 0.1}, {"*": 0.2}, {"stage2": 0.4}],
        "flops": [100, 90, 80, 70],
        "flops_left": [1.0, 0.9, 0.8, 0.7],
        "params_left": [1.0, 0.9, 0.8, 0.7],
        "correct": [98, 97, 60, 70],
        "total": 100,
        "accuracy": [0.98, 0.97, 0.6, 0.7],
        "accuracy_low": [0.93, 0.92, 0.5, 0.6],
        "accuracy_high": [0.99, 0.99, 0.69, 0.78],
        "predicted": [0.98, 0.98, 0.9, 0.9],
        "on_front": [True, True, False, True],
    }
)
PINNED = pd.DataFrame(
    {
        "name": ["before", "after", "not counted"],
        "flops_left": [0.75, 0.75, 0.5],
        "accuracy": [0.65, 0.96, None],
        "accuracy_low": [0.55, 0.9, None],
        "accuracy_high": [0.73, 0.98, None],
        "retrained": [False, True, False],
    }
)


def rows_of(chart):
    return [row for rows in chart.to_dict()["datasets"].values() for row in rows]


def domains(chart):
    encoding = chart.to_dict()["layer"][-1]["encoding"]
    return [encoding[name]["scale"]["domain"] for name in "xy"]


@pytest.mark.parametrize(
    "how", [{}, {"pinned": PINNED}, {"max_flops": 0.8}, {"pinned": PINNED, "max_loss": 0.01}]
)
@pytest.mark.parametrize("count", [1, 4])
def test_it_is_drawn(how, count):
    image = Image.open(io.BytesIO(charts.render_png(charts.front(FRONT[:count], **how))))
    assert len(image.getcolors()) > 5


def test_a_click_is_where_python_looks():
    live = alt.JupyterChart(charts.front(FRONT, PINNED, max_flops=0.8, max_loss=0.01))
    picked = {"picked": {"value": {"vlPoint": {"or": [{"point": 3}]}}, "store": []}}
    live._vl_selections = picked
    assert live.selections.picked.value == [{"point": 3}]


def test_it_shows_what_matters():
    x, y = domains(charts.front(FRONT))
    assert (x[0], y[0]) == (0.65, 0.6)  # the front and its intervals; the rest may be cut off
    assert x[1] > 1  # so that no mark is cut off at the edge
    x, y = domains(charts.front(FRONT, max_loss=0.01))
    assert y[0] == 0.9  # without what lost much more than it may
    assert x[0] == 0.85
    x, _ = domains(charts.front(FRONT, max_flops=0.5, max_loss=0.01))
    assert x[0] == 0.45  # the goal is in sight


def test_the_goal_and_the_pinned():
    rows = rows_of(charts.front(FRONT, PINNED, max_flops=0.8, max_loss=0.01))
    corner = next(row for row in rows if "top" in row)
    assert corner["right"] == 0.8
    assert corner["accuracy"] == pytest.approx(0.97)
    named = {row["name"]: row["state"] for row in rows if "state" in row}
    assert named == {"before": "pruned", "after": "retrained"}  # the third was never counted
    assert not [row for row in rows_of(charts.front(FRONT)) if "top" in row or "state" in row]


def test_words_take_the_colour_of_the_page():
    for layer in charts.front(FRONT, PINNED).to_dict()["layer"]:
        if layer["mark"]["type"] == "text":
            assert "color" not in layer["mark"]
            assert "color" not in layer["encoding"]
