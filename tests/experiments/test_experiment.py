import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from small import make_folder

from prunelab import (
    Experiment,
    evaluate,
    load_model,
    load_pruned,
    load_recipe,
    read_log,
    read_rows,
    replay,
    save_weights,
    train,
)
from prunelab.cli import main
from prunelab.experiments import Finished
from prunelab.utils.ownership import Held, own, owning
from prunelab.utils.seals import append_line, read_note
from prunelab.utils.tensors import peek_header

TRAIN_EPOCH = "prunelab.training.loop._train_epoch"
SHORT = ["baseline.epochs=2", "retrain.epochs=1"]


@pytest.fixture
def recipe():
    return load_recipe("digits-quick", SHORT)


def test_replay_leaves_rows_and_files_and_does_nothing_twice(
    recipe, few_digits, tmp_path, monkeypatch
):
    rows = replay(recipe, data=few_digits, device="cpu", out=tmp_path)
    assert list(rows["kind"]) == ["baseline", "pruned", "retrained", "continued", "scratch-E"]
    assert list(rows["epochs"]) == [2, 0, 1, 1, 2]
    whole, small = 40_551_040, 28_017_280
    assert rows["flops"].tolist() == [whole, small, small, whole, small]
    evidence = "recipe seed device torch epochs dataset weights n_test start"
    assert rows[evidence.split()].notna().all(axis=None)
    folder = tmp_path / "digits-quick-0"
    files = "rows.csv plan.json pruned.safetensors scratch.safetensors history.csv run.json"
    assert set(files.split()) <= set(os.listdir(folder))
    log = read_log(folder)
    history = pd.read_csv(folder / "history.csv")
    assert log[["kind", "epoch", "train_loss"]].equals(history[["kind", "epoch", "train_loss"]])
    path = folder / "log.jsonl"
    path.write_text(path.read_text() + '{"kind": "ret')  # as it is being written
    assert read_log(folder).equals(log)
    append_line(path, {"kind": "retrained", "step": 1, "epoch": 1})  # after a kill
    assert len(read_log(folder)) == len(log) + 1
    small = load_pruned(folder / "pruned.safetensors")
    row = rows.set_index("kind").loc["retrained"]
    assert evaluate(small, few_digits.test).accuracy == row["test_accuracy"]
    monkeypatch.setattr(TRAIN_EPOCH, lambda *_: pytest.fail("trained again"))
    measure_latency = "prunelab.experiments.rows.measure_latency"
    monkeypatch.setattr(measure_latency, lambda *_, **__: pytest.fail("measured again"))
    assert replay(recipe, data=few_digits, device="cpu", out=tmp_path).equals(rows)
    part = Experiment(recipe, data=few_digits, device="cpu", out=tmp_path)
    part.baseline()
    assert set(part.report()["kind"]) == {"baseline", "pruned"}
    assert len(pd.read_csv(folder / "rows.csv")) == len(read_rows(tmp_path)) == 5


