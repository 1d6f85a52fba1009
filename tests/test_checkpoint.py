import errno
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import prunelab.checkpoint as checkpoint
from prunelab import load_model, load_pruned, make_plan, prune, save_pruned, trace
from prunelab.checkpoint import read_header, read_tensors, save_weights, write_tensors, write_whole

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
    assert torch.equal(torch.get_rng_state(), state)  # building the network draws nothing of the caller's
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(same(images), small(images))
    assert same.pruning_plan == plan
    assert read_header(path)["info"] == {"classes": ["a", "b"]}
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
    with pytest.raises(ValueError, match=r"pass an unpruned instance, load_pruned\(path, MyNet\(\)\)"):
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
    with pytest.raises(ValueError, match="is a pruned model; open it with load_pruned"):
        load_model("resnet20", weights=path)
    with pytest.raises(FileNotFoundError):
        load_pruned(tmp_path / "none")
    with pytest.raises(ValueError, match="made for another network"):
        save_pruned(path, model, plan)


def test_half_weights(tmp_path, make_model):
    model = make_model("resnet20")
    path = save_weights(tmp_path / "w.safetensors", model, half=True)
    loaded = load_model("resnet20", weights=path)
    assert loaded.conv1.weight.dtype == torch.float32
    assert torch.allclose(loaded.conv1.weight, model.conv1.weight, rtol=1e-3)


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = write_tensors(tmp_path / "t.safetensors", {"a": torch.ones(3)}, {})

    def fill(tensors, temporary, about):
        with open(temporary, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fill)
    with pytest.raises(OSError, match=r"was not written .*No space left on device.*what was there before is untouched"):
        write_tensors(path, {"a": torch.zeros(3)}, {})
    assert torch.equal(read_tensors(path)[0]["a"], torch.ones(3))
    assert [p.name for p in tmp_path.glob("*t.safetensors*")] == ["t.safetensors"]


def test_really_full_disk(tmp_path):
    with pytest.raises(OSError, match="was not written"):
        write_whole(tmp_path / "file", lambda _: Path("/dev/full").write_bytes(b"x") and None)


def test_shared_tensors(tmp_path):
    weight = torch.arange(6.0)
    path = write_tensors(tmp_path / "t", {"a": weight, "b": weight}, {"x": [1]})
    tensors, header = read_tensors(path)
    assert torch.equal(tensors["a"], tensors["b"])
    assert header == json.loads('{"x": [1]}')
