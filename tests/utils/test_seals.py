"""What was changed after it was written is known when it is read, whichever byte it was."""

import json
import random
import warnings

import pandas as pd
import pytest

from prunelab import read_rows, read_table, write_table
from prunelab.experiments import gather_rows
from prunelab.experiments.log import find_unlogged, read_log
from prunelab.measure.store import Store
from prunelab.utils.seals import append_line, open_line, read_note, seal_line, write_note

ROWS = pd.DataFrame(
    {
        "recipe": ["a", "a", 'b,"c"'],
        "kind": ["baseline", "retrained", "baseline"],
        "dataset": "digits",
        "seed": [0, 0, 12],
        "device": "cpu",
        "paper": [None, "vgg16", None],
        "test_accuracy": [0.1 + 0.2, 1 / 3, float("nan")],
        "epochs": [3, None, 2],
        "whole": [True, False, True],
    }
)
RECORDS = [{"kind": "baseline", "step": 0, "epoch": i, "loss": 0.1 * i} for i in (1, 2, 3)]


def damage(content: bytes, chance: random.Random) -> bytes:
    """One byte flipped, zeroed or replaced, or the end cut off."""
    place = chance.randrange(len(content))
    way = chance.choice(["flip", "zero", "replace", "cut"])
    if way == "cut":
        return content[:place]
    old = content[place]
    new = {"flip": old ^ 1 << chance.randrange(8), "zero": 0, "replace": chance.randrange(256)}[way]
    return content[:place] + bytes([new]) + content[place + 1 :]


def test_a_table_comes_back_as_it_was(tmp_path):
    path = tmp_path / "new" / "rows.csv"
    write_table(path, ROWS)
    again = read_table(path)
    assert set(again.pop("evidence")) == {"measured"}
    pd.testing.assert_frame_equal(again, ROWS, check_dtype=False)
    write_table(path, read_table(path))
    assert set(read_table(path)["evidence"]) == {"measured"}


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_table_is_known(tmp_path, seed):
    path = tmp_path / "rows.csv"
    write_table(path, ROWS)
    whole = path.read_bytes().splitlines()
    path.write_bytes(damage(path.read_bytes(), random.Random(seed)))
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = read_table(path)
    except ValueError as error:
        assert f"{path} is torn, or no table of ours" in str(error)  # noqa: PT017
        return
    good = found["evidence"] == "measured"
    assert len(told) == (not good.all())
    header, *lines = path.read_bytes().splitlines()
    if header == whole[0]:
        assert good.tolist() == [line in whole for line in lines]
    elif good.any():  # the name of the checksums alone was changed
        assert lines == whole[1:]


def test_a_changed_number_is_said_with_its_origin_and_stays_known(tmp_path):
    path, other = tmp_path / "rows.csv", tmp_path / "other.csv"
    write_table(path, ROWS)
    path.write_text(path.read_text().replace("0.3333", "0.9333"))
    words = r"line 3 \(a, retrained, digits, cpu, seed 0\) changed .* evidence no more"
    with pytest.warns(UserWarning, match=words):
        rows = read_rows(path)
    assert rows["evidence"].tolist() == ["measured", "changed", "measured"]
    gather_rows(rows, other)  # a copy makes no evidence of it
    with pytest.warns(UserWarning, match="retrained"):
        assert sorted(read_rows(other)["evidence"]) == ["changed", "measured", "measured"]
    gather_rows(ROWS[1:2], other)  # measured anew
    assert set(read_rows(other)["evidence"]) == {"measured"}