def test_pruned_rows_share_a_baseline(few_digits, tmp_path, monkeypatch):
    changes = ["model.name=resnet20", "prune.skip=[conv_16]", *SHORT]
    recipe = load_recipe("resnet56-pruned-a", changes)
    base = load_recipe("resnet56", ["model.name=resnet20", "baseline.epochs=2"])
    assert list(replay(base, data=few_digits, device="cpu", out=tmp_path)["kind"]) == ["baseline"]
    run = Experiment(recipe, data=few_digits, device="cpu", out=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(TRAIN_EPOCH, lambda *_: pytest.fail("trained again"))
        run.baseline()
    assert not (tmp_path / "resnet56-pruned-a-0" / "baseline.safetensors").exists()


def test_scratch_rows_need_no_baseline(few_digits, tmp_path):
    changes = ["model.name=resnet20", "prune.skip=[]", "baseline.epochs=2", "scratch=B"]
    recipe = load_recipe("resnet56-pruned-b-scratch", changes)
    rows = replay(recipe, data=few_digits, device="cpu", out=tmp_path)
    assert list(rows["kind"]) == ["scratch-B"]
    assert rows["epochs"].item() == round(2 / (1 - rows["flops_removed"].item())) == 3


def count_removed(run):
    return {name: len(gone) for name, gone in run.plan().removed.items()}


def test_layer_by_layer(few_digits, tmp_path):
    ratios = "prune.ratios={conv_2: 0.5, conv_4: 0.25}"
    changes = [*SHORT, "prune.schedule=layer by layer", ratios, "scratch=null"]
    run = Experiment("digits-quick", changes=changes, data=few_digits, device="cpu", out=tmp_path)
    small = run.retrained()
    assert count_removed(run) == {"layer1.0.conv1": 8, "layer1.1.conv1": 4}
    assert small.layer1[1].conv1.out_channels == 12
    assert (tmp_path / "digits-quick-0" / "retrain-2.safetensors").exists()
    assert run.report().set_index("kind").loc["retrained", "epochs"] == 2


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (["prune.schedule=rounds", "prune.rounds=2"], 2),
        (["prune.schedule=filter by filter"], 3),
    ],
)
def test_other_schedules_end_at_the_same_widths_and_carry_momentum(
    few_digits, tmp_path, monkeypatch, schedule, steps
):
    ratios = "prune.ratios={conv_2: 0.1, conv_4: 0.05}"
    how = dict(changes=[*SHORT, ratios, "scratch=null", *schedule], device="cpu", out=tmp_path)
    momentum, seeds = [], []

    def watch(model, data, settings, *, optimizer, **options):
        seeds.append(settings.seed)
        fits = []
        for parameter in model.parameters():
            if parameter in optimizer.state:
                buffer = optimizer.state[parameter].get("momentum_buffer")
                fits.append(buffer.shape == parameter.shape)
        momentum.append(fits)
        return train(model, data, settings, optimizer=optimizer, **options)

    monkeypatch.setattr("prunelab.experiments.trainings.train", watch)
    run = Experiment("digits-quick", data=few_digits, **how)
    small = run.retrained()
    assert count_removed(run) == {"layer1.0.conv1": 2, "layer1.1.conv1": 1}
    assert small.layer1[0].conv1.out_channels == 14
    whole = [True] * len(list(small.parameters()))
    assert momentum == [[]] + [whole] * steps  # the baseline starts anew
    assert len(set(seeds)) == 1 + steps  # other shuffles in each
    row = run.report().set_index("kind").loc["retrained"]
    assert row["epochs"] == steps
    last = run.history().iloc[-1]
    # of the smallest network alone
    assert row["test_accuracy_best"] == last["test_accuracy"] == row["test_accuracy"]
    assert last["step"] == steps
    assert run.plan().settings["ratios"] == {"conv_2": 0.1, "conv_4": 0.05}
    (tmp_path / "digits-quick-0" / "log.jsonl").unlink()  # what a kill kept from being logged
    again = Experiment("digits-quick", data=few_digits, **how)
    again.retrained()
    assert len(again.log()) == len(again.history()) == 2 + steps


@pytest.mark.parametrize("schedule", ["layer by layer", "filter by filter"])
def test_a_schedule_in_which_nothing_goes(few_digits, tmp_path, schedule):
    nothing = ["prune.ratios={conv_2: 0.05}", "prune.rounding=floor", "scratch=null"]
    changes = [*SHORT, *nothing, f"prune.schedule={schedule}"]
    run = Experiment("digits-quick", changes=changes, data=few_digits, device="cpu", out=tmp_path)
    run.retrained()
    assert not any(run.plan().removed.values())
    assert list(run.report()["kind"]) == ["baseline", "pruned", "retrained"]


def test_a_run_from_before_a_setting_existed_goes_on(recipe, few_digits, tmp_path):
    Experiment(recipe, data=few_digits, device="cpu", out=tmp_path)
    path = tmp_path / "digits-quick-0" / "run.json"
    path.with_name("log.jsonl").touch()  # something was done
    about = read_note(path)
    del about["recipe"]["prune"]["rounds"], about["recipe"]["baseline"]["patience"]
    about["recipe"]["baseline"]["compile"] = False  # how it runs, not what it learns
    path.write_text(json.dumps(about))
    Experiment(recipe, data=few_digits, device="cpu", out=tmp_path)
    about["recipe"]["baseline"]["warmup"] = 5
    path.write_text(json.dumps(about))
    sentence = r"is of another version: its recipe: unknown key 'baseline.warmup'"
    with pytest.raises(ValueError, match=sentence):
        Experiment(recipe, data=few_digits, device="cpu", out=tmp_path)


def test_another_run_in_the_same_folder_is_refused(recipe, few_digits, tmp_path):
    Experiment(recipe, data=few_digits, device="cpu", out=tmp_path)
    (tmp_path / "digits-quick-0" / "log.jsonl").touch()  # something was done
    other = load_recipe("digits-quick", [*SHORT, "baseline.lr=0.1"])
    sentence = r"holds another run: recipe.baseline.lr was 0.05, not 0.1"
    with pytest.raises(ValueError, match=sentence):
        Experiment(other, data=few_digits, device="cpu", out=tmp_path)


def test_a_wrong_layer_is_said_before_anything_is_trained_or_written(few_digits, tmp_path):
    wrong = {
        "prune.ratios.stage9=0.5": "unknown layer 'stage9'",
        "sensitivity=[conv_3]": "'conv_3' cannot be pruned",
    }
    for change, sentence in wrong.items():
        recipe = load_recipe("digits-quick", [change])
        with pytest.raises(ValueError, match=sentence):
            Experiment(recipe, data=few_digits, device="cpu", out=tmp_path)
    assert not list(tmp_path.glob("digits-quick*"))


