"""The network as a map: what flows where, what is folded, that the cut is the plan's."""

import io

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import torchvision
import vl_convert
from PIL import Image
from test_odd_names import LIVE, walk
from torch import Tensor, nn

from prunelab import charts, load_model, make_plan, measure_cost, prune, trace
from prunelab.charts.layout import list_cells, place_cells
from prunelab.charts.network import STAYS
from prunelab.charts.style import render_bundle
from prunelab.graph import ChannelGraph


class Block(nn.Module):
    """Two convs beside a shortcut, as ResNet has them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1)
        self.short = nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.norm(self.conv1(x)))) + self.short(x))


class Net(nn.Module):
    """A stem, a block, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 4, 3), Block(), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(F.max_pool2d(self.stem(x), 2))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class UNet(nn.Module):
    """Maps are put beside those of the same size, from before they shrank."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up, self.last = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        return self.last(torch.cat([one, self.up(self.two(F.max_pool2d(one, 2)))], 1))


class Odd(nn.Module):
    """A conv used twice, one by a bare parameter, a gate, parts that are written."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.kernel = nn.Conv2d(3, 3, 3, padding=1), nn.Parameter(torch.rand(4, 3, 1, 1))
        self.gate = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(self.conv(F.relu(self.conv(x))), self.kernel)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True))).expand_as(x)
        out = torch.zeros_like(x)
        out[:, :, 1:-1] = x[:, :, 1:-1]
        return out * torch.sigmoid(out)