def test_a_table_of_an_older_version_or_of_someone_else(tmp_path):
    path = tmp_path / "rows.csv"
    ROWS.to_csv(path, index=False)
    assert set(read_rows(path)["evidence"]) == {"unsealed"}
    gather_rows(ROWS[:1], path)
    assert sorted(read_rows(path)["evidence"]) == ["measured", "unsealed", "unsealed"]
    for content in (b"", b"\n", b"\xff\xfe\0", b'a,b\n"1,2\n3,4'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"rows.csv is torn, or no table of ours"):
            read_table(path)


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_log_is_known_and_mended(tmp_path, seed):
    path = tmp_path / "log.jsonl"
    for record in RECORDS:
        append_line(path, record)
    path.write_bytes(damage(path.read_bytes(), random.Random(seed)))
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        found = read_log(tmp_path).to_dict("records")
        assert all(record in RECORDS for record in found)
        for row in find_unlogged(tmp_path, "baseline", 0, pd.DataFrame(RECORDS)):
            append_line(path, row)
        assert read_log(tmp_path).sort_values("epoch").to_dict("records") == RECORDS


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_store_is_known_and_measured_again(tmp_path, seed):
    path, about = tmp_path / "counts.jsonl", {"weights": "w", "seed": 0}
    counts = {("conv1", i, 0, 100): (90 - i, 0.1 * i) for i in range(4)}
    store = Store(path, about)
    for place, (correct, loss) in counts.items():
        store.add(place, correct, loss)
    path.write_bytes(damage(path.read_bytes(), random.Random(seed)))
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        store = Store(path, about)
        assert store.found.items() <= counts.items()
        for place in counts.keys() - store.found.keys():
            store.add(place, *counts[place])
        assert Store(path, about).found == counts


def test_a_changed_line_is_said():
    line = seal_line({"correct": 90, "loss": 1.5})
    assert open_line(line) == {"correct": 90, "loss": 1.5}
    assert open_line('{"correct": 90, "loss": 1.5}') == {"correct": 90, "loss": 1.5}  # an older one
    for changed in (line.replace("90", "91"), line.replace("check", "chekc")):
        with pytest.raises(ValueError, match="its checksum does not match"):
            open_line(changed)
    for torn in (line[:-1], line[3:], "[" * 100_000, "[1]", ""):
        assert open_line(torn) is None


def test_notes(tmp_path):
    path = tmp_path / "run.json"
    about = {"seed": 0, "recipe": {"lr": 0.1, "ratios": {"é": [1, None]}}}
    write_note(path, about)
    assert read_note(path) == about
    path.write_text(json.dumps(about))
    assert read_note(path) == about  # of an older version
    write_note(path, about)
    whole = path.read_bytes()
    for content, words in [
        (whole.replace(b"0.1", b"0.2"), "was changed after it was written"),
        (whole[:40], "is torn, or no JSON"),
        (b"\xff", "is torn, or no JSON"),
        (b"[" * 100_000, "is torn, or no JSON"),
        (b"[1]", "holds a list and no keys"),
    ]:
        assert content != whole
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"run.json {words}.*move it away"):
            read_note(path)


def test_a_log_that_an_editor_saved_with_other_line_ends(tmp_path):
    path = tmp_path / "log.jsonl"
    for record in RECORDS:
        append_line(path, record)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_log(tmp_path).to_dict("records") == RECORDS
    path.write_bytes(path.read_bytes().replace(b'"epoch": 1', b'"epoch": 7'))
    with pytest.warns(UserWarning, match="line 1 of .* was changed"):
        assert read_log(tmp_path).to_dict("records") == RECORDS[1:]


def test_frames_of_any_kind(tmp_path):
    path = tmp_path / "t.csv"
    frame = pd.DataFrame({"text": ["a\r\nb", 'c,"d"', "é"], "digits": [12345678, 23456789, 3]})
    write_table(path, frame)
    assert read_table(path).drop(columns="evidence").equals(frame)
    frame.to_csv(path, index=False)  # eight digits are no checksum
    again = read_table(path)
    assert (list(again.columns), set(again["evidence"])) == (
        ["text", "digits", "evidence"],
        {"unsealed"},
    )
    for odd in (frame.assign(check=1), pd.DataFrame()):
        with pytest.raises(ValueError, match="a table has columns, and none is called check"):
            write_table(path, odd)
