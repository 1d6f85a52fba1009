import re

import pytest
import torch

from prunelab import TrainSettings, load_model, load_recipe, make_plan, trace
from prunelab.recipe import recipe_names

PLAIN = ["vgg16", "resnet56", "resnet110", "resnet34"]
PRUNED = [
    "vgg16-pruned-a",
    *(f"resnet{d}-pruned-{v}" for d in (56, 110) for v in "ab"),
    *(f"resnet34-pruned-{v}" for v in "abc"),
]
SCRATCH = [f"{name}-scratch" for name in ("vgg16-pruned-a", "resnet56-pruned-b", "resnet110-pruned-b")]


def test_every_row_of_table_1_has_a_recipe():
    assert set(recipe_names()) == {*PLAIN, *PRUNED, *SCRATCH, "digits-quick", "resnet20-pruned-b"}
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert (recipe.paper or name) == name
    for name in PRUNED[:5]:
        assert load_recipe(name).retrain == TrainSettings(
            epochs=40, lr=0.001, milestones=(), weight_decay=load_recipe(name).baseline.weight_decay
        )
    assert all(load_recipe(name).scratch == "E" and load_recipe(name).retrain is None for name in SCRATCH)


def test_resnet20_pruned_b_leaves_the_first_and_last_block_of_a_stage_whole():
    graph = trace(load_model("resnet20"), torch.zeros(1, 3, 32, 32))
    keep = make_plan(graph, load_recipe("resnet20-pruned-b").prune.all_ratios).keep
    cut = {
        layer: len(keep[layer])
        for layer, group in ((g.leader, g) for g in graph.groups)
        if len(keep[layer]) < group.size
    }
    assert cut == {"layer1.1.conv1": 6, "layer2.1.conv1": 22, "layer3.1.conv1": 57}


def test_changes():
    recipe = load_recipe(
        "resnet56-pruned-b", ["retrain.epochs=2", "prune.ratios.stage1=0.5", "data.label=CIFAR-10 (JPEG)", "scratch=B"]
    )
    assert recipe.retrain.epochs == 2
    assert recipe.prune.all_ratios["stage1"] == 0.5
    assert recipe.prune.all_ratios["conv_16"] == 0
    assert (recipe.data.label, recipe.scratch) == ("CIFAR-10 (JPEG)", "B")


def test_own_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: resnet56-pruned-a\ntitle: mine\nretrain: {epochs: 3}\nprune: {ratios: {stage2: 0.2}}\n")
    recipe = load_recipe(path)
    assert (recipe.name, recipe.retrain.epochs, recipe.retrain.lr) == ("mine", 3, 0.001)
    assert recipe.prune.all_ratios == {"stage2": 0.2}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("title: x\nmodel: {name: a}\nprunes: {}", "unknown key 'prunes'; did you mean 'prune'"),
        ("title: x\nmodel: {name: a}\nretrain: {epoch: 3}", "unknown key 'retrain.epoch'; did you mean 'epochs'"),
        ("title: x\nmodel: {name: a}\nretrain: {epochs: -3}", "epochs must be a whole number of at least 0"),
        ("title: x\nmodel: {name: a}\nprune: {ratios: {stage1: much}}", "'prune.ratios.stage1'"),
        (
            "title: x\nmodel: {name: a}\nprune: {ratios: {stage1: 1.5}}",
            "the ratio of 'stage1' must be a number in [0, 1)",
        ),
        ("extends: BAD", "extends itself"),
        ("model: {name: a}", "'title' is missing"),
        ("extends: resnet65", "unknown recipe 'resnet65'; did you mean 'resnet56'"),
        ("- a\n- b", "must hold keys and values"),
        ("a: [", "is not YAML"),
    ],
)
def test_bad_files(tmp_path, text, sentence):
    path = tmp_path / "bad.yaml"
    path.write_text(text.replace("BAD", str(path)))
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load_recipe(path)


def test_bad_names_and_changes():
    with pytest.raises(ValueError, match="did you mean 'digits-quick'"):
        load_recipe("digit-quick")
    with pytest.raises(FileNotFoundError, match=r"no recipe file none.yaml"):
        load_recipe("none.yaml")
    with pytest.raises(ValueError, match=r"unknown key 'retrain.epohcs'; did you mean 'epochs'"):
        load_recipe("digits-quick", ["retrain.epohcs=2"])
    with pytest.raises(ValueError, match="key=value"):
        load_recipe("digits-quick", ["retrain.epochs"])


def test_rounds_belong_to_their_schedule():
    assert load_recipe("vgg16-pruned-a", ["prune.schedule=rounds", "prune.rounds=3"]).prune.rounds == 3
    for changes in (["prune.rounds=3"], ["prune.schedule=rounds"]):
        with pytest.raises(
            ValueError,
            match=r"schedule 'rounds' and rounds of 2 or more need each other .*; got schedule '(once|rounds)' and rounds [13]",
        ):
            load_recipe("vgg16-pruned-a", changes)
