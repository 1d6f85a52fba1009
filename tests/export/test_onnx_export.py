"""ONNX files: what onnxruntime makes of them is what torch makes of the model."""

import json

import pytest
import torch
from torch import nn

from prunelab import make_plan, measure_cost, prune, trace
from prunelab.export import conversion, export_network, formats

onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
X = torch.zeros(1, 3, 32, 32)


def images(n: int, size: int = 32) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(n))


def run(path, x: torch.Tensor) -> list[torch.Tensor]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return [torch.from_numpy(x) for x in found]


def names(values) -> dict[str, list]:
    shapes = {value.name: value.type.tensor_type.shape.dim for value in values}
    return {name: [d.dim_param or d.dim_value for d in dims] for name, dims in shapes.items()}


def read_note(path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


CASES = [
    ("resnet20", None, 32),
    ("vgg16", 0.5, 32),
    ("resnet18", None, 64),
    ("mobilenet_v3_small", 0.3, 32),
]


@torch.no_grad()
@pytest.mark.parametrize(("name", "ratio", "size"), CASES)
def test_onnxruntime_computes_the_same(make_model, tmp_path, name, ratio, size):
    model, example = make_model(name), torch.zeros(1, 3, size, size)
    if ratio:
        model = prune(model, make_plan(trace(model, example), {"*": ratio}))
    found = export_network(model, tmp_path / "net", example_input=example)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]  # nothing beside it
    assert found.path == tmp_path / "net.onnx"
    assert found.size == found.path.stat().st_size
    assert (found.to, found.images, found.same_answers) == ("onnx", 64, 1.0)
    onnx.checker.check_model(onnx.load(found.path))
    for n in (1, 5):
        (logits,) = run(found.path, images(n, size))
        truth = model(images(n, size))
        assert logits.shape == truth.shape
        assert (logits - truth).abs().max() < 1e-3 * truth.abs().max()


def test_what_the_file_says(make_model, tmp_path):
    model = make_model()
    plan = make_plan(graph := trace(model, X), {"stage2": 0.5})
    small = prune(model, plan).train()
    before = {name: x.clone() for name, x in small.state_dict().items()}
    info = {"classes": ["cat", "dög"], "normalization": [[0.5] * 3, [0.2] * 3], "seed": 3}
    steps: list[tuple[int, int]] = []
    found = export_network(
        small,
        tmp_path / "net.onnx",
        example_input=X,
        images=images(3),
        info=info,
        on_progress=lambda *step: steps.append(step),
    )
    assert found.path.name == "net.onnx"
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert small.training
    assert all(torch.equal(x, before[name]) for name, x in small.state_dict().items())

    file = onnx.load(found.path)
    assert names(file.graph.input) == {"images": ["batch", 3, 32, 32]}
    assert names(file.graph.output) == {"logits": ["batch", 10]}
    seen = read_note(found.path)
    about = json.loads(seen.pop("prunelab"))
    assert set(seen) == {"classes", "normalization", "ratios", "flops", "params"}
    assert json.loads(seen["classes"]) == ["cat", "dög"] == about["classes"]
    assert seen["classes"] == '["cat", "dög"]'
    cost = measure_cost(graph, plan)[["flops_after", "params_after"]].sum()
    assert int(seen["flops"]) == about["flops"] == cost["flops_after"]
    assert int(seen["params"]) == about["params"] == cost["params_after"]
    assert about["params_all"] == sum(x.numel() for x in small.parameters())
    assert about["architecture"] == {"name": "resnet20", "num_classes": 10}
    assert about["input_shape"] == ["batch", 3, 32, 32]
    assert about["ratios"] == {"stage2": 0.5}
    assert about["filters_left"]["layer2.0.conv1"] == 16 == small.layer2[0].conv1.out_channels
    assert about["exporter"] == "torch.onnx"
    assert about["torch"] == torch.__version__
    assert about["info"] == info
    checked = {"images": 3, "max_difference": found.max_difference, "same_answers": 1.0}
    assert about["check"] == checked


