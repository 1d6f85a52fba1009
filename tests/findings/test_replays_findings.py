"""What is said of replays is what their rows say."""

import pandas as pd
import pytest

from prunelab import findings, read_paper, read_rows

SAME = {"recipe": "resnet56-pruned-b", "paper": "resnet56-pruned-b", "model": "resnet56"}
SAME |= {"dataset": "cifar10", "device": "cpu", "seed": 0, "start": "trained", "n_test": 1000}
SAME |= {"flops_removed": 0.276}


def replay(**changes):
    """A replay in full; changes: {kind with _ for -: columns}, None leaves the network out."""
    rows = {
        "baseline": {"epochs": 160, "test_accuracy": 0.93, "flops_removed": 0},
        "pruned": {"epochs": 0, "test_accuracy": 0.7},
        "retrained": {"epochs": 40, "test_accuracy": 0.93},
        "continued": {"epochs": 40, "test_accuracy": 0.93, "flops_removed": 0},
        "scratch-E": {"epochs": 160, "test_accuracy": 0.9},
    }
    for kind, columns in changes.items():
        name = kind.replace("_", "-")
        rows[name] = None if columns is None else rows[name] | columns
    kept = {kind: row for kind, row in rows.items() if row is not None}
    return pd.DataFrame([SAME | {"kind": kind} | row for kind, row in kept.items()])


def test_all_rows_of_table_1_are_listed():
    table = findings.list_replayed(replay())
    assert list(table.index) == list(read_paper().index)
    stand = table[table["replayed"] == "in full"]
    assert list(stand.index) == ["resnet56", "resnet56-pruned-b", "resnet56-pruned-b-scratch"]
    assert list(stand["epochs"]) == ["160 of 160", "160 of 160, then 40 of 40", "160 of 160"]
    errors = ["7.00 (5.6–8.8)", "7.00 (5.6–8.8)", "10.00 (8.3–12.0)"]  # Wilson's of 1,000 images
    assert list(stand["error %"]) == errors
    assert list(stand["removed %"]) == ["", "27.6", "27.6"]
    assert list(stand["paper removed %"]) == ["", "27.6", ""]
    assert list(stand["paper's error %"]) == ["6.96", "6.94", "8.69"]
    said = findings.describe_standing(table)
    assert said.endswith(
        "3 in full, 0 in part, 0 weights of others and 12 not yet, of 15 (images: cifar10)."
    )


def test_a_row_stands_no_better_than_its_baseline():
    table = findings.list_replayed(replay(baseline={"epochs": 16}))
    assert table.loc["resnet56-pruned-b", "replayed"] == "in part"
    assert table.loc["resnet56-pruned-b", "epochs"] == "16 of 160, then 40 of 40"
    weights = findings.list_replayed(replay(baseline={"epochs": 0, "start": "w.th"}))
    assert weights.loc["resnet56", "replayed"] == "weights of others"
    assert weights.loc["resnet56-pruned-b", "replayed"] == "in part"
    alone = findings.list_replayed(replay(baseline=None))
    assert alone.loc["resnet56-pruned-b", "epochs"] == "no baseline, then 40 of 40"


def test_the_replay_with_the_most_epochs_stands_for_a_row():
    short = replay(baseline={"epochs": 16}, retrained={"test_accuracy": 0.5})
    both = pd.concat([short.assign(dataset="JPEG"), replay()])
    table = findings.list_replayed(both)
    assert table.loc["resnet56-pruned-b", "data"] == "cifar10"
    seeds = pd.concat([replay(), replay().assign(seed=1)])
    assert findings.list_replayed(seeds).loc["resnet56-pruned-b", "n"] == "2"
    seeds.loc[(seeds["seed"] == 1) & (seeds["kind"] == "retrained"), "test_accuracy"] = 0.92
    said = findings.describe_seeds(seeds)
    assert said.startswith("5 of 5 rows stand on several seeds, 2 at most.")
    for other in ("baseline", "continued"):
        assert f"**retrained** beside {other} +0.00 and +1.00, +0.50 on average;" in said
    assert len(said.splitlines()) == 2
    said = findings.describe_seeds(pd.concat([seeds, replay().assign(seed=2)]))
    # scipy.stats.ttest_1samp([0, 1, 0], 0).confidence_interval() is -1.101 to 1.768
    mean = "+0.33 on average (95 % over seeds −1.1 to +1.8)"
    assert f"**retrained** beside baseline +0.00, +1.00 and +0.00, {mean}" in said
    assert "(n is 1)" in findings.describe_seeds(replay())


def test_nothing_is_replayed_of_what_is_not_in_the_paper():
    own = replay().assign(recipe="mine", paper=None)
    assert (findings.list_replayed(own)["replayed"] == "not yet").all()
    said = findings.describe_runs(own)
    assert said.startswith("**mine on cifar10**, which is not in the paper. **baseline**")
    assert (findings.list_replayed(read_rows("nowhere"))["replayed"] == "not yet").all()
    assert findings.describe_runs(read_rows("nowhere")) == ""
    assert findings.describe_seeds(read_rows("nowhere")) == ""