class Looking(nn.Module):
    """A module that nobody can follow: it branches on what is in its maps."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if x.sum() > 0 else self.inner(-x)


def trace_at(model: nn.Module, side: int) -> ChannelGraph:
    return trace(model.eval(), torch.zeros(1, 3, side, side))


def list_ways(graph: ChannelGraph) -> list[tuple[str, str]]:
    flow = graph.flow()
    return list(zip(flow["source"], flow["target"], strict=True))


@pytest.fixture(scope="module")
def resnet() -> ChannelGraph:
    return trace_at(load_model("resnet56"), 32)


@pytest.fixture(scope="module")
def densenet() -> ChannelGraph:
    return trace_at(torchvision.models.densenet121(weights=None), 64)


def test_what_flows_where_in_a_residual_block() -> None:
    graph = trace_at(Net(), 14)
    assert list_ways(graph) == [
        ("input 1", "stem"),
        ("stem", "block.conv1"),
        ("block.conv1", "block.conv2"),
        ("stem", "block.short"),
        ("block.conv2", "add 1"),
        ("block.short", "add 1"),
        ("add 1", "head"),
        ("head", "output 1"),
    ]
    assert graph.flow()["size"].tolist()[:2] == [(14, 14), (6, 6)]


def test_a_pruned_network_flows_as_before() -> None:
    graph = trace_at(Net(), 14)
    small = prune(graph.model, make_plan(graph, {"*": 0.5}), graph=graph)
    assert list_ways(trace_at(small, 14)) == list_ways(graph)


def test_a_shared_layer_a_bare_parameter_a_gate_and_what_is_written() -> None:
    assert list_ways(trace_at(Odd(), 8)) == [
        ("input 1", "conv"),
        ("conv", "conv"),
        ("conv", "kernel"),
        ("kernel", "gate"),
        ("kernel", "multiply 1"),
        ("gate", "multiply 1"),
        ("multiply 1", "output 1"),
    ]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_module_that_cannot_be_followed_is_one_node() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Looking(), nn.Conv2d(4, 4, 3))
    graph = trace_at(net, 12)
    assert list_ways(graph) == [("input 1", "0"), ("0", "1"), ("1", "2"), ("2", "output 1")]
    assert charts.render_png(charts.network(graph, layer="1.inner"))
    alone = trace(Looking(), torch.zeros(1, 4, 9, 9))
    assert list_ways(alone) == [("input 1", "Looking"), ("Looking", "output 1")]
    assert charts.render_png(charts.network(alone))


def test_a_dense_block_is_a_chain(densenet: ChannelGraph) -> None:
    ways = densenet.flow().groupby("target")["source"].agg(list)
    first, last = "features.denseblock1.denselayer1.conv2", "features.denseblock1.denselayer6.conv2"
    assert ways["concat 1"] == ["features.conv0", first]
    assert ways["features.transition1.conv"] == ["concat 6"]
    assert ways["concat 6"] == ["concat 5", last]
    assert set(densenet.layers) <= set(ways.index)


@pytest.mark.parametrize(
    ("make", "joins"),
    [
        (lambda: torchvision.models.googlenet(weights=None, init_weights=False), {"concat": 9}),
        (lambda: torchvision.models.mobilenet_v3_large(weights=None), {"add": 10, "multiply": 8}),
    ],
)
def test_joins_of_well_known_networks(make: object, joins: dict[str, int]) -> None:
    graph = trace_at(make(), 64)  # type: ignore[operator]
    nodes = {name for way in list_ways(graph) for name in way}
    assert set(graph.layers) <= nodes
    found = pd.Series([n.split()[0] for n in nodes if " " in n]).value_counts().to_dict()
    assert found == {"input": 1, "output": 1, **joins}


def test_repeats_fold_and_show_the_mean_cut(resnet: ChannelGraph) -> None:
    cells = list_cells(resnet, fold=True)
    block = cells["layer1.4.conv1"]
    assert block.name == "layer1.0.conv1"
    assert [len(cells[f"layer{i}.0.conv1"].members) for i in (1, 2, 3)] == [9, 9, 9]
    plan = make_plan(resnet, {"layer1.0.conv1": 0.5, "layer1.4.conv1": 0.25})
    whole, folded = (
        charts.describe_network(resnet, plan, fold=fold)["kept"] for fold in (False, True)
    )
    assert whole["layer1.4.conv1"] == 0.75
    assert folded["layer1.0.conv1"] == pytest.approx((0.5 + 0.75 + 7) / 9, abs=1e-4)


def test_small_networks_and_plain_runs_do_not_fold(densenet: ChannelGraph) -> None:
    for graph in (trace_at(load_model("resnet20"), 32), trace_at(load_model("vgg16"), 32)):
        assert all(len(cell.members) == 1 for cell in list_cells(graph, fold=True).values())
    cells = set(list_cells(densenet, fold=True).values())
    times = {cell.block: len(cell.members) for cell in cells if len(cell.members) > 1}
    assert sorted(times.values()) == [6, 12, 16, 24]


def test_the_cut_is_that_of_the_plan(resnet: ChannelGraph) -> None:
    plan = make_plan(resnet, {"stage2": 0.3})
    cost = measure_cost(resnet, plan).set_index("layer")
    shown = charts.describe_network(resnet, plan, fold=False)
    left = cost["maps_after"] / cost["maps"]
    assert shown["kept"] == {name: pytest.approx(left[name], abs=1e-4) for name in cost.index}
    assert shown["filters"]["layer2.0.conv1"] == f"{len(plan.keep['layer2.0.conv1'])} of 32"
    total = cost["flops"].sum()
    saved = 1 - cost["flops_after"].sum() / total
    assert sum(shown["shade"].values()) == pytest.approx(saved, abs=1e-4)


@pytest.mark.parametrize("fold", [True, False])
def test_nothing_stands_on_anything_else(
    resnet: ChannelGraph, densenet: ChannelGraph, fold: bool
) -> None:
    unet = trace_at(UNet(), 16)
    for graph in (resnet, densenet, unet):
        nodes, points = place_cells(graph, list_cells(graph, fold=fold))
        assert nodes["x"].min() >= 0
        assert nodes["x2"].max() <= 1
        assert points["x"].between(0, 1).all()
        assert nodes["end"].max() <= 540
        rows = nodes.to_dict("records")
        for i, a in enumerate(rows):
            assert a["start"] <= a["top"] < a["bottom"] <= a["end"]
            for b in rows[i + 1 :]:
                beside = a["x2"] <= b["x"] or b["x2"] <= a["x"]
                assert beside or a["bottom"] <= b["top"] or b["bottom"] <= a["top"]


def test_a_u_net_has_a_row_for_each_size() -> None:
    graph = trace_at(UNet(), 16)
    nodes, _ = place_cells(graph, list_cells(graph, fold=True))
    rows = nodes.set_index("node")["row"]
    assert rows[["one", "up", "concat 1", "last"]].unique().tolist() == [0]
    assert rows["two"] == 1


def test_what_is_tied_shares_a_group_and_what_stays_is_said(resnet: ChannelGraph) -> None:
    spec = charts.network(trace_at(Net(), 14)).to_dict()
    rows = {row["node"]: row for data in spec["datasets"].values() for row in data if "role" in row}
    assert rows["block.conv2"]["group"] == rows["block.short"]["group"] == "block.short"
    assert rows["block.short"]["role"] == "leads 1 tied to it"
    assert rows["head"]["stays"]
    spec = charts.network(resnet, fold=False).to_dict()
    fates = {
        row["node"]: row["fate"] for d in spec["datasets"].values() for row in d if "fate" in row
    }
    assert fates["layer1.0.conv1"] == "can go"
    assert fates["conv1"].startswith("stays: ")


def test_it_is_live_and_drawn(resnet: ChannelGraph) -> None:
    plan = make_plan(resnet, {"*": 0.5})
    chart = charts.network(resnet, plan, layer="layer1.3.conv1")
    params = {param["name"]: param for param in chart.to_dict()["params"]}
    assert params["pruned"]["value"] == charts.describe_network(resnet, plan)
    assert params["chosen"]["value"] == "layer1.3.conv1"
    assert params["picked"]["select"]["fields"] == ["layer"]
    assert params["together"]["select"]["fields"] == ["group"]
    seen = {}
    for name, each in {"cut": plan, "whole": None}.items():
        image = charts.render_png(charts.network(resnet, each))
        assert image is not None
        drawn = Image.open(io.BytesIO(image)).convert("RGB")
        # near the orange of what goes, #bc5a00
        seen[name] = sum(n for n, (r, g, b) in drawn.getcolors(10**6) if r > 160 and g < 120 > b)
    assert seen["cut"] > 1000
    assert seen["whole"] == 0


def test_it_is_the_same_where_a_notebook_stores_its_data_as_text(resnet: ChannelGraph) -> None:
    spec = charts.network(resnet, make_plan(resnet, {"*": 0.5}), layer="conv1").to_dict()
    stored = render_bundle(spec)[0]["application/vnd.vegalite.v5+json"]
    newer = {**stored, "$schema": spec["$schema"]}
    assert charts.render_png(newer) == charts.render_png(spec)


def test_sensitivity_is_read_at_the_ratio_or_at_half(resnet: ChannelGraph) -> None:
    measured = pd.DataFrame(
        {"layer": "stage1", "ratio": [0.0, 0.25, 0.5], "accuracy": [0.9, 0.8, 0.5]}
    )
    plan = make_plan(resnet, {"layer1.0.conv1": 0.25})
    choice = {"colour": "sensitivity", "measured": measured, "fold": False}
    shade = charts.describe_network(resnet, plan, **choice)["shade"]
    assert shade["layer1.0.conv1"] == pytest.approx(0.1)
    assert shade["layer1.1.conv1"] == pytest.approx(0.4)
    assert shade["layer2.1.conv1"] is None
    assert charts.render_png(charts.network(resnet, plan, **choice))
    assert charts.render_png(charts.network(resnet, plan, colour="stage"))
    with pytest.raises(ValueError, match="needs measured="):
        charts.network(resnet, colour="sensitivity")
    with pytest.raises(ValueError, match="did you mean 'saving'"):
        charts.network(resnet, colour="savings")


@pytest.mark.parametrize("colour", ["saving", "sensitivity", "stage"])
def test_layers_that_must_stay_are_grey_blocks_of_the_map(colour: str) -> None:
    """Also where their colour says nothing: what cannot go is not measured."""
    graph = trace_at(Net(), 14)
    free = [group for group in graph.groups if group.prunable]
    curve = pd.DataFrame({"ratio": [0.0, 0.5], "accuracy": [0.9, 0.4]})
    measured = pd.concat([curve.assign(layer=group.leader) for group in free])
    spec = charts.network(graph, colour=colour, measured=measured).to_dict()
    drawn = walk(vl_convert.vegalite_to_scenegraph(spec, vl_version=LIVE))
    fills = [item.get("fill") for part in drawn for item in part.get("items", [])]
    assert fills.count(STAYS) == len(graph.shapes) - sum(len(group.layers) for group in free) > 0
    assert "'field': 'shade'" not in str(spec)  # a tooltip would say 0.00 % of what is not known
