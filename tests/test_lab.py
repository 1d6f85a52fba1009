import pytest
import torch

from prunelab import load_model, make_plan, total_cost, trace
from prunelab.lab import Lab


@pytest.fixture
def graph():
    return trace(load_model("resnet20"), torch.zeros(1, 3, 32, 32))


def test_it_starts_where_the_parameter_says(graph):
    lab = Lab(graph, ratios={"stage1": 0.3, "stage3": 0.5})
    assert lab.ratios == {"stage1": 0.3, "stage2": 0.0, "stage3": 0.5}
    assert {stage: slider.value for stage, slider in lab.sliders.items()} == lab.ratios
    assert lab.plan == make_plan(graph, lab.ratios)


def test_a_slider_moves_totals_and_chart(graph):
    lab = Lab(graph)
    before = lab.picture.chart.to_dict()
    lab.sliders["stage2"].value = 0.5
    assert lab.ratios["stage2"] == 0.5
    after = total_cost(graph, lab.plan).loc["after", "flops"]
    assert f"<b>{after / 1e6:,.2f} M</b> of 40.55 M multiply-adds" in lab.totals.value
    assert lab.picture.chart.to_dict() != before


def test_setting_ratios_moves_the_sliders(graph):
    lab = Lab(graph)
    lab.ratios = {"stage1": 0.2}
    assert lab.sliders["stage1"].value == 0.2
    with pytest.raises(ValueError, match=r"must be a number in \[0, 1\)"):
        lab.ratios = {"stage1": 1.0}
    with pytest.raises(ValueError, match="unknown layer 'stage9'"):
        lab.ratios = {"stage9": 0.1}
    assert lab.ratios["stage1"] == 0.2
