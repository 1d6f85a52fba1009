"""Networks of the user's own, named as module:function."""

import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from prunelab import (
    load_model,
    load_pruned,
    load_recipe,
    make_plan,
    prune,
    save_pruned,
    save_weights,
    trace,
)
from prunelab.cli import app

X = torch.zeros(1, 3, 32, 32)
MODULE = """
from torch import nn
from helpers_of_mine import width

def small(num_classes=10):
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 8, 3), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, num_classes))

def fixed():
    return small(7)

def wrong():
    return "a network"

def needs(width):
    return small(width)

net = small()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a module of the user's, where the command runs."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_of_mine.py").write_text(MODULE)
    (tmp_path / "helpers_of_mine.py").write_text("width = 8")
    yield tmp_path
    for name in ("nets_of_mine", "helpers_of_mine"):
        sys.modules.pop(name, None)


def save_small(folder):
    model = load_model("nets_of_mine:small", num_classes=4)
    plan = make_plan(trace(model, X), {"*": 0.5})
    small = prune(model, plan)
    return save_pruned(folder / "small.safetensors", small, plan), small


def test_by_name(own):
    model = load_model("nets_of_mine:small", num_classes=4)
    assert model(X).shape == (1, 4)
    assert model.architecture == {"name": "nets_of_mine:small", "num_classes": 4}
    assert load_model("nets_of_mine:fixed")(X).shape == (1, 7)  # one that takes no classes
    assert str(own) not in sys.path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nets_of_mime:small", "there is no module 'nets_of_mime' for 'nets_of_mime:small' in"),
        ("nets_of_mine:smal", "no function 'smal' in nets_of_mine; did you mean 'small'"),
        ("nets_of_mine:", "does not name a function; write package.module:function"),
        ("nets_of_mine:wrong", "gives a str; it must give a torch.nn.Module"),
        ("nets_of_mine:needs", "missing a required argument: 'width'; give the others defaults"),
        ("nets_of_mine:net", "is a network; name a function or a class that gives one"),
    ],
)
def test_what_is_wrong_is_said(own, name, words):
    with pytest.raises(ValueError, match=words):
        load_model(name)


def test_a_module_that_cannot_be_imported(own):
    (own / "helpers_of_mine.py").unlink()
    with pytest.raises(ValueError, match=r"nets_of_mine cannot be imported .*helpers_of_mine"):
        load_model("nets_of_mine:small")


def test_a_pruned_file_loads_again_in_a_new_process(own, tmp_path_factory):
    path, small = save_small(own)
    script = f"import torch; from prunelab import load_pruned; m = load_pruned({str(path)!r})\n"
    script += "print(m(torch.zeros(1, 3, 32, 32)).tolist())"
    for folder in (own, tmp_path_factory.mktemp("elsewhere")):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True
        )
        assert done.stdout.strip() == str(small(X).tolist()), done.stderr


def test_a_file_runs_no_code_that_the_user_did_not_name(own, monkeypatch):
    path, small = save_small(own)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own / "another machine"))
    sys.modules.pop("nets_of_mine")
    with pytest.raises(ValueError, match=r"name it yourself, load_pruned\(path, 'nets_of_mine"):
        load_pruned(path)
    assert "nets_of_mine" not in sys.modules
    assert torch.equal(load_pruned(path, "nets_of_mine:small")(X), small(X))
    assert torch.equal(load_pruned(path)(X), small(X))  # now it was named
    assert torch.equal(
        load_pruned(path, load_model("nets_of_mine:small", num_classes=4))(X), small(X)
    )


def test_a_folder_that_cannot_be_written_loses_nothing(own, monkeypatch):
    (own / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own / "file"))
    assert load_model("nets_of_mine:small")(X).shape == (1, 10)


def test_what_was_named_before_is_found_from_elsewhere(own, tmp_path_factory, monkeypatch):
    path, small = save_small(own)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    sys.modules.pop("nets_of_mine")
    assert torch.equal(load_pruned(path, "nets_of_mine:small")(X), small(X))


def test_a_file_that_is_exported_runs_no_code_either(own, monkeypatch):
    path, _ = save_small(own)
    options = ["--image-size", "32", "--to", "state_dict"]
    runner = CliRunner()
    assert runner.invoke(app, ["export", str(path), *options]).exit_code == 0
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own / "another machine"))
    refused = runner.invoke(app, ["export", str(path), *options])
    assert "name it yourself" in str(refused.exception)
    assert "--model nets_of_mine:small" in str(refused.exception)
    named = runner.invoke(app, ["export", str(path), *options, "--model", "nets_of_mine:small"])
    assert named.exit_code == 0


def test_a_command_that_names_a_function_may_run_it(own, folder, monkeypatch):
    seen = {}
    monkeypatch.setattr("prunelab.cli.replay.run", lambda path, **how: seen.update(how, path=path))
    weights = save_weights(own / "w.safetensors", fresh(own))
    command = ["prune", "--model", "nets_of_mine:small", "--weights", str(weights)]
    result = CliRunner().invoke(app, [*command, "--data", str(folder), "--out", str(own / "runs")])
    assert result.exit_code == 0, result.output
    with pytest.raises(ValueError, match="code is not run because a file asks for it"):
        load_recipe(seen["path"])
    assert load_recipe(seen["path"], seen["changes"]).model.name == "nets_of_mine:small"


def fresh(own):
    """A network of the function, which was not named before."""
    model = load_model("nets_of_mine:small", num_classes=2)
    (own / "config" / "prunelab" / "networks.json").unlink()
    return model
