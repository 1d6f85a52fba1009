"""The paper's tables as sentences: held against prints that are known."""

import pytest
import torch

from prunelab import findings, load_model, make_plan, measure_cost, trace
from prunelab.findings import networks


def test_trained_networks_are_those_that_are_there(monkeypatch):
    assert ("resnet20", "CIFAR-10 (JPEG)") in findings.load_trained()
    monkeypatch.setattr(networks, "TRAINED", {"nothing-here": ("resnet20", "x")})
    assert findings.load_trained() == {}


def test_table_2():
    counted = findings.count_table_2()
    assert len(counted) == 16
    assert counted["", "agrees"].all()
    told = findings.describe_table_2(counted)
    assert told == (
        "13 of 13 lines of convolutions agree in every printed digit, and 3 of the 3 others."
    )


def test_a_line_that_differs_is_named(monkeypatch):
    monkeypatch.setattr(networks, "read_ratios", lambda recipe: {"conv_1": 0.5})
    counted = findings.count_table_2()
    told = findings.describe_table_2(counted)
    assert told.startswith("7 of 13 lines")
    assert "Not so: conv_8, conv_9" in told
    assert "total" in told


@pytest.mark.parametrize(
    ("recipe", "said"),
    [("vgg16-pruned-a", "34.19 % of the multiply-adds; 34.2 % in Table 1"), ("digits-quick", "no")],
)
def test_table_1(recipe, said):
    model = "vgg16" if recipe.startswith("vgg") else "resnet20"
    graph = trace(load_model(model), torch.zeros(1, 3, 32, 32))
    cost = measure_cost(graph, make_plan(graph, findings.read_ratios(recipe)))
    told = findings.compare_with_table_1(recipe, cost)
    assert said in told
    assert len(told.splitlines()) == 2
