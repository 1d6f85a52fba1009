import time

import pytest
import torch
from torch import nn

from prunelab import (
    load_model,
    load_recipe,
    make_plan,
    measure_cost,
    measure_latency,
    prune,
    time_recipes,
    total_cost,
    trace,
)


class Sleeps(nn.Module):
    def __init__(self, milliseconds):
        super().__init__()
        self.weight, self.seconds = nn.Parameter(torch.zeros(1)), milliseconds / 1000

    def forward(self, x):
        time.sleep(self.seconds)
        return x


def test_it_measures_milliseconds_in_turns():
    found = measure_latency(
        {"slow": Sleeps(8), "fast": Sleeps(2)}, (3, 8, 8), device="cpu", batch=2, repeats=5
    ).set_index("model")
    assert found.loc["fast", "median_ms"] == pytest.approx(2, rel=0.8)
    assert found.loc["slow", "median_ms"] > found.loc["fast", "median_ms"]
    assert (found["low_ms"] <= found["high_ms"]).all()
    assert set(found["batch"]) == {2}


def test_turns_are_reported():
    seen = []
    conv = nn.Conv2d(3, 4, 3)
    how = dict(repeats=2, warm_up=1, device="cpu")
    measure_latency(conv, (3, 8, 8), **how, on_progress=lambda *turn: seen.append(turn))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_model_stays_as_it_was():
    model = load_model("resnet20").train()
    before = model.bn1.running_mean.clone()
    assert len(measure_latency(model, (3, 32, 32), device="cpu", repeats=2)) == 1
    assert model.training
    measure_latency(model, (3, 32, 32), device="cpu", channels_last=True, repeats=1)
    assert model.conv1.weight.is_contiguous()
    assert torch.equal(model.bn1.running_mean, before)


def test_a_model_that_kept_its_maps_is_timed():
    class Keeps(nn.Conv2d):
        def forward(self, x):
            self.kept = {"maps": super().forward(x)}
            return self.kept["maps"]

    model = Keeps(3, 4, 3)
    model(torch.zeros(1, 3, 8, 8))
    assert len(measure_latency(model, (3, 8, 8), device="cpu", repeats=1)) == 1


def test_time_stands_beside_multiply_adds(make_model):
    model = make_model()
    graph = trace(model, torch.zeros(1, 3, 32, 32))
    plan = make_plan(graph, {"*": 0.3})
    networks = {
        "whole": model,
        "pruned": prune(model, plan),
        "aligned": prune(model, make_plan(graph, {"*": 0.3}, align=8)),
    }
    found = measure_latency(networks, (3, 32, 32), device="cpu", repeats=3).set_index("model")
    cost = measure_cost(graph, plan)[["flops", "flops_after"]].sum()
    assert found.loc["whole", "flops"] == cost["flops"]
    assert found.loc["pruned", "flops"] == cost["flops_after"]
    left = cost["flops_after"] / cost["flops"]
    assert found.loc["pruned", "flops_left"] == pytest.approx(left)
    assert found.loc["whole", "time_left"] == 1
    assert found["unaligned"].tolist() == [0, 9, 0]
    assert found.loc["pruned", "where"].startswith("layer1.0.conv1 (11), layer1.1.conv1 (11)")


def test_recipes_are_timed_with_and_without_alignment():
    found = time_recipes(
        ["digits-quick"], batches=[1, 2], formats=["channels_last"], device="cpu", repeats=2
    )
    assert set(found["format"]) == {"channels_last"}
    assert found["model"].tolist() == ["whole", "pruned", "pruned, aligned to 8"] * 2
    assert found["batch"].tolist() == [1] * 3 + [2] * 3
    assert set(found["recipe"]) == {"digits-quick"}
    graph = trace(load_model("resnet20"), torch.zeros(1, 3, 32, 32))
    ratios = load_recipe("digits-quick").prune.ratios
    plans = {"pruned": make_plan(graph, ratios), "aligned": make_plan(graph, ratios, align=8)}
    assert found["flops"].tolist() == total_cost(graph, plans)["flops"].tolist() * 2
    assert found["unaligned"].tolist() == [0, 9, 0] * 2
    with pytest.raises(ValueError, match="recipe 'vgg16' prunes nothing"):
        time_recipes(["vgg16"])


