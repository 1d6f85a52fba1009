"""Charts inside a layer: tiles in the order of their scores, and two criteria."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from prunelab import charts


def rank(count, removed=(), layer="conv1"):
    scores = np.arange(count, 0, -1.0)
    fates = np.where(np.isin(np.arange(count), removed), "removed", "kept")
    names = {"layer": layer, "paper_name": "conv_1"}
    return pd.DataFrame({"filter": np.arange(count), "score": scores, "fate": fates, **names})


def open_picture(uri):
    head, _, text = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_kernels_as_pictures():
    weight = torch.zeros(2, 3, 3, 3)
    weight[0, 0, 0, 0] = 1  # red, in the corner
    colour = open_picture(charts.kernel_pictures(weight)[0])
    assert colour.shape == (32, 32, 3)
    assert colour[0, 0].tolist() == [255, 0, 0]
    assert colour[31, 31].tolist() == [0, 0, 0]
    grey = open_picture(charts.kernel_pictures(-torch.eye(3).expand(2, 8, 3, 3))[1])
    assert grey.shape == (32, 32)
    assert (grey[0, 0], grey[0, 31]) == (255, 0)  # of |kernel|
    square = open_picture(charts.kernel_pictures(torch.eye(9)[:, :, None, None])[8])
    assert (square[0, 0], square[31, 31]) == (0, 255)


@pytest.mark.parametrize("shape", [(16, 64, 48), (16, 4, 4), (300, 100)])
def test_maps_as_pictures(shape):
    pictures = charts.map_pictures(torch.randn(shape))
    assert len(pictures) == shape[0]
    assert max(open_picture(pictures[0]).shape) == (32 if shape[0] == 16 else 16)


@pytest.mark.parametrize(("count", "columns"), [(16, 16), (64, 16), (512, 29)])
def test_tiles(count, columns):
    gone = [1, 3]
    frame = rank(count, gone).assign(by_hand=lambda own: own["filter"] == 3)
    chart = charts.filter_tiles(frame, dict.fromkeys(range(count), "data:"))
    spec = chart.to_dict()
    assert f"{count - 2} of {count} stay" in spec["title"]["text"]
    assert [param["name"] for param in spec["params"]] == ["picked"]
    assert spec["params"][0]["select"]["fields"] == ["filter"]
    rows = next(d for d in spec["datasets"].values() if d and "picture" in d[0])
    places = {(row["row"], row["column"]) for row in rows}
    assert len(places) == count
    assert max(row["column"] for row in rows) == min(columns, count - 2) - 1
    order = sorted(rows, key=lambda row: (row["row"], row["column"]))
    assert [row["filter"] for row in order[-2:]] == gone
    assert [row["filter"] for row in rows if row["hand"] == "yes"] == [3]
    assert charts.render_png(chart) is not None


def test_all_stay_and_must_stay():
    pictures = dict.fromkeys(range(4), "data:")
    assert "all 4 stay" in charts.filter_tiles(rank(4), pictures).title.text
    fixed = rank(4).assign(fate="fixed")
    assert "all 4 must stay" in charts.filter_tiles(fixed, pictures).title.text


def test_two_criteria():
    one, other = rank(5, [4]), rank(5)
    other["score"] = [5.0, 4.0, 3.0, 1.0, 2.0]  # two neighbours swapped: 1 - 6·2/(5·24)
    chart = charts.compare_scores(one, other, "conv1", names=("l1", "l2"))
    assert chart.title.text == "l1 and l2: rank correlation 0.90"
    assert charts.render_png(chart) is not None
    flat = charts.compare_scores(one, other.assign(score=1.0), "conv1")
    assert "no order to compare" in flat.title.text
