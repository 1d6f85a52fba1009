"""Sweeps: what they consist of, and how they run in order; on Dask, in test_sweep_on_dask."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_points import begun, dies_twice
from typer.testing import CliRunner

from prunelab import compare_points, find_settings, load_sweep, read_sweep, run_sweep, sweep_names
from prunelab.cli import app
from prunelab.experiments.sweep import in_order
from prunelab.experiments.sweep.board import open_board
from prunelab.experiments.sweep.points import make_points, say_setting
from prunelab.experiments.sweep.storage import Place
from prunelab.utils.ownership import Held

SMALL = """
recipes: digits-quick
seeds: [0, 1]
set: {prune.ratios: {"*": "{ratio}"}, baseline.epochs: 1}
grid: {ratio: [0.2, 0.4]}
zip: {retrain.lr: [0.1, 0.01], retrain.epochs: [1, 2]}
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return load_sweep(path)


def test_points_are_all_combinations(small, tmp_path):
    points = make_points(small, tmp_path)
    own = [point for point in points if not point.for_others]
    assert len(own) == 2 * 2 * 2
    assert len(points) == 8 + 2  # a baseline for each seed
    assert len({point.key for point in points}) == 10
    first = own[0]
    assert first.name == "digits-quick,ratio=0.2,lr=0.1,epochs=1"
    recipe = first.load(tmp_path)
    assert recipe.prune.ratios == {"*": 0.2}
    assert (recipe.retrain.lr, recipe.retrain.epochs, recipe.baseline.epochs) == (0.1, 1, 1)
    assert first.baseline == "digits-quick-baseline-0"
    assert points[0].load(tmp_path).prune is None


def test_a_list_is_taken_as_it_is(tmp_path):
    path = tmp_path / "listed.yaml"
    path.write_text("recipe: digits-quick\nlist: [{retrain.lr: 0.1}, {retrain.epochs: 2}]\n")
    points = make_points(load_sweep(path), tmp_path)
    names = [point.name for point in points if not point.for_others]
    assert names == ["digits-quick,lr=0.1", "digits-quick,epochs=2"]


@pytest.mark.parametrize("value", [1e-5, 0.3, 2, True, None, "layer by layer", {"a": [1, 0.5]}, []])
def test_settings_survive_as_text(value):
    from prunelab.experiments.recipe import change_setting

    content: dict = {"retrain": {}}
    change_setting(content, say_setting("retrain.x", value))
    assert content["retrain"]["x"] == value


def test_recipes_of_the_users_own_are_kept_with_the_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("extends: digits-quick\nretrain: {epochs: 3}\n")
    Path("sweep.yaml").write_text("recipes: mine.yaml\ngrid: {retrain.lr: [0.1, 0.2]}\n")
    points = make_points(load_sweep("sweep.yaml"), tmp_path / "runs")
    Path("mine.yaml").unlink()
    recipe = points[-1].load(tmp_path / "runs")
    assert (recipe.name, recipe.retrain.epochs) == ("mine,lr=0.2", 3)


def test_shipped_sweeps(tmp_path):
    counts = {}
    for name in sweep_names():
        points = make_points(load_sweep(name).model_copy(update={"data": "digits"}), tmp_path)
        counts[name] = len(points), sum(point.for_others for point in points)
    # Table 1 has its baselines; the others have one made for each seed
    assert counts == {
        "digits-small": (8, 2),
        "figure-2c": (118, 1),
        "learning-rates": (21, 3),
        "table1-cifar": (33, 0),
    }