def test_onnxruntime_takes_turns_too():
    pytest.importorskip("onnxruntime")
    model = nn.Sequential(*(nn.Conv2d(n, 64, 3) for n in (3, 64, 64))).eval()
    small = prune(model, make_plan(trace(model, torch.zeros(1, 3, 32, 32)), {"*": 0.7}))
    networks = {"whole": model, "pruned": small}
    how = dict(device="cpu", batch=4, repeats=5)
    torchs = measure_latency(networks, (3, 32, 32), **how)
    found = measure_latency(networks, (3, 32, 32), **how, runtime="onnxruntime")
    assert set(torchs["runtime"]) == {"torch"}
    assert set(found["runtime"]) == {"onnxruntime"}
    assert list(found) == list(torchs)
    same = ["model", "batch", "format", "repeats", "flops", "flops_left", "unaligned", "where"]
    assert found[same].equals(torchs[same])
    assert found["time_left"][1] < 0.7  # of a fifth of the multiply-adds
    for how in ({"channels_last": True}, {"device": "meta"}):
        with pytest.raises(ValueError, match="onnxruntime is timed on the CPU and in the contigu"):
            measure_latency(model, (3, 32, 32), runtime="onnxruntime", **how)


def test_recipes_are_timed_in_both_runtimes():
    pytest.importorskip("onnxruntime")
    how = dict(batches=[2], aligns=[1], device="cpu", repeats=1)
    found = time_recipes(["digits-quick"], runtimes=["torch", "onnxruntime"], **how)
    kinds = found[["format", "runtime", "model"]].drop_duplicates()
    assert len(kinds) == len(found) == 6  # none for onnxruntime in channels_last
    assert set(found[found["runtime"] == "onnxruntime"]["format"]) == {"contiguous"}
    with pytest.raises(ValueError, match="add it to formats"):
        time_recipes(["digits-quick"], runtimes=["onnxruntime"], formats=["channels_last"])


def test_bad_input():
    with pytest.raises(ValueError, match="unknown runtime 'onnx'; did you mean 'onnxruntime'"):
        measure_latency(load_model("resnet20"), (3, 32, 32), runtime="onnx")
    with pytest.raises(ValueError, match="batch must be a whole number, 1 or more; got 0"):
        measure_latency(load_model("resnet20"), (3, 32, 32), batch=0)
    with pytest.raises(ValueError, match="unknown memory format 'nhwc'"):
        time_recipes(["vgg16-pruned-a"], formats=["nhwc"])
    with pytest.raises(ValueError, match=r"warm_up must be a whole number, 0 or more; got -1"):
        measure_latency(load_model("resnet20"), (3, 32, 32), warm_up=-1)
    with pytest.raises(ValueError, match=r"takes a model, or \{name: model\}, not a list"):
        measure_latency([load_model("resnet20")], (3, 32, 32))
    sentence = r"does not take an image of shape \(1, 3, 32, 32\) .* without the batch"
    with pytest.raises(ValueError, match=sentence):
        measure_latency(load_model("resnet20"), (1, 3, 32, 32))
    sentence = "unknown recipe 'digits-quik'; did you mean 'digits-quick'"
    with pytest.raises(ValueError, match=sentence):
        time_recipes("digits-quik")
    with pytest.raises(ValueError, match=r"recipes must be a list that is not empty; got \[\]"):
        time_recipes([])
    with pytest.raises(ValueError, match="batches must be a list that is not empty; got 1"):
        time_recipes(["vgg16-pruned-a"], batches=1)
    with pytest.raises(ValueError, match="there is no model to measure"):
        measure_latency({}, (3, 32, 32))
