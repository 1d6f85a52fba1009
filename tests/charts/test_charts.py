"""Charts: each is drawn from its frame, and its live parameters are where JupyterChart looks."""

import io
import json
import sys

import pandas as pd
import pytest
import torch
import vl_convert
from PIL import Image
from test_odd_names import LIVE, walk

from prunelab import (
    charts,
    compare_plans,
    compare_points,
    load_model,
    make_plan,
    measure_cost,
    rank_filters,
    read_sweep,
    trace,
)
from prunelab.charts.style import COLOURS, render_bundle
from prunelab.pruning import measure_memory

HISTORY = pd.DataFrame(
    {
        "kind": ["baseline"] * 2,
        "epoch": [1, 2],
        "train_accuracy": [0.5, 0.8],
        "val_accuracy": [0.4, 0.7],
        "test_accuracy": [0.4, 0.6],
    }
)
MEASURED = pd.DataFrame(
    {
        "layer": "stage1",
        "ratio": [0, 0.5],
        "removed": [0, 8],
        "filters": 16,
        "correct": [90, 40],
        "total": 100,
        "accuracy": [0.9, 0.4],
        "loss": [0.1, 2.0],
        "accuracy_low": [0.83, 0.31],
        "accuracy_high": [0.94, 0.5],
        "paper_name": "stage1",
        "stage": "stage1",
    }
)
NAMES = [
    ("layer1.0.conv1", "conv_10", "stage1"),
    ("layer1.1.conv1", "conv_11", "stage1"),
    ("layer2.0.conv1", "conv_20", "stage2"),
    ("layer2.1.conv1", "conv_21", "stage2"),
]
LAYERS = pd.concat(
    [MEASURED.assign(layer=layer, paper_name=paper, stage=stage) for layer, paper, stage in NAMES]
)
LAYERS.attrs["refused"] = {"conv1": "its maps are added to others"}
COMPARED = pd.DataFrame(
    {
        "choice": ["uniform", "chosen"],
        "flops_left": [0.7, 0.69],
        "params_left": [0.6, 0.8],
        "accuracy": [0.5, 0.7],
        "accuracy_low": [0.4, 0.6],
        "accuracy_high": [0.6, 0.8],
        "predicted": [None, 0.9],
    }
)
TIMED = pd.DataFrame(
    {
        "recipe": "r",
        "model": ["whole", "pruned"] * 2,
        "batch": [1, 1, 128, 128],
        "format": "contiguous",
        "median_ms": [2.0, 1.5, 90, 60],
        "low_ms": 1.0,
        "high_ms": 100.0,
        "time_left": [1, 0.75, 1, 0.66],
        "flops_left": [1, 0.7, 1, 0.7],
        "unaligned": [0, 3, 0, 3],
        "device": "cpu",
        "threads": 2,
    }
)
ROWS = pd.DataFrame(
    {
        "recipe": "r",
        "model": "m",
        "dataset": "d",
        "kind": ["baseline", "pruned"],
        "seed": 0,
        "test_accuracy": [0.9, 0.4],
        "flops": [4e7, 3e7],
    }
)
CHANGES = pd.DataFrame(
    {
        "network": "r, −30.0 %, d",
        "kind": "retrained",
        "whose": ["ours", "paper"],
        "n": 1,
        "change": [0.4, -0.1],
        "low": [-0.6, None],
        "high": [1.4, None],
    }
)


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    return trace(load_model("resnet20"), torch.zeros(1, 3, 32, 32))


def all_charts(graph):
    plan = make_plan(graph, {"stage1": 0.3})
    ranked, cost = rank_filters(graph, plan), measure_cost(graph, plan)
    shown = charts.describe_norms(ranked, "layer1.0.conv1")
    by_criterion = {c: make_plan(graph, {"*": 0.5}, criterion=c) for c in ("l1", "l2", "fpgm")}
    return {
        "filter_norms": charts.filter_norms(ranked),
        "layer_cost": charts.layer_cost(cost),
        "norm_lines": charts.norm_lines(ranked, "layer1.0.conv1"),
        "layer_norms": charts.layer_norms(shown, 64),
        "memory too": charts.layer_cost(measure_memory(graph, cost)),
        "coupling": charts.coupling(graph.coupled("conv_1")),
        "sensitivity": charts.sensitivity(MEASURED),
        "sensitivity of layers": charts.sensitivity(LAYERS),
        "compare_sensitivity": charts.compare_sensitivity({"smallest": LAYERS, "largest": LAYERS}),
        "overlap": charts.overlap(compare_plans(by_criterion)),
        "choices": charts.choices(COMPARED),
        "latency": charts.latency(TIMED),
        "latency of one's own": charts.latency(TIMED.drop(columns=["recipe", "device", "threads"])),
        "learning_curves": charts.learning_curves(HISTORY),
        "tradeoff": charts.tradeoff(ROWS),
        "changes": charts.changes(CHANGES),
        "sweep": charts.sweep(compare_points(read_sweep())),
    }


