"""The paper's tables are the truth: multiply-adds and parameters of every row.

So are two other counters.
"""

import pandas as pd
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prunelab import load_model, load_recipe, make_plan, measure_cost, prune, total_cost, trace
from prunelab.pruning.cost import measure_memory
from prunelab.utils.paths import find_shipped

ROWS = {  # recipe: multiply-adds, parameters (checked against the percentages printed in Table 1)
    "vgg16": (313_463_808, 14_978_250),
    "vgg16-pruned-a": (206_279_680, 5_390_698),
    "resnet56": (125_485_696, 848_954),
    "resnet56-pruned-a": (112_435_840, 769_466),
    "resnet56-pruned-b": (90_907_264, 732_026),
    "resnet110": (252_887_680, 1_719_866),
    "resnet110-pruned-a": (212_779_648, 1_680_698),
    "resnet110-pruned-b": (155_124_352, 1_161_722),
    "resnet34": (3_644_493_824, 21_608_616),
    "resnet34-pruned-a": (3_080_916_992, 19_963_560),
    "resnet34-pruned-b": (2_763_001_856, 19_281_576),
    "resnet34-pruned-c": (3_374_446_592, 20_051_112),
}


def cost_of(name: str) -> pd.DataFrame:
    recipe = load_recipe(name)
    model = load_model(recipe.model.name, num_classes=recipe.model.num_classes or 10)
    size = recipe.data.image_size or 32
    graph = trace(model, torch.zeros(1, 3, size, size))
    plan = make_plan(graph, recipe.prune.all_ratios) if recipe.prune else None
    return measure_cost(graph, plan, shortcuts=recipe.shortcuts)


@pytest.mark.parametrize("name", ROWS)
def test_table_1(name):
    cost = cost_of(name)
    assert (cost["flops_after"].sum(), cost["params_after"].sum()) == ROWS[name]
    printed = pd.read_csv(find_shipped("data/paper/table1.csv")).set_index("model").loc[name]
    for column in ("flops", "params"):
        removed = 100 * (1 - cost[f"{column}_after"].sum() / cost[column].sum())
        expected = printed[f"{column}_pruned_percent"] if removed else 0
        assert removed == pytest.approx(expected, abs=0.1)


def test_table_2_line_by_line():
    cost = cost_of("vgg16-pruned-a").set_index("paper_name")
    printed = pd.read_csv(find_shipped("data/paper/table2.csv")).set_index("layer").drop("total")
    assert list(cost.index) == list(printed.index)
    for name, line in printed.iterrows():
        ours = cost.loc[name]
        assert (ours["maps"], ours["maps_after"]) == (line["maps"], line["maps_pruned"])
        # two digits are printed; the paper cuts some off, so a unit of the second is allowed
        for column in ("flops", "params"):
            unit = 10 ** (len(str(int(line[column]))) - 2)
            assert abs(ours[column] - line[column]) < unit, (name, column)
        removed = 100 * (1 - ours["flops_after"] / ours["flops"])
        assert removed == pytest.approx(line["flops_pruned_percent"], abs=0.5)


@pytest.mark.parametrize("name", ["vgg16", "resnet56", "resnet34", "mobilenet_v2", "densenet121"])
def test_other_counters_agree(name):
    size = 32 if name in ("vgg16", "resnet56") else 64
    x = torch.zeros(1, 3, size, size)
    model = load_model(name)
    graph = trace(model, x)
    plan = make_plan(graph, {"*": 0.3})
    small = prune(model, plan, graph=graph)
    for network, column in ((model, "flops"), (small, "flops_after")):
        ours = measure_cost(graph, plan)[column].sum()
        with FlopCounterMode(display=False) as counter:
            network(x)
        assert counter.get_total_flops() == 2 * ours  # torch counts a multiply-add twice
        theirs = FlopCountAnalysis(network, x).unsupported_ops_warnings(False).by_operator()
        assert theirs["conv"] + theirs["linear"] == ours


class MixesPlaces(nn.Module):
    """As MLP-Mixer does: a linear layer along places, for each channel by itself; used twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.tokens = nn.Linear(64, 64)
        self.second = nn.Conv2d(16, 8, 3, padding=1)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        for conv in (self.first, self.second):
            x = conv(x).relu()
            x = x + self.tokens(x.flatten(2)).view_as(x)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("images", [1, 2])
def test_a_layer_along_places_costs_less_when_channels_go(images):
    model, x = MixesPlaces().eval(), torch.zeros(images, 3, 8, 8)
    graph = trace(model, x)
    plan = make_plan(graph, {"first": 0.5, "second": 0.25})
    total, small = total_cost(graph, plan), prune(model, plan)
    for network, row in ((model, "before"), (small, "after")):
        traced = measure_cost(trace(network, x))
        assert total.loc[row, "flops"] == traced["flops"].sum()
        with FlopCounterMode(display=False) as counter:
            network(x[:1])
        assert 2 * total.loc[row, "flops"] == counter.get_total_flops()


def test_memory_of_a_layer_along_places_is_that_of_the_channels_that_are_left():
    along = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(2), nn.Linear(36, 36))
    end = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 2))
    model, x = nn.Sequential(along, end), torch.zeros(1, 3, 8, 8)
    graph = trace(model, x)
    plan = make_plan(graph, {"0.0": 0.5})
    memory = measure_memory(graph, measure_cost(graph, plan)).set_index("layer")
    assert memory.loc["0.2", "memory"] == along(x).nbytes
    assert memory.loc["0.2", "memory_after"] == prune(model, plan)[0](x).nbytes


def test_cost_of_a_pruned_model_is_what_the_plan_said(make_model):
    model, x = make_model("resnet20"), torch.zeros(1, 3, 32, 32)
    graph = trace(model, x)
    plan = make_plan(graph, {"*": 0.4})
    small = prune(model, plan)
    total = total_cost(graph, plan)
    assert total.loc["after", "params_all"] == sum(p.numel() for p in small.parameters())
    assert total.loc["before", "params_all"] == sum(p.numel() for p in model.parameters())
    assert total.loc["after", "flops"] == total_cost(trace(small, x)).loc["before", "flops"]


def test_memory_of_maps_is_that_of_what_the_convs_return(make_model):
    model = make_model("resnet20")
    graph = trace(model, torch.zeros(1, 3, 32, 32))
    plan = make_plan(graph, {"*": 0.3})
    for network, column in ((model, "memory"), (prune(model, plan), "memory_after")):
        seen = {}
        for name in graph.layers:

            def note(module, inputs, maps, name=name, seen=seen):
                seen[name] = maps.nbytes

            network.get_submodule(name).register_forward_hook(note)
        network(torch.zeros(1, 3, 32, 32))
        cost = measure_memory(graph, measure_cost(graph, plan)).set_index("layer")
        assert cost.loc[graph.layers, column].to_dict() == seen
