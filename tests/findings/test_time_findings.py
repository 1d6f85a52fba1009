"""What is said of measured times is what the frame says."""

import pandas as pd
import pytest

from prunelab import findings, read_paper


def turns(model, middle, flops, spread=0.02, whole=10.0, **where):
    """A row of `time_recipes`; the whole network takes 10 ms and computes 100."""
    row = {"recipe": "vgg16-pruned-a", "model": model, "batch": 1, "format": "contiguous"}
    row |= {"runtime": "torch", "repeats": 5, "median_ms": middle, "flops": flops}
    row |= {"low_ms": middle * (1 - spread), "high_ms": middle * (1 + spread)}
    row |= {"time_left": middle / whole, "flops_left": flops / 100}
    return row | {"device": "cpu", "threads": 2, "torch": "2"} | where


@pytest.mark.parametrize(
    ("middle", "spread", "said"),
    [
        (5.0, 0.02, "more time than multiply-adds is saved by vgg16-pruned-a (50 % for 30 %)"),
        (7.0, 0.02, "about as much time as multiply-adds is saved by vgg16-pruned-a (30 % for"),
        (9.0, 0.02, "less time than multiply-adds is saved by vgg16-pruned-a (10 % for 30 %)"),
        (12.0, 0.02, "no time is saved by vgg16-pruned-a (−20 % for 30 %)"),
        (9.0, 0.4, "the turns differ too much to tell of vgg16-pruned-a"),
    ],
)
def test_savings_go_by_the_quartiles(middle, spread, said):
    frame = pd.DataFrame([turns("whole", 10.0, 100), turns("pruned", middle, 70, spread)])
    assert f"**one image, contiguous**: {said}" in findings.describe_savings(frame)


def test_savings_of_a_single_network():
    frame = pd.DataFrame([turns("whole", 10.0, 100), turns("small", 9.0, 70)])
    frame = frame.drop(columns=["recipe", "device", "threads", "torch"])
    assert "by the pruned network (10 % for 30 %)" in findings.describe_savings(frame)
    assert findings.describe_clock(frame) == "the pruned network: the median of 5 turns."
    assert findings.describe_alignment(frame) == ""
    assert findings.describe_runtimes(frame) == ""


def test_alignment_counts_what_the_quartiles_keep_apart():
    label = "pruned, aligned to 8"
    times = {1: (8.0, 6.0), 2: (8.0, 9.0), 4: (8.0, 8.1)}
    rows = []
    for batch, (plain, aligned) in times.items():
        rows += [turns("whole", 10.0, 100, batch=batch), turns("pruned", plain, 70, batch=batch)]
        rows += [turns(label, aligned, 80, batch=batch)]
    said = findings.describe_alignment(pd.DataFrame(rows))
    assert said == (
        "**vgg16-pruned-a, pruned, aligned to 8** gives back 10.0 % of the multiply-adds; of 3 "
        "measurements, 1 without a difference, 1 faster (one image, contiguous: 8 → 6 ms) and 1 "
        "slower (2 images, contiguous: 8 → 9 ms)."
    )


def test_a_network_that_is_aligned_already_shows_the_noise():
    rows = [turns("whole", 10.0, 100), turns("pruned", 8.0, 70)]
    rows += [turns("pruned, aligned to 8", 6.0, 70)]
    assert "differs by up to 25.0 %" in findings.describe_alignment(pd.DataFrame(rows))


def test_runtimes():
    rows = [turns("whole", 10.0, 100), turns("pruned", 8.0, 70)]
    rows += [turns("whole", 4.0, 100, runtime="onnxruntime")]
    rows += [turns("pruned", 16.0, 70, runtime="onnxruntime")]
    said = findings.describe_runtimes(pd.DataFrame(rows))
    assert said == "**vgg16-pruned-a**: torch takes 0.5 to 2.5 times as long as onnxruntime."
    assert findings.describe_runtimes(pd.DataFrame(rows[:2])) == ""
    alone = pd.DataFrame([rows[0], rows[2]])
    assert "torch takes 2.5 times as long" in findings.describe_runtimes(alone)


def test_beside_the_papers_table():
    stored = findings.read_times()
    table = findings.compare_times(stored, read_paper(table=3))
    printed = table.loc["time, paper: 128 images, GPU"]
    assert dict(printed) == {
        "vgg16-pruned-a": 40.7,
        "resnet56-pruned-b": 24.4,
        "resnet110-pruned-b": 21.8,
    }
    for name in ("multiply-adds, paper", "multiply-adds, ours"):
        assert (table.loc[name] - table.loc["multiply-adds, paper"]).abs().max() < 0.11
    row = stored.query("recipe == 'vgg16-pruned-a' and model == 'pruned' and batch == 128")
    row = row[row["format"] == "contiguous"]
    ours = table.loc["time, ours: 128 images, contiguous", "vgg16-pruned-a"]
    assert ours == pytest.approx(100 * (1 - row["time_left"].item()), abs=0.06)
    mine = stored[stored["recipe"] == "vgg16-pruned-a"].assign(recipe="mine")
    assert (
        findings.compare_times(mine, read_paper(table=3)).loc["multiply-adds, paper"].isna().all()
    )
    assert "cpu, 2 threads" in findings.describe_clock(stored)