def test_every_chart_is_drawn(graph):
    for name, chart in all_charts(graph).items():
        image = Image.open(io.BytesIO(charts.render_png(chart)))
        assert image.width > 240, name
        assert sum(count > 0 for count in image.convert("L").histogram()) > 8, name  # not blank
        assert chart.to_dict()["title"], name
        json.dumps(chart.to_dict(), allow_nan=False)


def test_the_live_parameters_are_at_the_top(graph):
    """Where JupyterChart looks for them."""
    expected = {
        "norm_lines": {"chosen", "picked"},
        "layer_norms": {"shown"},
        "layer_cost": {"left"},
        "sensitivity": {"picked"},
        "sensitivity of layers": {"picked"},
    }
    drawn = all_charts(graph)
    for name, params in expected.items():
        assert {param.to_dict()["name"] for param in drawn[name].params} == params, name


def test_the_cut_is_between_kept_and_removed(graph):
    plan = make_plan(graph, {"stage1": 0.3})
    shown = charts.describe_norms(rank_filters(graph, plan), "layer1.0.conv1")
    assert shown["cut"] == 11.5
    assert shown["fates"] == ["kept"] * 11 + ["removed"] * 5
    assert shown["title"] == "conv_2 (layer1.0.conv1): 5 of 16 go"
    assert sorted(shown["filters"][11:]) == plan.removed["layer1.0.conv1"]
    fixed = charts.describe_norms(rank_filters(graph, plan), "conv1")
    assert (fixed["cut"], set(fixed["fates"])) == (None, {"fixed"})
    largest = make_plan(graph, {"stage1": 0.3}, order="random")
    assert charts.describe_norms(rank_filters(graph, largest), "layer1.0.conv1")["cut"] is None


def test_first_filters_are_shown_kept_and_removed_apart():
    weight = torch.randn(30, 3, 3, 3)
    blue, orange = (
        tuple(int(COLOURS[fate][i : i + 2], 16) for i in (1, 3, 5)) for fate in ("kept", "removed")
    )
    for gone in ([], [1, 2, 3], list(range(29))):
        image = Image.open(io.BytesIO(charts.filter_images(weight, gone))).convert("RGB")
        found = {colour for _, colour in image.getcolors(10**6)}
        assert (orange in found) == bool(gone)
        assert blue in found
    grey = charts.filter_images(torch.randn(8, 1, 5, 5), [0])
    assert Image.open(io.BytesIO(grey)).width > 100


def test_charts_show_without_a_network_and_the_same_each_time(graph):
    spec = charts.filter_norms(rank_filters(graph)).to_dict()
    shown, told = render_bundle(spec)
    assert set(shown) == {"application/vnd.vegalite.v5+json", "image/png", "text/plain"}
    assert shown["text/plain"] == f"<chart: {told['image/png']['alt']}>"
    title, _, said = told["image/png"]["alt"].partition(". ")
    assert title == "Sorted filter scores, one line for each conv"
    assert said == spec["description"]
    assert (shown, told) == render_bundle(spec)


def test_without_vl_convert_the_image_is_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    shown, told = render_bundle(charts.tradeoff(ROWS).to_dict())
    assert "image/png" not in shown
    assert not told


def test_colours_mean_fates(graph):
    spec = str(charts.filter_norms(rank_filters(graph, make_plan(graph, {"*": 0.5}))).to_dict())
    assert all(COLOURS[fate] in spec for fate in ("kept", "removed", "fixed"))


def test_a_line_shows_one_network():
    both = pd.concat([LAYERS.assign(network="one"), LAYERS.assign(network="two")])
    with pytest.raises(ValueError, match="'retrained' holds the networks 'one', 'two'"):
        charts.compare_sensitivity({"retrained": both})


@pytest.mark.parametrize(("name", "width"), [("resnet20", 200), ("resnet56", 420)])
def test_each_bar_of_costs_has_its_name(name, width):
    cost = measure_cost(trace(load_model(name), torch.zeros(1, 3, 32, 32)))
    spec = charts.layer_cost(cost).to_dict()
    for panel in spec["vconcat"]:
        panel["width"] = width
    drawn = [*walk(vl_convert.vegalite_to_scenegraph(spec, vl_version=LIVE))]
    labels = [part["items"] for part in drawn if part.get("role") == "axis-label"]
    shown = {item["text"] for items in labels for item in items if item.get("opacity", 1) > 0}
    assert set(cost["paper_name"]) <= shown