def test_a_replay_in_full_differs_in_nothing():
    said = findings.describe_runs(replay())
    assert said.startswith("**resnet56-pruned-b on cifar10**, beside resnet56-pruned-b of Table 1.")
    assert "Retrained beside continued: no difference that 1,000 images show." in said
    assert "Retrained beside scratch-E: 3.0 points above" in said
    assert "No whole network" not in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"retrained": {"epochs": 5}}, "unlike there: retrained: 5 of 40 epochs."),
        ({"baseline": {"start": "w.th", "epochs": 0}}, "baseline: weights of w.th."),
        ({"retrained": {"test_accuracy": 0.99}, "continued": None}, "may be more training"),
    ],
)
def test_what_differs_is_said(changes, said):
    assert said in findings.describe_runs(replay(**changes))


def test_what_would_be_stale_is_not_said():
    other = replay(continued=None).assign(dataset="CIFAR-10 (JPEG)", seed=3)
    said = findings.describe_runs(other)
    assert "seed 3" in said
    assert "the images are CIFAR-10 (JPEG)" in said
    assert "more training" not in said  # nothing was won
    alone = findings.describe_runs(replay(baseline=None, retrained=None))
    assert "Retrained beside" not in alone


def test_counts_are_whole_images():
    rows = findings.count_right(replay(baseline={"test_accuracy": 0.9994999, "n_test": 359}))
    assert rows["correct"].iloc[0] == 359
    assert rows["total"].iloc[0] == 359


def split_scratch(rows: pd.DataFrame) -> pd.DataFrame:
    """The same, with the network from scratch in a recipe of its own, and the baseline in two."""
    scratch = rows["kind"].str.startswith("scratch")
    name = "resnet56-pruned-b-scratch"
    own = rows[scratch | (rows["kind"] == "baseline")].assign(recipe=name, paper=name)
    plain = rows[rows["kind"] == "baseline"].assign(recipe="resnet56", paper="resnet56")
    return pd.concat([plain, own, rows[~scratch]], ignore_index=True)


def test_a_network_from_scratch_stands_beside_the_retrained_one():
    """One line says all of a network, also where recipes of their own made parts of it."""
    apart, together = split_scratch(replay()), replay()
    assert findings.describe_runs(apart) == findings.describe_runs(together)
    changes = findings.list_changes(together)
    assert findings.list_changes(apart).equals(changes)
    other = findings.describe_runs(split_scratch(replay(baseline={"test_accuracy": 0.8})))
    assert len(other.splitlines()) == 1


def test_changes_are_those_of_the_baseline():
    changes = findings.list_changes(replay()).set_index(["kind", "whose"])["change"]
    assert changes.to_dict() == {
        ("retrained", "ours"): 0,
        ("retrained", "paper"): -0.02,  # 6.94 and 6.96
        ("continued", "ours"): 0,
        ("scratch-E", "ours"): 3,
        ("scratch-E", "paper"): 1.73,  # 8.69
    }
    bounds = findings.list_changes(replay()).query("kind == 'scratch-E' and whose == 'ours'")
    assert bounds["low"].item() < 3 < bounds["high"].item()
    seeds = pd.concat([replay(), replay(scratch_E={"test_accuracy": 0.91}).assign(seed=1)])
    found = findings.list_changes(seeds).query("kind == 'scratch-E' and whose == 'ours'")
    assert (found["change"].item(), found["n"].item()) == (2.5, 2)
    each = findings.list_changes(seeds).query("kind == 'scratch-E' and whose == 'seed'")
    assert list(each["change"]) == [3, 2]
    assert set(each["n"]) == {1}
    more = replay().query("kind == 'baseline'").assign(seed=1, test_accuracy=0.5)
    assert findings.list_changes(pd.concat([replay(), more])).equals(
        findings.list_changes(replay())
    )
    both = pd.concat([replay(), replay().assign(device="cuda")])
    assert set(findings.list_changes(both)["n"]) == {1}
    assert set(findings.list_replayed(both)["n"]) == {"", "1"}
    assert findings.list_changes(replay().query("kind == 'baseline'")).empty
    assert findings.list_changes(read_rows("nowhere")).empty


def test_another_baseline_makes_another_replay():
    apart = split_scratch(replay())
    own = (apart["recipe"] == "resnet56-pruned-b-scratch") & (apart["kind"] == "baseline")
    apart.loc[own, "test_accuracy"] = 0.7
    lines = findings.describe_runs(apart).splitlines()
    told = {line.partition(" on ")[0] for line in lines}
    assert told == {"**resnet56-pruned-b", "**resnet56-pruned-b-scratch"}
    alone = findings.describe_runs(replay().assign(recipe="mine-scratch", paper=None))
    assert alone.startswith("**mine-scratch on cifar10**")


def test_a_table_of_ones_own_may_lack_columns():
    rows = replay().drop(columns=["flops_removed", "paper"]).assign(recipe="mine")
    assert (findings.list_replayed(rows)["replayed"] == "not yet").all()
    assert set(findings.list_changes(rows)["network"]) == {"mine, cifar10"}
    assert findings.describe_runs(rows).startswith("**mine on cifar10**")
