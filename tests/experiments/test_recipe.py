import re

import pytest
import torch

from prunelab import TrainSettings, load_model, load_recipe, make_plan, recipe_names, trace

PLAIN = ["vgg16", "resnet56", "resnet110", "resnet34"]
RETRAINED = ["vgg16-pruned-a", *(f"resnet{d}-pruned-{v}" for d in (56, 110) for v in "ab")]
PRUNED = [*RETRAINED, *(f"resnet34-pruned-{v}" for v in "abc")]
WITH_SCRATCH = ["vgg16-pruned-a", "resnet56-pruned-b", "resnet110-pruned-b"]
SCRATCH = [f"{name}-scratch" for name in WITH_SCRATCH]


def test_every_row_of_table_1_has_a_recipe():
    ours = {"digits-quick", "resnet20-pruned-b", "vgg16-quarter-pruned-a"}
    ours |= {"vgg16-chosen-a", "vgg16-quarter-longer-a"}
    ours |= {"resnet56-chosen-b", "resnet110-larger-rate-b"}
    assert set(recipe_names()) == {*PLAIN, *PRUNED, *SCRATCH, *ours}
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert (recipe.paper or name) == name
    for recipe in map(load_recipe, RETRAINED):
        settings = dict(epochs=40, lr=0.001, milestones=())
        settings["weight_decay"] = recipe.baseline.weight_decay
        assert recipe.retrain == TrainSettings(**settings)
    for recipe in map(load_recipe, SCRATCH):
        assert recipe.scratch == "E"
        assert recipe.retrain is None


def test_resnet20_pruned_b_leaves_the_first_and_last_block_of_a_stage_whole():
    graph = trace(load_model("resnet20"), torch.zeros(1, 3, 32, 32))
    keep = make_plan(graph, load_recipe("resnet20-pruned-b").prune.all_ratios).keep
    left = {group.leader: len(keep[group.leader]) for group in graph.groups}
    cut = {g.leader: left[g.leader] for g in graph.groups if left[g.leader] < g.size}
    assert cut == {"layer1.1.conv1": 6, "layer2.1.conv1": 22, "layer3.1.conv1": 57}


def test_changes():
    changes = ["retrain.epochs=2", "prune.ratios.stage1=0.5", "data.label=CIFAR-10 (JPEG)"]
    recipe = load_recipe("resnet56-pruned-b", [*changes, "scratch=B"])
    assert recipe.retrain.epochs == 2
    assert recipe.prune.all_ratios["stage1"] == 0.5
    assert recipe.prune.all_ratios["conv_16"] == 0
    assert (recipe.data.label, recipe.scratch) == ("CIFAR-10 (JPEG)", "B")


def test_own_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "extends: resnet56-pruned-a\n"
        "title: mine\n"
        "retrain: {epochs: 3}\n"
        "prune: {ratios: {stage2: 0.2}}\n"
    )
    recipe = load_recipe(path)
    assert (recipe.name, recipe.retrain.epochs, recipe.retrain.lr) == ("mine", 3, 0.001)
    assert recipe.prune.all_ratios == {"stage2": 0.2}


HEAD = "title: x\nmodel: {name: a}\n"
RATIO = "the ratio of 'stage1' must be a number in [0, 1)"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{HEAD}prunes: {{}}", "unknown key 'prunes'; did you mean 'prune'"),
        (f"{HEAD}retrain: {{epoch: 3}}", "unknown key 'retrain.epoch'; did you mean 'epochs'"),
        (f"{HEAD}retrain: {{epochs: -3}}", "'retrain.epochs' must be greater than or equal to 0, "),
        (f"{HEAD}prune: {{ratios: {{stage1: much}}}}", "'prune.ratios.stage1'"),
        (f"{HEAD}prune: {{ratios: {{stage1: 1.5}}}}", RATIO),
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
    both = ["prune.schedule=rounds", "prune.rounds=3"]
    assert load_recipe("vgg16-pruned-a", both).prune.rounds == 3
    need = r"schedule 'rounds' and rounds of 2 or more need each other .*; "
    with pytest.raises(ValueError, match=need + "got schedule 'rounds' and rounds 1"):
        load_recipe("vgg16-pruned-a", both[:1])
    with pytest.raises(ValueError, match=need + "got schedule 'once' and rounds 3"):
        load_recipe("vgg16-pruned-a", both[1:])
