"""torch.export's programs and plain state dicts, read by torch and safetensors alone."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from prunelab import load_model, make_plan, prune, save_weights, trace
from prunelab.export import FORMATS, export_network, formats

X = torch.zeros(1, 3, 32, 32)
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def small(make_model) -> nn.Module:
    model = make_model()
    return prune(model, make_plan(trace(model, X), {"*": 0.5}))


@torch.no_grad()
def test_a_program(small, tmp_path):
    found = export_network(small, tmp_path / "net", to="torch.export", example_input=X)
    assert (found.path.name, found.images, found.same_answers) == ("net.pt2", 64, 1.0)
    extra = {"prunelab.json": ""}
    program = torch.export.load(found.path, extra_files=extra).module()
    for n in (1, 3):
        assert torch.allclose(program(IMAGES[:n]), small(IMAGES[:n]), atol=1e-5)
    about = json.loads(extra["prunelab.json"])
    assert (about["exporter"], about["ratios"]) == ("torch.export", {"*": 0.5})
    assert about["check"]["images"] == 64


def test_a_state_dict(small, tmp_path):
    found = export_network(small, tmp_path / "net", to="state_dict", example_input=X)
    assert found.path.name == "net.safetensors"
    state = load_file(found.path)
    own = small.state_dict()
    assert state.keys() == own.keys()
    assert all(torch.equal(state[name], own[name]) for name in own)
    with safe_open(found.path, framework="pt") as file:
        about = file.metadata()
    assert about["format"] == "pt"
    assert json.loads(about["prunelab"])["filters_left"]["conv1"] == small.conv1.out_channels


def test_a_whole_network_can_be_loaded_again(make_model, tmp_path):
    model = make_model()
    found = export_network(model, tmp_path / "net", to="state_dict", example_input=X)
    again = load_model("resnet20", weights=found.path)
    assert torch.equal(again(IMAGES), model(IMAGES))
    assert export_network(model, found.path, to="state_dict", example_input=X) == found


def test_a_file_of_ours_is_not_written_over(make_model, tmp_path):
    path = save_weights(tmp_path / "net.safetensors", make_model())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="as prunelab keeps it; give another path"):
        export_network(make_model(), path, to="state_dict", example_input=X)
    assert path.read_bytes() == before


def test_half_precision_becomes_float32(make_model, tmp_path):
    model = make_model().bfloat16()
    found = export_network(model, tmp_path / "net", to="state_dict", example_input=X)
    assert load_file(found.path)["conv1.weight"].dtype == torch.float32
    assert model.conv1.weight.dtype == torch.bfloat16


def test_another_state_is_found(small, tmp_path, monkeypatch):
    def alter(state, *rest):
        write(state | {"linear.weight": state["linear.weight"] * 1.01}, *rest)

    write = formats.save_file
    monkeypatch.setattr(formats, "save_file", alter)
    with pytest.raises(ValueError, match="does not compute what the model does"):
        export_network(small, tmp_path / "net", to="state_dict", example_input=X)
    assert not list(tmp_path.iterdir())


class Pair(nn.Module):
    """Two inputs, and a list of outputs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x, shift):
        return [self.conv(x), shift + 1]


def test_several_inputs_and_outputs(tmp_path):
    example = (IMAGES[:1], torch.ones(2))
    for to in FORMATS:
        found = export_network(Pair(), tmp_path / "net", to=to, example_input=example)
        assert (found.images, found.same_answers) == (2, None)
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(tmp_path / "net.onnx").graph
    assert [x.name for x in graph.input] == ["input_0", "input_1"]
    assert [x.name for x in graph.output] == ["output_0", "output_1"]
    with pytest.raises(ValueError, match="images are for networks that take one tensor"):
        export_network(Pair(), tmp_path / "net", example_input=example, images=IMAGES)


def test_bad_input(small, tmp_path):
    def export(model=small, to="state_dict", example_input=X, **options):
        export_network(model, tmp_path / "net", to=to, example_input=example_input, **options)

    with pytest.raises(ValueError, match="unknown format 'onx'; did you mean 'onnx'"):
        export(to="onx")
    with pytest.raises(ValueError, match="takes a model, not a str"):
        export("resnet20")
    with pytest.raises(
        ValueError, match=r"example_input must be a tensor, such as .* got a NoneType"
    ):
        export(example_input=None)
    with pytest.raises(ValueError, match=r"does not take an input of shape \(2, 1, 32, 32\)"):
        export(example_input=torch.zeros(1, 1, 32, 32))
    sentence = r"of 2 or more images of shape \(3, 32, 32\).* got float32 of \(3, 3, 16, 16\)"
    with pytest.raises(ValueError, match=sentence):
        export(images=torch.zeros(3, 3, 16, 16))
    with pytest.raises(ValueError, match="got uint8 of"):
        export(images=torch.zeros(3, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="got a list"):
        export(images=[X])
    with pytest.raises(ValueError, match="info must be plain JSON values"):
        export(info={"path": tmp_path})
    assert not list(tmp_path.iterdir())
