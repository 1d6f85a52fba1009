import json
import subprocess
import sys

import pytest

from prunelab.measure.store import Store

ABOUT = {"weights": "w", "data": "d", "seed": 0}
A, B, C = ("conv1", 3, 0, 100), ("conv1", 3, 100, 200), ("conv2", 1, 0, 100)


def test_what_was_added_is_found_again(tmp_path):
    path = tmp_path / "new" / "counts.jsonl"
    store = Store(path, ABOUT)
    store.add(A, 90, 12.345678901234567)
    store.add(B, 80, float("inf"))
    assert Store(path, ABOUT).found == {A: (90, 12.345678901234567), B: (80, float("inf"))}
    assert [json.loads(line)["weights"] for line in path.read_text().splitlines()] == ["w", "w"]


def test_others_counts_are_left_alone(tmp_path):
    path = tmp_path / "counts.jsonl"
    Store(path, ABOUT).add(A, 90, 1.0)
    other = Store(path, {**ABOUT, "seed": 1})
    assert other.found == {}
    other.add(A, 50, 2.0)
    assert Store(path, ABOUT).found == {A: (90, 1.0)}


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_torn_last_line_loses_that_line_alone(tmp_path, kept):
    path = tmp_path / "counts.jsonl"
    store = Store(path, ABOUT)
    store.add(A, 90, 1.0)
    whole = path.read_bytes()
    store.add(B, 80, 2.0)
    torn = path.read_bytes()[len(whole) :][:-1]
    path.write_bytes(whole + torn[:kept])
    again = Store(path, ABOUT)
    assert again.found == {A: (90, 1.0)}
    again.add(C, 70, 3.0)
    assert Store(path, ABOUT).found == {A: (90, 1.0), C: (70, 3.0)}


WRITER = """
import sys
from prunelab.measure.store import Store
store = Store(sys.argv[1], {"writer": sys.argv[2]})
for i in range(2000):
    store.add(("conv1", i, 0, 100), i % 100, 0.5)
"""


def test_two_writers_at_once(tmp_path):
    path = tmp_path / "counts.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    for name in "ab":
        assert len(Store(path, {"writer": name}).found) == 2000


def test_without_a_file_counts_stay_in_memory():
    store = Store(None, ABOUT)
    store.add(A, 1, 1.0)
    assert store.found == {A: (1, 1.0)}


def test_a_file_of_something_else_is_refused_and_untouched(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("layer,ratio\n" + "conv_1,0.5\n" * 200)
    with pytest.raises(ValueError, match="is not a store of measurements"):
        Store(path, ABOUT)
    small = tmp_path / "settings.json"
    small.write_text('{\n "x": 1\n}')
    with pytest.raises(ValueError, match="is not a store of measurements"):
        Store(small, ABOUT)
    sentence = r"a store cannot be made at .*table.csv/counts.jsonl: .*; name another file"
    with pytest.raises(ValueError, match=sentence):
        Store(path / "counts.jsonl", ABOUT)
    with pytest.raises(ValueError, match=r"is a folder; a store is a file"):
        Store(tmp_path, ABOUT)
    assert path.read_text().startswith("layer,ratio")


@pytest.mark.parametrize(
    "wrong", [{"correct": None}, {"correct": 101}, {"layer": ["a"]}, {"loss": "x"}, {"start": 0.5}]
)
def test_a_line_with_a_wrong_value_is_passed_over(tmp_path, wrong):
    path = tmp_path / "counts.jsonl"
    Store(path, ABOUT).add(A, 90, 1.0)
    line = json.loads(path.read_text())
    path.write_text(path.read_text() + json.dumps({**line, "layer": "conv9", **wrong}) + "\n")
    assert Store(path, ABOUT).found == {A: (90, 1.0)}