class Frozen(nn.Module):
    """Its code takes the number of images for a constant."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        n = int(torch.tensor(x.shape[0]))
        return self.conv(x).reshape(n, -1)


def test_a_frozen_batch_is_found(tmp_path):
    model = Frozen()
    for to in ("onnx", "torch.export"):
        with pytest.raises(ValueError, match=r"example_input=\(x,\) fixes the batch"):
            export_network(model, tmp_path / "net", to=to, example_input=X)
        assert not list(tmp_path.iterdir())
    found = export_network(
        model, tmp_path / "net", example_input=(X.expand(4, -1, -1, -1),), images=images(9)
    )
    assert found.images == 8  # two batches of four
    (out,) = run(found.path, images(4))
    assert torch.allclose(out, model(images(4)), atol=1e-5)
    with pytest.raises(Exception, match="Got: 5 Expected: 4"):
        run(found.path, images(5))


def test_a_file_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model, other = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).eval() for _ in range(2))
    (tmp_path / "net.onnx").write_text("what was there before")
    monkeypatch.setattr(formats, "to_onnx", lambda m, inputs: conversion.to_onnx(other, inputs))
    with pytest.raises(ValueError, match=r"does not compute what the model does: logits differs"):
        export_network(model, tmp_path / "net", example_input=X)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert (tmp_path / "net.onnx").read_text() == "what was there before"


@torch.no_grad()
def test_a_segmentation_network(tmp_path):
    """torchvision's FCN, whose output is a dict."""
    from torchvision.models import resnet18
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.fcn import FCN, FCNHead

    torch.manual_seed(0)
    model = FCN(IntermediateLayerGetter(resnet18(), {"layer4": "out"}), FCNHead(512, 5)).eval()
    x = images(1, 48)
    small = prune(model, make_plan(trace(model, x), {"*": 0.5}))
    found = export_network(small, tmp_path / "net", example_input=x, images=images(3, 48))
    assert list(names(onnx.load(found.path).graph.output)) == ["out"]
    (out,) = run(found.path, images(2, 48))
    truth = small(images(2, 48))["out"]
    assert (out - truth).abs().max() < 1e-3 * truth.abs().max()
    assert found.same_answers > 0.999  # of the pixels


@torch.no_grad()
def test_a_detection_network_goes_by_the_older_exporter(tmp_path):
    from torchvision.models.detection import FCOS
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1)
    )
    backbone.out_channels = 32
    anchors = AnchorGenerator(((8,),), ((1.0,),))
    model = FCOS(backbone, 3, min_size=32, max_size=32, anchor_generator=anchors).eval()
    small = prune(model, make_plan(trace(model, torch.rand(1, 3, 32, 32)), {"*": 0.3}))
    x = torch.rand(3, 32, 32)
    with pytest.raises(ValueError, match="the model finds nothing in these images"):
        export_network(small, tmp_path / "net", example_input=[x])
    logits = small.head.classification_head.cls_logits  # as if it had learned
    nn.init.normal_(logits.weight, std=0.3)
    nn.init.zeros_(logits.bias)
    found = export_network(
        small, tmp_path / "net", example_input=[x], images=torch.rand(4, 3, 32, 32)
    )
    file = onnx.load(found.path)
    assert names(file.graph.input) == {"images": [3, 32, 32]}
    assert list(names(file.graph.output)) == ["boxes", "scores", "labels"]
    about = json.loads(read_note(found.path)["prunelab"])
    assert about["exporter"] == "torch.onnx (torchscript)"
    assert about["flops"] > 0
    assert (found.images, found.same_answers) == (4, None)
    (truth,), out = small([x]), run(found.path, x)
    assert len(out[0]) == len(truth["boxes"]) > 10
    assert torch.allclose(out[1], truth["scores"], atol=1e-4)
    with pytest.raises(ValueError, match=r"torch.export cannot follow FCOS .* to=\"state_dict\""):
        export_network(small, tmp_path / "net", to="torch.export", example_input=[x])


def test_what_onnxruntime_cannot_run_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"onnxruntime cannot run this network .*Conv.* float32"):
        export_network(nn.Conv2d(3, 4, 3).double(), tmp_path / "net", example_input=X)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    sentence = "the package onnxruntime is missing: pip install onnx onnxscript onnxruntime"
    with pytest.raises(ValueError, match=sentence):
        export_network(Frozen(), tmp_path / "net", example_input=X)