def test_classes_must_agree(folder, tmp_path):
    recipe = load_recipe("digits-quick", ["model.num_classes=5"])
    sentence = rf"model of 5 classes and {folder.name} has 2; set model.num_classes=2"
    with pytest.raises(ValueError, match=sentence):
        Experiment(recipe, data=folder, device="cpu", out=tmp_path)


def test_imagenet_rows_run_on_a_folder_of_large_images(tmp_path):
    data = make_folder(tmp_path / "imagenet", (96, 80), counts=(8, 2))
    weights = save_weights(tmp_path / "r34.safetensors", load_model("resnet34", num_classes=2))
    changes = [
        "model.num_classes=2",
        f"model.weights={weights}",
        "data.image_size=65",
        "data.val_fraction=0.2",
        "retrain.epochs=1",
        "retrain.batch_size=8",
    ]
    recipe = load_recipe("resnet34-pruned-c", changes)
    rows = replay(recipe, data=data, device="cpu", out=tmp_path / "runs").set_index("kind")
    assert list(rows.index) == ["baseline", "pruned", "retrained"]
    assert rows.loc["retrained", "n_test"] == 4
    assert rows.loc["baseline", "start"] == "r34.safetensors"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from prunelab.cli import main; main()", *arguments]


def test_command_line_replays_by_papermill_and_resumes(folder, tmp_path):
    arguments = ["replay", "digits-quick", "--data", str(folder), "--device", "cpu"]
    arguments += ["--out", str(tmp_path / "o")]
    for change in (*SHORT, "sensitivity=[stage1]"):
        arguments += ["--set", change]
    first = subprocess.run(command(*arguments), capture_output=True, text=True, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    for line in ("epoch   2/2", "retrained", "The executed notebook is"):
        assert line in first.stdout
    assert "plan.json: which filters stay" in first.stdout
    notebook = json.loads((tmp_path / "o" / "digits-quick-0" / "replay.ipynb").read_text())
    assert "widgets" not in notebook["metadata"]
    tags = [cell["metadata"].get("tags", []) for cell in notebook["cells"]]
    assert ["injected-parameters"] in tags
    rows = read_rows(tmp_path / "o")
    again = subprocess.run(command(*arguments), capture_output=True, text=True, cwd=tmp_path)
    assert "ResNet-20 on digits: finished before, in" in again.stdout
    assert first.stdout.split("\n\n")[-2] in again.stdout  # its files; the table is above
    assert read_rows(tmp_path / "o").equals(rows)
    (folder / "train" / "cats" / "0.png").touch()  # perhaps another picture: looked at again
    more = Finished(tmp_path / "o" / "digits-quick-0", load_recipe("digits-quick"), 0, "digits", "")
    assert not more.is_so()
    report = command("report", "--out", str(tmp_path / "o"))
    printed = subprocess.run(report, capture_output=True, text=True)
    assert "digits-quick" in printed.stdout
    assert "paper's error %" in printed.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_line_says_how_to_go_on(tmp_path, number, code):
    process = subprocess.Popen(
        command("replay", "digits-quick", "--out", str(tmp_path), "--device", "cpu"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a job in the background has it ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    checkpoint = tmp_path / "digits-quick-0" / "baseline.safetensors"
    deadline = time.monotonic() + 90
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    folder = tmp_path / "digits-quick-0"
    with pytest.raises(Held, match=f"in use by process {process.pid}"):
        own(folder)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "keeps where it was; the same command goes on from there" in errors
    assert "part" in peek_header(checkpoint)  # within an epoch
    with owning(folder):
        pass


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["replay", "digit-quick"], "did you mean 'digits-quick'"),
        (["replay", "digits-quick", "--data", "nowhere"], "no data 'nowhere'"),
        (["replay", "digits-quick", "--device", "cuda:9"], "use 'cpu' or 'auto'"),
        (["replay", "digits-quick", "--set", "retrain.epoch=1"], "did you mean 'epochs'"),
        (["report", "--out", "nowhere"], None),
    ],
)
def test_wrong_command_lines_are_one_sentence(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prunelab", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    if sentence:
        assert sentence in ended.value.code
        assert len(ended.value.code.strip().splitlines()) == 1
    assert not list(Path(tmp_path).glob("**/run.json"))


def test_a_wrong_command_line_ends_with_one(tmp_path):
    wrong = command("replay", "digit-quick")
    done = subprocess.run(wrong, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("prunelab: ")
    assert len(done.stderr.strip().splitlines()) == 1
