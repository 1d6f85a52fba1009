"""The tab inside a layer: tiles, clicks on them, and two criteria."""

import threading

import pytest
from altair.jupyter.jupyter_chart import PointSelection

from prunelab import load_model
from prunelab.lab.state import State, open_network
from prunelab.lab.tabs.filters import KERNELS, MAPS, Filters

LAYER = "layer1.0.conv1"


@pytest.fixture
def tab(few_digits):
    state = State(open_network(load_model("resnet20"), few_digits), ratios={"stage1": 0.3})
    tab = Filters(state, threading.Lock())
    tab.look(True)
    return tab


def click(tab, number):
    """As the page tells of a click on a tile."""
    tab._picked({"new": PointSelection("picked", [{"filter": number}], [])})


def rows(chart):
    (data,) = (d for d in chart.to_dict()["datasets"].values() if d and "picture" in d[0])
    return {row["filter"]: row for row in data}


def test_a_click_toggles_and_the_tiles_show_it(tab):
    tiles = rows(tab.tiles.chart)
    assert sum(row["fate"] == "removed" for row in tiles.values()) == 5
    kept = next(number for number, row in tiles.items() if row["fate"] == "kept")
    click(tab, kept)
    assert kept not in tab.state.plan.keep[LAYER]
    assert (rows(tab.tiles.chart)[kept]["fate"], rows(tab.tiles.chart)[kept]["hand"]) == (
        "removed",
        "yes",
    )
    assert not tab.forget.disabled
    tab.forget.click()
    assert kept in tab.state.plan.keep[LAYER]
    assert tab.forget.disabled


def test_what_cannot_go_says_why(tab):
    tab.state.layer = "conv1"
    click(tab, 0)
    assert "cannot be pruned" in tab.trouble.value


def test_it_is_drawn_anew_only_when_something_changed(tab):
    drawn, scatter = tab.tiles.chart, tab.scatter.chart
    tab.state.set_ratio("conv_10", 0.5)  # of another layer
    assert tab.tiles.chart is drawn
    assert tab.scatter.chart is scatter
    tab.state.layer = "layer1.1.conv1"
    assert tab.tiles.chart is not drawn
    assert tab.picker.value == "layer1.1.conv1"


def test_maps_on_an_image(tab, few_digits):
    kernels = rows(tab.tiles.chart)
    assert tab.image.layout.display == "none"
    tab.what.value = MAPS
    first = rows(tab.tiles.chart)
    assert first[0]["picture"] != kernels[0]["picture"]
    assert tab.image.layout.display == ""
    tab.image.value = 3
    assert rows(tab.tiles.chart)[0]["picture"] != first[0]["picture"]
    assert few_digits.classes[int(few_digits.val.labels[3])] in tab.label.value
    assert bytes(tab.sample.value).startswith(b"\x89PNG")
    tab.what.value = KERNELS
    assert rows(tab.tiles.chart)[0]["picture"] == kernels[0]["picture"]


def test_a_second_criterion(tab):
    assert "l1 and l2: rank correlation" in tab.scatter.chart.title.text
    assert tab.bar.layout.display == "none"
    tab.second.value = "mean_std"
    assert tab.scatter.layout.display == "none"
    assert tab.bar.layout.display == ""
    tab.bar.start.click()
    tab.job.join()
    assert tab.job.message == "mean_std looked at 256 training images."
    assert "l1 and mean_std" in tab.scatter.chart.title.text
    assert tab.scatter.layout.display == ""


def test_another_network(tab, few_digits):
    tab.what.value = MAPS
    tab.state.show(open_network("vgg16", few_digits))
    assert len(rows(tab.tiles.chart)) == 64
