"""Tables of pictures: what they may hold, and what is said of those that are wrong."""

import sys

import pandas as pd
import pytest
import torch
from small import make_folder

from prunelab import load_data
from prunelab.data import check_source


@pytest.fixture
def table(folder):
    """A frame of the pictures in `folder / train`, 12 of each class, beside which it is written."""
    files = sorted((folder / "train").glob("*/*.png"))
    paths = [str(file.relative_to(folder)) for file in files]
    return pd.DataFrame({"path": paths, "label": [file.parent.name for file in files]})


def write(folder, table, name="pictures.csv"):
    path = folder / name
    if name.endswith(".csv"):
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return path


@pytest.mark.parametrize("name", ["pictures.csv", "pictures.parquet"])
def test_table(folder, table, name):
    path = write(folder, table, name)
    data = load_data(path, device="cpu", val_fraction=0.2)
    assert data.name == "pictures"
    assert data.classes == ("cats", "dogs")
    assert (len(data.train), len(data.val), len(data.test)) == (16, 4, 4)
    assert data.test.labels.bincount().tolist() == [2, 2]
    plain = load_data(folder / "train", device="cpu", val_fraction=0.2)
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(data, part).images, getattr(plain, part).images)
    other = load_data(path, device="cpu", val_fraction=0.2, seed=1)
    assert torch.equal(other.test.images, data.test.images)


def test_a_split_is_kept(folder, table):
    table["split"] = ["train"] * 6 + ["val"] * 4 + ["test"] * 2 + ["train"] * 12
    data = load_data(write(folder, table), device="cpu")
    assert (len(data.train), len(data.val), len(data.test)) == (18, 4, 2)
    assert data.test.labels.tolist() == [0, 0]  # dogs are not tested
    table["split"] = ["train"] * 10 + ["val"] * 2 + ["train"] * 12
    data = load_data(write(folder, table), device="cpu", val_fraction=0.2)
    assert (len(data.train), len(data.val), len(data.test)) == (18, 4, 2)


def test_paths_may_be_absolute_and_pictures_large(tmp_path, table):
    large = make_folder(tmp_path / "large", (90, 70))
    table["path"] = [str(large / path) for path in table["path"]]
    data = load_data(write(tmp_path, table), device="cpu", image_size=70)
    assert data.train.files[0] in table["path"].tolist()
    assert next(data.train.batches(2))[0].shape == (2, 3, 70, 70)


@pytest.mark.parametrize("size", [None, 70])
def test_fingerprints_tell_labels_and_splits_apart(folder, table, size):
    def load(**columns):
        return load_data(write(folder, table.assign(**columns)), image_size=size, device="cpu")

    split = ["train"] * 10 + ["test"] * 2 + ["train"] * 12
    swapped = table["label"].tolist()
    swapped[0], swapped[12] = swapped[12], swapped[0]
    loaded = [load(), load(label=swapped), load(split=split), load(split=split[2:] + split[:2])]
    assert len({data.fingerprint for data in loaded}) == 4
    assert load().fingerprint == loaded[0].fingerprint


def test_labels_are_text_as_it_is_written(folder, table):
    names = ["01", "1", "NA", "None"]
    table["label"] = [names[i % 4] for i in range(24)]
    assert load_data(write(folder, table), device="cpu").classes == ("01", "1", "NA", "None")
    table["label"] = [str(i % 3 * 5) for i in range(24)]
    assert load_data(write(folder, table), device="cpu").classes == ("0", "5", "10")
    table["label"] = [i % 3 * 5 for i in range(24)]
    path = write(folder, table, "pictures.parquet")
    assert load_data(path, device="cpu").classes == ("0", "5", "10")


def test_a_byte_order_mark_and_a_suffix_in_capitals(folder, table):
    path = folder / "PICTURES.CSV"
    path.write_bytes(b"\xef\xbb\xbf" + table.to_csv(index=False).encode())
    assert check_source(path) == str(path)
    assert len(load_data(path, device="cpu").classes) == 2


def change(table, row, **cells):
    return table.assign(**{k: [*table[k][:row], v, *table[k][row + 1 :]] for k, v in cells.items()})


WRONG = {
    "no column 'path'; did you mean 'paths'. It has paths, label": lambda t: t.rename(
        columns={"path": "paths"}
    ),
    "no column 'label'. It has path, y; it needs path and label": lambda t: t.rename(
        columns={"label": "y"}
    ),
    "has an empty label in row 4 .1 in all": lambda t: change(t, 3, label=" "),
    "has an empty path in row 1 ": lambda t: change(t, 0, path=""),
    "has no rows": lambda t: t.head(0),
    r"holds one class only \(cats\)": lambda t: t.head(12),
    "unknown split in pictures.csv 'valid'; did you mean 'val'. Known: train, val, test": (
        lambda t: t.assign(split=["train"] * 20 + ["valid"] * 4)
    ),
    "has no rows whose split is train": lambda t: t.assign(split="test"),
    "has classes in test that train lacks: dogs": lambda t: t.assign(
        split=["train"] * 6 + ["test"] * 18, label=["cats", "owls"] * 6 + ["dogs"] * 12
    ),
    "3 images of a class or more, and there are fewer of dogs": lambda t: t.head(14),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_wrong_tables(folder, table, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_data(write(folder, WRONG[sentence](table)))


def test_missing_pictures(folder, table):
    table["path"] = [f"no/{i}.png" if i < 5 else path for i, path in enumerate(table["path"])]
    sentence = r"5 of 24 pictures that .*pictures.csv names are missing: \S*no/0.png, .*2.png …; "
    with pytest.raises(FileNotFoundError, match=sentence):
        load_data(write(folder, table))


def test_files_that_are_no_tables(folder, table, monkeypatch):
    path = folder / "pictures.csv"
    for content, sentence in (
        (b"", "cannot be read as a table"),
        (b"path,label\ncaf\xe9.png,cats\n", "is not UTF-8"),
        (b"path,label\na.png,cats,dogs\n", "cannot be read as a table"),
        (b"path,label\na.png\n", "has an empty label in row 1"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"pictures.csv {sentence}"):
            load_data(path)
    parquet = folder / "pictures.parquet"
    parquet.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"pictures.parquet cannot be read as a table"):
        load_data(parquet)
    with pytest.raises(FileNotFoundError, match="nor a folder or table of images"):
        load_data(folder / "train" / "cats" / "0.png")

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match="pip install pyarrow"):
        load_data(parquet)