def test_baselines_of_table_1_are_trained_once(tmp_path):
    points = {point.key: point for point in make_points(load_sweep("table1-cifar"), tmp_path)}
    assert points["vgg16-0"].baseline is None
    for key in ("vgg16-pruned-a-1", "vgg16-pruned-a-scratch-1"):
        assert points[key].baseline == "vgg16-1"
    assert points["resnet110-pruned-a-2"].baseline == "resnet110-2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("recipes: [digits-quick, digits-quick]", "digits-quick is there twice"),
        ("recipes: digits-quick\nseeds: []", "seeds"),
        ("recipes: digits-quick\ngird: {retrain.lr: [1]}", "did you mean 'grid'"),
        ("recipes: digits-quick\ngrid: {retrain.lr: []}", "retrain.lr has no values"),
        ("recipes: digits-quick\nzip: {retrain.lr: [1, 2], seed: [1]}", "all need as many"),
        ("recipes: digits-quick\ngrid: {a: [1]}\nzip: {a: [1]}", "more than one of"),
        ("recipes: digits-quick\nset: {a: 1}\ngrid: {a: [1]}", "stands in set, too"),
        (
            'recipes: digits-quick\nset: {prune.ratios: {"*": "{ratoi}"}}\ngrid: {ratio: [0.1]}',
            "did you mean 'ratio'",
        ),
        ("recipes: digits-quick\ndevice: gpu", "a device is auto, cpu, cuda"),
        ("recipes: digits-quick\nset: 5", "set"),
        (
            'recipes: digits-quick\nset: {retrain.epochs: "{epochs}"}\ngrid: {epochs: [1, 2]}',
            "epochs is a column of the table",
        ),
        ("recipes: digits-quick\ngrid: {retrain.lr: [2024-01-01]}", "retrain.lr"),
        ("recipes: digits-quik", "did you mean 'digits-quick'"),
        ("recipes: digits-quick\ngrid: {retrain.lrr: [1]}", "retrain.lrr"),
        ("recipes: digits-quick\ndata: nowhere", "no data 'nowhere'"),
        ("- 1", "must hold keys and values"),
        ("recipes: {", "is not YAML"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(tmp_path, told, text, said):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises((ValueError, OSError), match=said.replace("{", r"\{")):
        run_sweep(path, out=tmp_path / "runs", workers=1)
    assert not begun(told)


def test_an_unknown_sweep_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'digits-small'"):
        load_sweep("digits-smal")
    with pytest.raises(FileNotFoundError, match="there is no sweep file"):
        load_sweep("nothing.yaml")
    with pytest.raises(ValueError, match="key=value"):
        load_sweep("digits-small", ["epochs"])


def test_finished_points_are_not_run_again(small, told, tmp_path):
    points = run_sweep(small, out=tmp_path, workers=1)
    assert set(points["state"]) == {"done"}
    assert len(begun(told)) == 10
    assert begun(told)[:2] == ["digits-quick-baseline-0", "digits-quick-baseline-1"]
    assert run_sweep(small, out=tmp_path, workers=1).equals(points)
    assert len(begun(told)) == 10
    # another seed: only its points
    more = small.model_copy(update={"seeds": (0, 1, 2)})
    assert len(run_sweep(more, out=tmp_path, workers=1)) == 15
    assert len(begun(told)) == 15


def test_a_failing_point_is_told_and_the_others_go_on(small, told, tmp_path):
    bad = "digits-quick,ratio=0.2,lr=0.1,epochs=1-0"
    (told / f"fail-{bad}").touch()
    points = run_sweep(small, out=tmp_path, workers=1).set_index(["point", "seed"])
    failed = points[points["state"] == "failed"]
    assert len(failed) == 1
    assert failed["error"].iloc[0] == "ValueError: it was told to"
    assert failed["notebook"].iloc[0].endswith("its.ipynb")
    (told / f"fail-{bad}").unlink()
    assert set(run_sweep(small, out=tmp_path, workers=1)["state"]) == {"done"}
    assert begun(told).count(bad) == 2
    assert len(begun(told)) == 11


def test_a_point_that_fails_anew_is_not_shown_as_done(small, told, tmp_path):
    """What its folder has of other settings is not what came of it."""
    run_sweep(small, out=tmp_path, workers=1)
    bad = "digits-quick,ratio=0.2,lr=0.1,epochs=1-0"
    (told / f"fail-{bad}").touch()
    other = small.model_copy(update={"settings": {**small.settings, "retrain.momentum": 0.5}})
    points = run_sweep(other, out=tmp_path, workers=1)
    assert points["state"].value_counts().to_dict() == {"done": 9, "failed": 1}
    assert begun(told).count(bad) == 2


def test_recipes_of_one_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("digits-quick.yaml").write_text("extends: resnet56\n")
    Path("sweep.yaml").write_text("recipes: [digits-quick.yaml, digits-quick]\n")
    with pytest.raises(ValueError, match="two recipes are called digits-quick"):
        make_points(load_sweep("sweep.yaml"), tmp_path / "runs")


def test_a_recipe_that_is_edited_is_another_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").write_text("recipes: mine.yaml\n")
    for epochs in (1, 2):
        Path("mine.yaml").write_text(f"extends: digits-quick\nretrain: {{epochs: {epochs}}}\n")
        (point,) = make_points(load_sweep("sweep.yaml"), tmp_path / "runs")
        assert point.load(tmp_path / "runs").retrain.epochs == epochs
    assert len(list((tmp_path / "runs" / "recipes").iterdir())) == 2


def test_a_relative_folder_is_the_same_for_workers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Place("runs/small").address == str(tmp_path / "runs" / "small")


def test_what_waits_for_a_baseline_that_failed_fails_with_it(small, told, tmp_path):
    (told / "fail-digits-quick-baseline-0").touch()
    run = CliRunner().invoke(
        app, ["sweep", _write(tmp_path, small), "--out", str(tmp_path / "o"), "--workers", "1"]
    )
    assert run.exit_code == 1
    assert run.output.count("its baseline, digits-quick-baseline-0, failed") >= 4
    points = read_sweep(tmp_path / "o" / "small")
    assert points["state"].value_counts().to_dict() == {"done": 5, "failed": 5}


def _write(tmp_path: Path, sweep) -> str:
    return str(tmp_path / "small.yaml")


def test_a_kernel_that_ended_is_begun_again_so_many_times(small, told, tmp_path, monkeypatch):
    monkeypatch.setattr(in_order, "run_point", dies_twice)
    points = run_sweep(small, out=tmp_path, workers=1, retries=1)
    assert set(points["state"]) == {"failed"}  # the baselines, and the others need them
    assert points["error"].value_counts()["the kernel ended"] == 2
    for count in told.glob("count-*"):
        count.unlink()
    assert set(run_sweep(small, out=tmp_path, workers=1, retries=2)["state"]) == {"done"}


def test_one_sweep_at_a_time_in_a_folder(small, told, tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path / "small")], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(Held, match=f"process {other.pid} on"):
        run_sweep(small, out=tmp_path, workers=1)
    other.kill()
    other.wait()
    assert set(run_sweep(small, out=tmp_path, workers=1)["state"]) == {"done"}


