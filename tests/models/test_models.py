import pickle

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from prunelab import hash_tensors, load_model, model_names, save_weights


@pytest.mark.parametrize(
    ("name", "parameters"),  # conv and linear, as the paper counts them (Table 1)
    [("vgg16", 14_978_250), ("resnet56", 848_954), ("resnet110", 1_719_866)],
)
def test_parameters_are_the_papers(name, parameters):
    model = load_model(name)
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert sum(p.numel() for layer in layers for p in layer.parameters()) == parameters
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_cifar_resnet_has_the_names_of_public_checkpoints():
    names = set(load_model("resnet20").state_dict())
    assert {"conv1.weight", "bn1.running_var", "linear.bias"} <= names
    assert {"layer1.0.conv1.weight", "layer3.2.bn2.bias"} <= names
    assert not any("shortcut" in name for name in names)


def test_torchvision_models_by_name():
    assert load_model("resnet18", num_classes=7).fc.out_features == 7
    assert load_model("torchvision/vgg16").classifier[6].out_features == 10
    assert {"vgg16", "resnet56", "mobilenet_v2"} <= set(model_names())


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".ckpt", ".safetensors"])
def test_weights_from_a_file(tmp_path, suffix):
    source, path = load_model("resnet20"), tmp_path / f"w{suffix}"
    state = source.state_dict()
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"best_prec1": 1.0, "state_dict": wrapped}, path)
    loaded = load_model("resnet20", weights=path).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


@pytest.mark.parametrize("prefix", ["model.", "net.", "_orig_mod.", "model._orig_mod.", "a.b."])
def test_weights_that_a_trainer_named(tmp_path, prefix):
    """As Lightning, torch.compile and others leave them."""
    source, path = load_model("resnet20"), tmp_path / "w.ckpt"
    state = {f"{prefix}{name}": tensor for name, tensor in source.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, path)
    loaded = load_model("resnet20", weights=path)
    assert hash_tensors(loaded.state_dict()) == hash_tensors(source.state_dict())
    load_model("resnet20", weights=path, num_classes=7, new_head=True)
    torch.save(state | {"loss.weight": torch.ones(10)}, path)
    with pytest.warns(UserWarning, match=rf"under {prefix} is taken; left out: loss.weight \(1\)"):
        load_model("resnet20", weights=path)
    twice = {f"ema.{name}": tensor for name, tensor in source.state_dict().items()}
    torch.save(state | twice, path)
    with pytest.raises(ValueError, match=f"with these names, under {prefix}, ema."):
        load_model("resnet20", weights=path)


def test_an_empty_name_of_weights_is_not_the_folder_at_hand():
    with pytest.raises(ValueError, match="no weights are named"):
        load_model("resnet20", weights="")


def test_a_scripted_file_says_what_it_is(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "w.pt")
    with pytest.raises(ValueError, match="is a TorchScript file"):
        load_model("resnet20", weights=tmp_path / "w.pt")


def test_torchvisions_weights_by_name(tmp_path, monkeypatch):
    source = load_model("squeezenet1_1", num_classes=1000)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # as they lie there once they are downloaded
    url = torchvision.models.get_model_weights("squeezenet1_1").IMAGENET1K_V1.url
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(source.state_dict(), tmp_path / "hub" / "checkpoints" / url.rsplit("/", 1)[1])
    loaded = load_model("squeezenet1_1", num_classes=1000, weights="IMAGENET1K_V1").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in source.state_dict().items())


def test_unknown_names_say_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'resnet56'"):
        load_model("resnet_56")
    with pytest.raises(ValueError, match="no weights named 'IMAGENET'; known: IMAGENET1K_V1"):
        load_model("resnet18", weights="IMAGENET")
    with pytest.raises(ValueError, match="num_classes must be a whole number, 1 or more; got 0"):
        load_model("resnet20", num_classes=0)
    with pytest.raises(ValueError, match="have 1000 classes, not 10: ask for 1000"):
        load_model("resnet18", weights="IMAGENET1K_V1")


class Evil:
    def __reduce__(self):
        return (open, ("prunelab-ran-this", "w"))


def test_bad_weight_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = tmp_path / "good.pt"
    torch.save(load_model("resnet20").state_dict(), good)
    torn = tmp_path / "torn.pt"
    torn.write_bytes(good.read_bytes()[:5000])
    code = tmp_path / "code.pth"
    code.write_bytes(pickle.dumps({"state_dict": Evil()}))
    torn_tensors = tmp_path / "torn.safetensors"
    torn_tensors.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    sentences = {torn: "is torn", code: "holds code", torn_tensors: "not a whole safetensors file"}
    for path, sentence in sentences.items():
        with pytest.raises(ValueError, match=sentence):
            load_model("resnet20", weights=path)
    with pytest.raises(ValueError, match="does not hold weights of resnet32; missing: layer1"):
        load_model("resnet32", weights=good)
    torch.save({"linear.weight": torch.zeros(3, 64), "conv1.weight": torch.zeros(1)}, torn)
    with pytest.raises(ValueError, match=r"of another shape: conv1.weight, linear.weight"):
        load_model("resnet20", weights=torn)
    assert not (tmp_path / "prunelab-ran-this").exists()
    with pytest.raises(FileNotFoundError, match="there is no weights file"):
        load_model("resnet20", weights=tmp_path / "none.pt")


def test_half_weights(tmp_path, make_model):
    model = make_model("resnet20")
    path = save_weights(tmp_path / "w.safetensors", model, half=True)
    loaded = load_model("resnet20", weights=path)
    assert loaded.conv1.weight.dtype == torch.float32
    assert torch.allclose(loaded.conv1.weight, model.conv1.weight, rtol=1e-3)
