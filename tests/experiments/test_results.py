import pandas as pd
import pytest

from prunelab import compare_with_paper, load_recipe, read_log, read_paper, read_rows
from prunelab.experiments import Finished, gather_rows
from prunelab.experiments.log import find_unlogged

SAME = {"recipe": "vgg16-pruned-a", "paper": "vgg16-pruned-a", "dataset": "CIFAR-10 (JPEG)"}
SAME |= {"device": "cpu", "epochs": 40, "start": "trained", "flops": 2.06e8, "params": 5.4e6}
SAME |= {"flops_removed": 0.342, "params_removed": 0.64}


def row(kind, seed, accuracy, weights=None):
    own = {"kind": kind, "seed": seed, "weights": weights or f"{kind}{seed}"}
    return {**SAME, **own, "test_accuracy": accuracy, "test_accuracy_best": accuracy + 0.01}


def test_rows_replace_those_of_the_same_run(tmp_path):
    path = tmp_path / "r.csv"
    gather_rows(pd.DataFrame([row("baseline", 0, 0.9), row("retrained", 0, 0.8)]), path)
    gather_rows(pd.DataFrame([row("retrained", 0, 0.85), row("retrained", 1, 0.87)]), path)
    rows = read_rows(path, tmp_path / "none.csv")
    assert len(rows) == 3
    assert rows.set_index(["kind", "seed"]).loc[("retrained", 0), "test_accuracy"] == 0.85
    assert read_rows(tmp_path / "none.csv").empty
    run = tmp_path / "run.csv"  # the same, run again, to other weights: not a second sample
    gather_rows(pd.DataFrame([row("retrained", 0, 0.86, weights="other")]), run)
    rows = read_rows(path, run)
    assert len(rows) == 3
    assert rows.set_index(["kind", "seed"]).loc[("retrained", 0), "test_accuracy"] == 0.86


def test_beside_the_paper():
    baselines = [row("baseline", seed, 0.92) for seed in (0, 1)]
    others = [row("retrained", 0, 0.91), row("retrained", 1, 0.93), row("scratch-E", 0, 0.9)]
    rows = pd.DataFrame(baselines + others)
    table = compare_with_paper(rows, read_paper()).set_index("network")
    assert table.loc["retrained", "n"] == 2
    assert table.loc["retrained", "error %"] == "8.00 ± 1.41"
    assert table.loc["retrained", "best %"] == "7.00 ± 1.41"
    assert table.loc["retrained", "change"] == "0.00 ± 1.41"
    assert table.loc["baseline", "change"] == "0.00 ± 0.00"  # each seed beside its own
    assert list(table["paper's error %"]) == ["6.75", "6.60", "6.88"]
    assert table.loc["retrained", "paper removed %"] == "34.2"


def test_the_papers_tables_agree_with_themselves():
    with pytest.raises(ValueError, match="got table=4"):
        read_paper(4)
    pd.testing.assert_frame_equal(read_paper(), read_paper(table=1))
    assert read_paper(2).loc["conv_1", "maps"] == 64
    times = read_paper(3)
    shared = ["flops", "flops_pruned_percent"]
    pd.testing.assert_frame_equal(times[shared], read_paper().loc[times.index, shared])
    for name, row in times[times["seconds_saved_percent"].notna()].iterrows():
        whole = times.loc[name.partition("-")[0], "seconds"]
        assert round(100 * (1 - row["seconds"] / whole), 1) == row["seconds_saved_percent"]


def test_a_log_from_before_steps_were_counted(tmp_path):
    lines = [
        '{"kind": "baseline", "file": "baseline.safetensors", "epoch": 1}',
        '{"kind": "baseline", "step": 0, "epoch": 3}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    assert list(read_log(tmp_path)["epoch"]) == [1, 3]
    history = pd.DataFrame({"epoch": [1, 2, 3]})
    assert [row["epoch"] for row in find_unlogged(tmp_path, "baseline", 0, history)] == [2]
    assert len(find_unlogged(tmp_path, "retrained", 1, history)) == 3


def test_a_finished_run_whose_rows_were_changed_is_not_finished(tmp_path):
    run = Finished(tmp_path, load_recipe("digits-quick"), 0, "digits", "")
    gather_rows(read_rows()[:2], tmp_path / "rows.csv")
    assert not run.is_so()
    run.note()
    assert run.is_so()
    path = tmp_path / "rows.csv"
    path.write_text(path.read_text().replace("0.99", "0.98", 1))
    with pytest.warns(UserWarning, match="changed after it was written"):
        assert not run.is_so()
    path.write_text("x")
    assert not run.is_so()


def test_the_best_of_any_epoch_is_no_worse_than_the_last():
    """Training may count in bfloat16, and the last network is counted in float32."""
    rows = pd.DataFrame([row("baseline", 0, 0.92) | {"test_accuracy_best": 0.9199}])
    assert compare_with_paper(rows, read_paper())["best %"].item() == "8.00"


def test_a_change_is_that_of_the_same_seed():
    """Baselines that differ say nothing of what pruning costs."""
    pairs = [("baseline", 0, 0.90), ("retrained", 0, 0.89), ("baseline", 1, 0.94)]
    rows = pd.DataFrame([row(*pair) for pair in [*pairs, ("retrained", 1, 0.93)]])
    table = compare_with_paper(rows, read_paper()).set_index("network")
    assert table.loc["retrained", "change"] == "1.00 ± 0.00"
    alone = compare_with_paper(rows[rows["kind"] == "retrained"], read_paper())
    assert list(alone["change"]) == [""]
