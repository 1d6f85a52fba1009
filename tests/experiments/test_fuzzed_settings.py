"""Recipes, sweeps and settings that nobody means: a sentence, at once, and nothing runs."""

import re
import time
from contextlib import suppress

import pytest
import yaml
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st

from prunelab import TrainSettings, load_recipe, load_sweep
from prunelab.experiments import NotebookReplay
from prunelab.experiments.recipe import check_recipe, dump_recipe
from prunelab.models import load_model

HEAD = "title: x\nmodel: {name: resnet20}\n"
BOMB = "a0: &a0 [x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
LONG = "9" * 5000


@pytest.mark.parametrize("load", [load_recipe, load_sweep])
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 100_000, "it is nested more than 30 deep"),
        ("{a: " * 100_000, "it is nested more than 30 deep"),
        (BOMB, "or has more than 100000 values"),
        ("a: &x [*x]", "or has more than 100000 values"),
        ("a: *x", "is not YAML"),
        (HEAD + "paper: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        (HEAD + "paper: 2001-13-45", "is not YAML: month must be in 1"),
        (HEAD + f"seeds: [{LONG}]", "is not YAML"),
        (HEAD + "? [a]\n: b", "is not YAML"),
        ("a: \x00", "is not YAML"),
        (b"title: \xff\xfe", "is not UTF-8"),
        (b" " * (2**20 + 1), "is no file of settings: it has more than 1048576 bytes"),
        ("", "must hold keys and values"),
        ("null", "must hold keys and values"),
    ],
)
def test_files_that_nobody_means(tmp_path, load, text, sentence):
    path = tmp_path / "odd.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    began = time.monotonic()
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load(path)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (HEAD + "1: 2", "'1': Keys should be strings, got 1"),
        (HEAD + "extends: [a, b]", "unknown recipe"),
        (HEAD + "model: null", "'model'"),
        (HEAD + "sensitivity: 3", "'sensitivity' must be a valid tuple"),
        (HEAD + "prune: {ratios: {conv_2: .nan}}", "'prune.ratios.conv_2' must be a finite number"),
        (HEAD + "prune: {ratios: {conv_2: true}}", "'prune.ratios.conv_2' must be a number"),
        (HEAD + "prune: {ratios: [0.5]}", "'prune.ratios' must be a valid dictionary"),
        (HEAD + "data: {val_fraction: 1}", "'data.val_fraction' must be less than 1"),
        (HEAD + "data: {image_size: 0}", "'data.image_size' must be greater than or equal to 1"),
        (HEAD + "baseline: {seed: 99999999999999999999}", "'baseline.seed' must be less than"),
        (HEAD + "baseline: {epochs: yes}", "'baseline.epochs' must be a whole number"),
        (HEAD + "continued: 1", "'continued' must be true or false"),
    ],
)
def test_recipes_that_nobody_means(tmp_path, text, sentence):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load_recipe(path)


@pytest.mark.parametrize("name", ["../../elsewhere", "a/b", "a\\b", "a\nb", "", "x" * 300])
def test_a_name_stays_in_its_folder(name):
    content = dump_recipe(load_recipe("digits-quick"))
    with pytest.raises(ValueError, match="'name' must"):
        check_recipe({**content, "name": name}, "it")
    with pytest.raises(ValueError, match="'name' must"):
        load_recipe("digits-quick", [f"name={yaml.safe_dump(name)}"])


@pytest.mark.parametrize("seed", [-1, 2**32, True, "0"])
def test_a_seed_is_looked_at_before_anything_starts(tmp_path, seed):
    with pytest.raises(ValueError, match="seed must be a whole number from 0 to 4294967295"):
        NotebookReplay("digits-quick", seed=seed, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_runs_no_function_that_it_names(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "mark"
    code = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
    code += "from torch import nn\ndef net():\n    return nn.Sequential(nn.Conv2d(3, 4, 3))\n"
    (tmp_path / "evil_nets.py").write_text(code)
    path = tmp_path / "mine.yaml"
    path.write_text("title: x\nmodel: {name: 'evil_nets:net'}\n")
    words = r"names a function, evil_nets:net, .*: --set model.name=evil_nets:net"
    with pytest.raises(ValueError, match=words):
        load_recipe(path)
    assert not mark.exists()
    named = ["model.name=evil_nets:net"]  # by who calls it
    assert load_recipe(path, named).model.name == "evil_nets:net"
    load_model("evil_nets:net")
    assert mark.exists()
    assert load_recipe(path).model.name == "evil_nets:net"  # known from now on
    other = tmp_path / "a clone of someone's"
    other.mkdir()
    monkeypatch.chdir(other)
    assert load_recipe(path).model.name == "evil_nets:net"  # imported from where it was known
    (other / "evil_nets.py").write_text(code)  # another file of that name
    with pytest.raises(ValueError, match=words):
        load_recipe(path)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANY = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
)
KEYS = [*dump_recipe(load_recipe("digits-quick"))]
SECTIONS = {"data": "source label val_fraction", "model": "name num_classes weights new_head"}
SECTIONS |= {
    "prune": "ratios max_flops skip align keep rounds",
    "baseline": "epochs lr momentum seed",
}


@fuzz(200)
@given(st.sampled_from(KEYS), ANY)
def test_any_value_of_a_key(key, value):
    content = dump_recipe(load_recipe("digits-quick"))
    with suppress(ValueError):
        check_recipe({**content, key: value}, "it")


@fuzz(200)
@given(st.sampled_from([f"{s}.{k}" for s, keys in SECTIONS.items() for k in keys.split()]), ANY)
def test_any_change(key, value):
    text = yaml.safe_dump(value, allow_unicode=True)
    with suppress(ValueError):
        load_recipe("digits-quick", [f"{key}={text}"])


@fuzz(200)
@given(st.dictionaries(st.sampled_from([*TrainSettings.__dataclass_fields__]), ANY, max_size=3))
def test_any_settings(given):
    try:
        found = TrainSettings(**given)
    except ValueError as error:
        assert str(error).startswith("TrainSettings: ")  # noqa: PT017
        assert len(str(error)) < 2000  # noqa: PT017
    else:
        assert found.lr > 0
        assert found.lr_at(0) == found.lr
        assert 0 <= found.momentum < 1


@fuzz(200)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(HEAD.encode() + content)
    for load in (load_recipe, load_sweep):
        with suppress(ValueError):
            load(path)
