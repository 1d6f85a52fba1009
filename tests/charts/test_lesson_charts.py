"""The charts of one lesson each: steepness against loss, independent and greedy scoring."""

import io

import numpy as np
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


def read_points(points: pd.DataFrame) -> tuple[dict, pd.DataFrame]:
    spec = charts.steepness(points).to_dict()
    return spec, pd.DataFrame(next(iter(spec["datasets"].values())))


def test_panels_of_steepness_have_the_same_axes():
    spec, _ = read_points(POINTS)
    assert "scale" not in spec.get("resolve", {})
    low, high = spec["spec"]["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert low < POINTS["steepness"].min() < POINTS["steepness"].max() < high


def test_numbers_of_steepness_meet_no_others():
    near = POINTS[:6].assign(lost=[0.5, 0.5, 0.0, 0.5, 0.505, 1.0], paper_name="conv_10")
    near["steepness"] = [0.2, 0.205, 0.1, 0.21, 0.4, 0.9]
    spec, rows = read_points(near)
    x, y = (spec["spec"]["layer"][0]["encoding"][axis]["scale"]["domain"] for axis in "xy")
    size = [spec["spec"]["width"], spec["spec"]["height"]]
    share = [(rows["steepness"] - x[0]) / (x[1] - x[0]), (y[1] - rows["lost"]) / (y[1] - y[0])]
    points = np.stack(share, axis=1) * size
    numbers = points + rows[["dx", "dy"]]
    for i, number in numbers.iterrows():
        for point in points:
            assert (abs(number - point) >= [9.9, 8.9]).any()  # as wide and high as both are
        for other in numbers.drop(index=i).to_numpy():
            assert (abs(number - other) >= [12.9, 10.9]).any()
        assert (number > 5).all()
        assert (number < np.subtract(size, 5)).all()
