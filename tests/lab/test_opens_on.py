"""The lab opens in the state that it is asked for, and has a picture of it for where it cannot."""

import base64

import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import conv2d

from prunelab import load_model, measure_sensitivity
from prunelab.lab import Lab, SweepView
from prunelab.lab.page import find_still, name_still, still
from prunelab.lab.tabs import TABS, TITLES, Plans
from prunelab.utils import paths

MOST = 45_000  # bytes of a picture: notebooks carry it


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return load_model("resnet20").eval()


@pytest.fixture
def measured(network, few_digits):
    return measure_sensitivity(network, few_digits, layers=["stage1", "conv_8"], images=20)


@pytest.fixture
def shown(monkeypatch):
    """What is displayed: (data, metadata)."""
    seen = []
    monkeypatch.setattr(
        still, "display", lambda data, metadata=None, raw=False: seen.append((data, metadata or {}))
    )
    return seen


@pytest.mark.parametrize("title", TITLES)
def test_a_tab_is_in_front(network, few_digits, title):
    lab = Lab(network, few_digits, images=0, tab=title)
    assert lab.tabs.titles[lab.tabs.selected_index] == title
    assert [view.title for view in lab.tabs.views if view.children] == [title]  # no other is drawn


def test_a_layer_is_looked_at(network, few_digits):
    lab = Lab(network, few_digits, images=0, tab="Network", layer="conv_9")
    assert lab.state.layer == lab.tabs["Network"].picker.value == "layer2.0.conv2"
    assert Lab(network, few_digits, images=0).state.layer == "layer1.0.conv1"


def test_curves_that_are_measured_already_are_shown(network, few_digits, measured):
    lab = Lab(network, few_digits, images=0, tab="Sensitivity", measured=measured)
    tab = lab.tabs["Sensitivity"]
    assert tab.shown.options == ("stages", "layers of stage2")
    assert list(tab.chart.moved["at"]) == ["stage1"]  # a handle
    lab.state.preset("budget", 0.9)  # budgets take them
    assert lab.state.ratios
    lab.state.choose(criterion="l2")
    assert lab.state.measured is None  # they are of another criterion
    lab.state.choose(criterion="l1")
    pd.testing.assert_frame_equal(lab.state.measured, measured)


def test_norms_of_a_layer_with_a_long_name_have_a_title_that_fits(network, few_digits):
    lab = Lab(network, few_digits, images=0, ratios={"stage2": 0.3}, layer="conv_8")
    assert lab.tabs["Norms"].dots.moved["shown"]["title"] == "conv_8: 10 of 32 go"


def test_what_it_cannot_open_on_is_said(network, few_digits, measured):
    whole = measured["removed"] == 0
    thinner = measured.assign(filters=measured["filters"] // 2)
    named = measured.copy()
    named.attrs["weights"] = "of another network"
    for wrong, message in [
        ({"tab": "sensitivity"}, "unknown tab 'sensitivity'; did you mean 'Sensitivity'"),
        ({"tab": ""}, "unknown tab ''. Known: Norms, "),
        ({"layer": "conv_99"}, "unknown layer 'conv_99'; did you mean"),
        ({"measured": {"layer": "conv_2"}}, "must be a frame of measure_sensitivity, not dict"),
        ({"measured": measured.drop(columns=["loss"])}, "this one has no loss"),
        ({"measured": measured[:0]}, "this one has no rows"),
        ({"measured": pd.concat([measured, measured])}, "a layer twice at one ratio"),
        ({"measured": measured[~whole]}, "lacks the whole network's accuracy"),
        ({"measured": measured.replace("stage1", "conv_77")}, "of another network: unknown layer"),
        ({"measured": thinner}, "another network: stage1 has 48 filters in this one, and 24"),
        ({"measured": named}, "another network: its weights are others"),
    ]:
        with pytest.raises(ValueError, match=message):
            Lab(network, few_digits, images=0, **wrong)


class Blurred(nn.Module):
    """A conv, and behind it a filter that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)
        self.register_buffer("blur", torch.full((8, 1, 3, 3), 1 / 9))

    def forward(self, x):
        return self.out(conv2d(self.conv(x), self.blur, groups=8).mean((2, 3)))


def test_a_layer_without_filters_of_its_own_cannot_be_looked_at(few_digits):
    with pytest.raises(ValueError, match="'blur' has no filters to look at; the layers that have"):
        Lab(Blurred(), few_digits, images=0, layer="blur")


@pytest.mark.parametrize("name", [*map(name_still, TITLES), "sweep"])
def test_its_picture_is_small(name):
    path = find_still(name)
    assert path is not None
    with Image.open(path) as picture:
        assert 800 <= picture.width <= 1100
        assert picture.height <= 700
    assert path.stat().st_size < MOST


def test_each_tab_says_what_its_picture_shows():
    assert all(len(tab.seen) > 40 for tab in (*TABS, Plans))


def test_a_picture_stands_where_no_kernel_runs(network, few_digits, shown):
    lab = Lab(network, few_digits, images=0, tab="Time")
    lab._ipython_display_()
    (picture, about), (told, _), (widget, _) = shown
    drawn = base64.b64decode(picture["image/png"])
    assert drawn == find_still("lab-time").read_bytes()
    words = about["image/png"]["alt"]
    assert words.startswith("The lab on its tab Time: the measured time")
    assert words == picture["text/plain"]
    assert words in told["text/html"]
    assert "run all cells, and it is here" in told["text/html"]
    assert "image/png" not in told  # which a code host would take instead of the picture
    assert "application/vnd.jupyter.widget-view+json" in widget
    shown.clear()
    lab.tabs.selected_index = 0
    lab._ipython_display_()
    assert shown[0][1]["image/png"]["alt"].startswith("The lab on its tab Norms")


def test_without_pictures_a_sentence_stands_there(
    network, few_digits, shown, monkeypatch, tmp_path
):
    for name in ("CHECKOUT", "PACKAGE"):
        monkeypatch.setattr(paths, name, tmp_path)
    Lab(network, few_digits, images=0)._ipython_display_()
    (told, _), (widget, _) = shown
    assert "run all cells, and it is here" in told["text/html"]
    assert "prunelab-still" not in told["text/html"].split("</style>")[1]
    assert "application/vnd.jupyter.widget-view+json" in widget


def test_a_sweep_has_its_picture(shown):
    SweepView()._ipython_display_()
    assert shown[0][1]["image/png"]["alt"].startswith("A sweep:")
    assert base64.b64decode(shown[0][0]["image/png"]) == find_still("sweep").read_bytes()
