"""Weights that people have: of other classes, of runs, of pruned networks, of libraries."""

import json
import warnings

import pytest
import torch
import torchvision
from typer.testing import CliRunner

from prunelab import (
    TrainSettings,
    find_weights,
    load_model,
    load_model_and_data,
    load_pruned,
    make_plan,
    prune,
    save_pruned,
    save_weights,
    trace,
    train,
)
from prunelab.cli import app
from prunelab.models import open_saved
from prunelab.models.loading import _fetch
from prunelab.models.weights import open_weights

X = torch.zeros(1, 3, 32, 32)
ONE_EPOCH = TrainSettings(epochs=1, lr=0.01, batch_size=32)


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """A file as torchvision gives it: a state dict of 1000 classes."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(load_model("resnet18", num_classes=1000).state_dict(), path)
    return path


def test_weights_of_other_classes_need_a_new_head(thousand):
    words = r"have 1000 classes, not 5: ask for 1000 \(num_classes\), or .* \(new_head=True; "
    with pytest.raises(ValueError, match=words):
        load_model("resnet18", num_classes=5, weights=thousand)
    theirs = torch.load(thousand, weights_only=True)
    model = load_model("resnet18", num_classes=5, weights=thousand, new_head=True)
    own = model.state_dict()
    assert model.fc.out_features == 5
    assert all(torch.equal(own[key], theirs[key]) for key in own if not key.startswith("fc."))
    same = load_model("resnet18", num_classes=1000, weights=thousand, new_head=True)
    assert torch.equal(same.layer4[1].conv2.weight, theirs["layer4.1.conv2.weight"])
    assert not torch.equal(same.fc.weight, theirs["fc.weight"])  # also of as many classes
    with pytest.raises(ValueError, match="leaves out the last layer of weights: give weights="):
        load_model("resnet18", new_head=True)


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "googlenet"])
def test_a_new_head_of_any_kind(tmp_path, name):
    fresh = {"init_weights": False} if name == "googlenet" else {}  # with its auxiliary heads
    whole = torchvision.models.get_model(name, num_classes=7, **fresh)
    path = tmp_path / "w.pt"
    torch.save(whole.state_dict(), path)
    model = load_model(name, num_classes=3, weights=path, new_head=True)
    assert model(torch.zeros(2, 3, 96, 96)).shape == (2, 3)
    assert load_model(name, num_classes=7, weights=path)(torch.zeros(2, 3, 96, 96)).shape == (2, 7)


def test_a_pruned_file_gets_a_new_head(tmp_path, make_model):
    model = make_model("resnet20")
    plan = make_plan(trace(model, X), {"*": 0.5})
    path = save_pruned(tmp_path / "s.safetensors", prune(model, plan), plan)
    with pytest.raises(ValueError, match="have 10 classes, not 4"):
        load_model("resnet20", num_classes=4, weights=path)
    small = load_model("resnet20", num_classes=4, weights=path, new_head=True)
    assert small.layer1[0].conv1.out_channels == 8
    assert small(X).shape == (1, 4)


def test_an_altered_file_of_ours_is_refused(tmp_path, make_model):
    path = save_weights(tmp_path / "w.safetensors", make_model("resnet20"))
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="was altered after it was written"):
        load_model("resnet20", weights=path)


def test_the_checkpoint_of_a_training_is_weights(tmp_path, few_digits, make_model):
    model, path = make_model("resnet20"), tmp_path / "baseline.safetensors"
    train(model, few_digits, ONE_EPOCH, checkpoint=path)
    for weights in (path, tmp_path):  # a run's folder means its whole network
        found = load_model("resnet20", weights=weights)
        assert torch.equal(found(X), model.cpu()(X))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it knows how its images were normalised
        _, data = load_model_and_data("resnet20", "digits", weights=path, device="cpu")
    assert data.normalization == few_digits.normalization
    assert open_saved(tmp_path).preprocessing == (few_digits.normalization, 32)


def test_an_unfinished_training_is_said(tmp_path, few_digits, make_model):
    def stop(_):
        raise KeyboardInterrupt

    path = tmp_path / "baseline.safetensors"
    settings = TrainSettings(epochs=2, lr=0.01, batch_size=32)
    with pytest.raises(KeyboardInterrupt):
        train(make_model("resnet20"), few_digits, settings, checkpoint=path, on_epoch=stop)
    with pytest.warns(UserWarning, match=r"is not finished \(1 of 2 epochs\)"):
        load_model("resnet20", weights=path)


def test_the_checkpoint_of_a_retraining_is_a_pruned_network(tmp_path, few_digits, make_model):
    model, path = make_model("resnet20"), tmp_path / "retrain.safetensors"
    small = prune(model, make_plan(trace(model, X), {"*": 0.5}))
    train(small, few_digits, ONE_EPOCH, checkpoint=path)
    assert torch.equal(load_model("resnet20", weights=path)(X), small.cpu()(X))


def test_folders_of_runs(tmp_path):
    ours = find_weights("resnet20-digits")
    recipe = {"model": {"name": "resnet20", "weights": str(ours)}, "baseline_from": None}
    (tmp_path / "run.json").write_text(json.dumps({"recipe": recipe, "seed": 0}))
    assert torch.equal(
        load_model("resnet20", weights=tmp_path)(X), load_model("resnet20", weights=ours)(X)
    )
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match="is no folder of a run"):
        load_model("resnet20", weights=tmp_path)
    with pytest.raises(FileNotFoundError, match="no weights file or run's folder"):
        load_model("resnet20", weights=tmp_path / "none")


def test_weights_bring_their_normalization_along(tmp_path, make_model):
    ours = find_weights("resnet20-cifar10-jpeg")
    with pytest.warns(UserWarning, match="images are normalised by mean .*; the data's own would"):
        _, data = load_model_and_data("resnet20", "digits", weights=ours, device="cpu")
    assert data.normalization.mean == (0.4914, 0.4822, 0.4465)
    with pytest.warns(UserWarning, match="expects images normalised by .* as asked"):
        _, data = load_model_and_data(
            "resnet20", "digits", weights=ours, normalization="imagenet", device="cpu"
        )
    assert data.normalization.mean == (0.485, 0.456, 0.406)
    info = {"normalization": "cifar10", "classes": [f"class {i}" for i in range(10)]}
    other = save_weights(tmp_path / "w.safetensors", make_model("resnet20"), info=info)
    with pytest.warns(UserWarning, match="learned the classes class 0, class 1, class 2 …"):
        load_model_and_data("resnet20", "digits", weights=other, device="cpu")


def test_torchvisions_weights_know_their_images():
    known = open_weights("resnet50", "DEFAULT").preprocessing
    assert known.image_size == 224
    assert known.normalization.mean == (0.485, 0.456, 0.406)


def test_timms_networks(tmp_path, monkeypatch):
    timm = pytest.importorskip("timm")
    path = tmp_path / "w.pt"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    model = load_model("timm/test_resnet", num_classes=3, weights=path, new_head=True)
    assert model.architecture == {"name": "timm/test_resnet", "num_classes": 3}
    plan = make_plan(trace(model, X), {"*": 0.3})
    small = prune(model, plan)
    saved = save_pruned(tmp_path / "s.safetensors", small, plan)
    assert torch.equal(load_model("timm/test_resnet", num_classes=3, weights=saved)(X), small(X))
    with pytest.raises(ValueError, match="timm has no network 'resnet_18'; did you mean"):
        load_model("timm/resnet_18")
    with pytest.warns(UserWarning, match="as timm/test_resnet expects"):
        _, data = load_model_and_data("timm/test_resnet", "digits", device="cpu")
    assert data.normalization.mean == (0.5, 0.5, 0.5)

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(OSError, match="DEFAULT of timm/resnet18 could not be downloaded"):
        _fetch("timm/resnet18", open_weights("timm/resnet18", "DEFAULT"))


def test_what_torchvisions_weights_ask_for_goes_into_a_pruned_file(tmp_path, monkeypatch):
    """Inception's own weights take other colours; the file of a pruned one must, too."""
    fresh = torchvision.models.inception_v3(init_weights=False)
    choice = torchvision.models.get_model_weights("inception_v3").IMAGENET1K_V1
    monkeypatch.setattr(type(choice), "get_state_dict", lambda self, **_: fresh.state_dict())
    model = load_model("inception_v3", num_classes=1000, weights="DEFAULT")
    assert model.transform_input
    images = torch.rand(1, 3, 96, 96)
    small = prune(model, make_plan(trace(model, images), {"*": 0.3}))
    path = save_pruned(tmp_path / "s.safetensors", small, small.pruning_plan)
    assert torch.equal(load_pruned(path)(images), small(images))


