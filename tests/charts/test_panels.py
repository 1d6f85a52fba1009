"""Panels side by side: each has an axis below it, and no two labels meet."""

import pandas as pd
import pytest
import vl_convert
from test_charts import CHANGES, LAYERS
from test_odd_names import LIVE, walk

from prunelab import charts


def measure(layers: int) -> pd.DataFrame:
    """So many layers, each in a stage of its own, and one more in the first."""
    one = LAYERS[LAYERS["layer"] == "layer1.0.conv1"]
    names = [*range(layers), 0.5]
    return pd.concat(
        [one.assign(layer=f"l{i}", paper_name=f"conv_{i}", stage=f"stage{int(i)}") for i in names]
    )


def train(kinds: int) -> pd.DataFrame:
    history = pd.DataFrame({"epoch": [1, 2], "test_accuracy": [0.4, 0.6]})
    return pd.concat([history.assign(kind=f"kind {i}") for i in range(kinds)])


DRAWN = {
    "sensitivity": lambda count: charts.sensitivity(measure(count)),
    "ways": lambda count: charts.compare_sensitivity({"one": measure(count).iloc[:-2]}),
    "learning": lambda count: charts.learning_curves(train(count)),
}


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 13])
@pytest.mark.parametrize("name", DRAWN)
def test_no_axis_hangs_below_an_empty_place(name, count):
    spec = DRAWN[name](count).to_dict()
    columns = spec["columns"]
    full = count <= columns or count % columns == 0
    assert full == (spec.get("resolve", {}).get("axis", {}).get("x") != "independent")
    drawn = walk(vl_convert.vegalite_to_scenegraph(spec, vl_version=LIVE))
    shown = [part["text"] for part in drawn if part.get("text") in ("filters removed", "epoch")]
    assert len(shown) == (min(count, columns) if full else count)


@pytest.mark.parametrize("name", DRAWN)
def test_labels_are_below_their_ticks(name):
    """Those at the ends, too: moved inside they would meet the next ones."""
    spec = DRAWN[name](3).to_dict()
    assert spec["config"]["axis"]["labelFlush"] is False
    drawn = walk(vl_convert.vegalite_to_scenegraph(spec, vl_version=LIVE))
    labels = [item for part in drawn if part.get("role") == "axis-label" for item in part["items"]]
    assert labels
    assert "left" not in {label.get("align") for label in labels}


def test_a_panel_names_the_layers_that_the_legend_numbers():
    first = measure(3).assign(stage="stage1")
    both = [first, first.assign(layer=first["layer"] + "b", stage="stage2").iloc[2:6]]
    spec = charts.sensitivity(pd.concat(both)).to_dict()
    rows = pd.DataFrame(next(iter(spec["datasets"].values())))
    assert spec["facet"]["sort"] == ["stage1: conv_0, conv_1 … conv_0.5", "stage2: conv_1, conv_2"]
    assert sorted(set(rows["stage"])) == spec["facet"]["sort"]


def test_curves_hold_no_column_that_is_not_drawn():
    """Of a stored measurement, which says with what it was made."""
    stored = LAYERS.assign(weights="0123456789abcdef", torch="2.9", device="cpu", network="a")
    text = str(charts.sensitivity(stored).to_dict())
    assert "0123456789abcdef" not in text


@pytest.mark.parametrize("half", [0.005, 0.05])
def test_bands_that_points_hide_are_not_announced_as_seen(half):
    near = measure(3)
    near = near.assign(accuracy_low=near["accuracy"] - half, accuracy_high=near["accuracy"] + half)
    for chart in (charts.sensitivity(near), charts.compare_sensitivity({"one": near})):
        hidden = "narrower than the points" in str(chart.to_dict()["title"])
        assert hidden == (half < 0.01)


def draw_changes(networks: int) -> list[dict]:
    """All parts of a drawn chart, of three kinds for each network."""
    kinds = pd.concat([CHANGES.assign(kind=kind) for kind in ("retrained", "pruned", "scratch-E")])
    listed = [kinds.assign(network=f"resnet-{i}, −30.0 %, digits") for i in range(networks)]
    spec = charts.changes(pd.concat(listed)).to_dict()
    return [*walk(vl_convert.vegalite_to_scenegraph(spec, vl_version=LIVE))]


def test_no_change_is_one_dashed_line_in_each_panel():
    dashed = [part for part in draw_changes(4) if part.get("strokeDash") == [4, 3]]
    assert len(dashed) == 4


def test_changes_of_twelve_networks_fit_a_screen():
    drawn = draw_changes(12)
    heights = [part["height"] for part in drawn if part.get("height")]
    assert max(heights) < 12 * (3 * 20 + 20)
    assert [f"resnet-{i}" for i in range(12)] == [
        part["text"][0] for part in drawn if part.get("text", "")[1:] == ["−30.0 %, digits"]
    ]


def test_a_map_speaks_of_dots_that_are_there():
    at = charts.place_handles(LAYERS, {"layer1.0.conv1": 0.5, "layer2.0.conv1": 0})
    for places, dots in ((None, 0), ({}, 0), (at, 2)):
        spec = charts.sensitivity_map(LAYERS, places).to_dict()
        assert ("dots" in str(spec["title"])) == (places is not None)
        drawn = walk(vl_convert.vegalite_to_scenegraph(spec, vl_version=LIVE))
        white = [item for part in drawn for item in part.get("items", []) if is_dot(item)]
        assert len(white) == dots
        assert "at" in {param["name"] for param in spec["params"]}


def is_dot(item: dict) -> bool:
    return (item.get("fill"), item.get("stroke")) == ("white", "black")
