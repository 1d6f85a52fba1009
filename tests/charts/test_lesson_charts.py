"""The charts of one lesson each: steepness against loss, independent and greedy scoring."""

import io

import pandas as pd
from PIL import Image

from prunelab import charts
from prunelab.utils.intervals import wilson

NETWORKS = ("resnet20, CIFAR-10 (JPEG)", "vgg16_x0_25, CIFAR-10 (JPEG)")
POINTS = pd.DataFrame(
    [
        (network, f"layer{i}", f"conv_{2 * i + 2}", f"stage{1 + i // 2}", 0.1 + i / 20, 0.5, i / 30)
        for network in NETWORKS
        for i in range(6)
    ],
    columns=["network", "layer", "paper_name", "stage", "steepness", "ratio", "lost"],
)


def measured(networks=NETWORKS) -> pd.DataFrame:
    rows = []
    for network in networks:
        for strategy, lead in (("independent", 0), ("greedy", 30)):
            for ratio in (0.3, 0.6, 0.9):
                right = round(900 - 800 * ratio + lead)
                low, high = wilson(right, 1000)
                row = {"network": network, "strategy": strategy, "ratio": ratio, "total": 1000}
                row |= {"correct": right, "accuracy": right / 1000, "flops_left": 1 - ratio}
                rows.append(row | {"accuracy_low": low, "accuracy_high": high})
    return pd.DataFrame(rows)


def drawn(chart) -> Image.Image:
    return Image.open(io.BytesIO(charts.render_png(chart)))


def test_they_are_drawn_with_a_panel_for_each_network():
    for draw, frame in ((charts.steepness, POINTS), (charts.strategies, measured())):
        both, one = drawn(draw(frame)), drawn(draw(frame[frame["network"] == NETWORKS[0]]))
        assert both.width > 1.5 * one.width
        assert sum(count > 0 for count in both.convert("L").histogram()) > 8


def test_a_chart_as_a_picture_alone_says_what_it_shows():
    chart = charts.steepness(POINTS)
    shown = charts.as_picture(chart)
    assert bytes(shown) == charts.render_png(chart)
    assert shown.alt == chart.to_dict()["description"]


def test_their_descriptions_are_made_of_the_frame():
    said = charts.steepness(POINTS).to_dict()["description"]
    assert "6 layers at 50 %: ρ = +1.00" in said
    assert "**" not in said
    said = charts.strategies(measured()).to_dict()["description"]
    assert all(network in said for network in NETWORKS)


def test_a_frame_of_one_network_needs_no_name():
    chart = charts.strategies(measured(NETWORKS[:1]).drop(columns="network"))
    assert drawn(chart).width > 240


def test_lines_and_points_differ_beside_their_colour():
    spec = str(charts.strategies(measured()).to_dict())
    assert "strokeDash" in spec
    assert "shape" in str(charts.steepness(POINTS).to_dict())
    many = POINTS.assign(stage=[f"stage{i}" for i in range(len(POINTS))])
    assert drawn(charts.steepness(many)).width > 240  # too many for shapes