_HOLD = """
import sys, time
from pathlib import Path
from prunelab.utils.ownership import own
own(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_a_dry_run_shows_the_work_and_runs_nothing(small, told, tmp_path):
    def show() -> str:
        path, out = _write(tmp_path, small), str(tmp_path / "o")
        run = CliRunner().invoke(app, ["sweep", path, "--dry-run", "--out", out])
        assert run.exit_code == 0, run.output
        return run.output

    assert "10 points: 10 waiting" in show()
    assert "was not measured here yet" in show()
    assert not begun(told)
    (told / "fail-digits-quick,ratio=0.4,lr=0.01,epochs=2-1").touch()
    run_sweep(small, out=tmp_path / "o", workers=1)
    assert "9 done, 1 failed" in show()
    assert "of training on one worker, by what replays took here" in show()


def test_work_is_what_a_hand_counts(tmp_path):
    board = open_board(load_sweep("table1-cifar"), tmp_path)
    images = 45_000  # of 50,000, less a tenth for validation
    vgg, small = 313_463_808, 206_279_680
    assert board.work["vgg16-0"].flops == 3 * images * 160 * vgg
    assert board.work["vgg16-0"].epochs == 160
    # its baseline is vgg16's; retrained for 40 epochs, and the whole network as long
    assert board.work["vgg16-pruned-a-0"].flops == 3 * images * 40 * (small + vgg)
    assert board.work["vgg16-pruned-a-scratch-0"].flops == 3 * images * 160 * small


def test_over_seeds_and_the_front(small, told, tmp_path):
    points = run_sweep(small, out=tmp_path, workers=1)
    assert find_settings(points) == ["ratio", "retrain.lr", "retrain.epochs"]
    points.loc[points["seed"] == 1, "test_accuracy"] = 0.8
    compared = compare_points(points)
    assert set(compared["n"]) == {2}
    assert compared[["error_low", "error", "error_high"]].iloc[0].round(6).tolist() == [
        0.1,
        0.15,
        0.2,
    ]
    assert compared["on_front"].sum() == 1
    single = compare_points(points[points["seed"] == 0])
    assert (single["error_low"] < single["error"]).all()
    assert (single["error"] < single["error_high"]).all()
    assert len(compare_points(points[points["state"] == "failed"])) == 0
    own_csv = tmp_path / "small" / "points.csv"
    assert len(read_sweep(own_csv)) == 10
    with pytest.raises(FileNotFoundError, match="there is no sweep in"):
        read_sweep(tmp_path)


def test_kept_in_memory(small, told):
    points = run_sweep(small, out="memory://sweeps", workers=1)
    assert set(points["state"]) == {"done"}
    there = Place("memory://sweeps/small")
    assert "rows.csv" in {path.rpartition("/")[2] for path in there._fs.find("/sweeps/small")}
    assert run_sweep(small, out="memory://sweeps", workers=1).equals(points)
    assert len(begun(told)) == 10
    with pytest.raises(ValueError, match="seen by one process alone"):
        run_sweep(small, out="memory://sweeps", workers=2)


def test_an_address_without_its_package_says_which(small):
    with pytest.raises(ValueError, match="nowhere://sweeps/small cannot be used"):
        run_sweep(small, out="nowhere://sweeps")


@pytest.mark.slow
def test_a_batch_scheduler_stops_it_and_it_saves(tmp_path):
    """SIGTERM, to all its processes."""
    out = tmp_path / "o"
    command = [sys.executable, "-m", "prunelab", "sweep", "digits-small", "--out", str(out)]
    command += ["--workers", "1", "--set", "baseline.epochs=50"]
    here = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    run = subprocess.Popen(command, stdout=pipe, stderr=pipe, env=here, start_new_session=True)
    try:
        own_log = out / "digits-small" / "digits-quick-baseline-0" / "log.jsonl"
        deadline = time.monotonic() + 180
        while not own_log.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        os.killpg(run.pid, signal.SIGTERM)
        _, errors = run.communicate(timeout=100)
    finally:
        run.kill()
    assert run.returncode == 143, errors
    assert b"8 points: 8 waiting; the same command goes on from there" in errors
    folder = own_log.parent
    assert (folder / "baseline.safetensors").exists()
    assert not (folder / ".owner.json").exists()
    assert read_sweep(out / "digits-small")["state"].eq("waiting").all()
    about = json.loads((out / "digits-small" / "sweep.json").read_text())
    assert len(about["points"]) == 8