def test_a_folder_with_a_foreign_run_json(tmp_path):
    for text in ("[]", "{", '{"recipe": {"model": []}}'):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ValueError, match=r"its run\.json is none of ours"):
            load_model("resnet20", weights=tmp_path)


def test_export_from_the_command_line(tmp_path, few_digits, make_model):
    model = make_model("resnet20")
    small = prune(model, make_plan(trace(model, X), {"*": 0.5}))
    path = tmp_path / "small.safetensors"
    save_pruned(path, small, small.pruning_plan, info=few_digits.describe())
    plain = tmp_path / "plain.pt"
    torch.save(model.state_dict(), plain)
    runner = CliRunner()

    def export(*arguments):
        done = runner.invoke(app, ["export", *map(str, arguments), "--to", "torch.export"])
        return done.output if done.exit_code == 0 else str(done.exception)

    assert "of 64 images 100.0% of answers equal" in export(path, "--data", "digits")
    assert "these images were random numbers" in export(path)
    assert "does not say which network it holds: name it, --model resnet18" in export(plain)
    assert "how large its images are" in export(plain, "--model", "resnet20")
    assert "100.0% of answers" in export(plain, "--model", "resnet20", "--data", "digits")
    assert (tmp_path / "small.pt2").exists()
    assert (tmp_path / "plain.pt2").exists()
