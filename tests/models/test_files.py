import pytest
import torch
from torch import nn

from prunelab import load_model, load_pruned, make_plan, prune, save_pruned, save_weights, trace
from prunelab.utils.tensors import read_header

X = torch.zeros(1, 3, 32, 32)


@pytest.fixture
def pruned(make_model):
    model = make_model("resnet20")
    plan = make_plan(trace(model, X), {"*": 0.4})
    return model, prune(model, plan), plan


def test_round_trip(tmp_path, pruned):
    _, small, plan = pruned
    path = save_pruned(tmp_path / "s.safetensors", small, plan, info={"classes": ["a", "b"]})
    state = torch.get_rng_state()
    same = load_pruned(path)
    assert torch.equal(torch.get_rng_state(), state)  # to build the network draws nothing of ours
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(same(images), small(images))
    assert same.pruning_plan == plan
    assert read_header(path)["info"] == {"classes": ["a", "b"]}
    as_weights = load_model("resnet20", weights=path)
    assert torch.equal(as_weights(images), small(images))
    again = prune(same, make_plan(trace(same, X), {"conv_2": 0.5}))
    assert again.layer1[0].conv1.out_channels == 4


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

    def forward(self, x):
        return self.b(self.a(x)).mean((2, 3))


def test_a_network_of_ones_own(tmp_path):
    model = Own()
    plan = make_plan(trace(model, X), {"a": 0.5})
    path = save_pruned(tmp_path / "own", prune(model, plan), plan)
    words = r"pass an unpruned instance, load_pruned\(path, MyNet\(\)\)"
    with pytest.raises(ValueError, match=words):
        load_pruned(path)
    assert load_pruned(path, Own()).a.out_channels == 4
    with pytest.raises(ValueError, match="made for another network"):
        load_pruned(path, load_model("resnet20"))


def test_torn_foreign_and_altered_files(tmp_path, pruned):
    model, small, plan = pruned
    path = save_pruned(tmp_path / "s.safetensors", small, plan)
    whole = path.read_bytes()
    for content, sentence in [
        (whole[:1000], "not a whole safetensors file"),
        (b"PK\x03\x04 something else", "not a whole safetensors file"),
        (whole[:-4] + b"\0\0\0\1", "was altered"),
        (whole.replace(b"0, 1, 2", b"0, 1, 3", 1), "was altered"),
    ]:
        assert content != whole
        path.write_bytes(content)
        with pytest.raises(ValueError, match=sentence):
            load_pruned(path)
    save_weights(path, model)
    with pytest.raises(ValueError, match="holds no pruned model"):
        load_pruned(path)
    save_pruned(path, small, plan)
    with pytest.raises(ValueError, match="holds a pruned resnet20, not a vgg16"):
        load_model("vgg16", weights=path)
    with pytest.raises(FileNotFoundError):
        load_pruned(tmp_path / "none")
    with pytest.raises(ValueError, match="made for another network"):
        save_pruned(path, model, plan)
