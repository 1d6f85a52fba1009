import errno
import json
from pathlib import Path

import pytest
import torch

from prunelab.utils import tensors as module
from prunelab.utils.tensors import read_tensors, write_tensors, write_whole


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = write_tensors(tmp_path / "t.safetensors", {"a": torch.ones(3)}, {})

    def fill(tensors, temporary, about):
        with open(temporary, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "save_file", fill)
    with pytest.raises(
        OSError,
        match=r"was not written .*No space left on device.*what was there before is untouched",
    ):
        write_tensors(path, {"a": torch.zeros(3)}, {})
    assert torch.equal(read_tensors(path)[0]["a"], torch.ones(3))
    assert [p.name for p in tmp_path.glob("*t.safetensors*")] == ["t.safetensors"]


def test_really_full_disk(tmp_path):
    with pytest.raises(OSError, match="was not written"):
        write_whole(tmp_path / "file", lambda _: Path("/dev/full").write_bytes(b"x") and None)


def test_shared_tensors(tmp_path):
    weight = torch.arange(6.0)
    path = write_tensors(tmp_path / "t", {"a": weight, "b": weight}, {"x": [1]})
    tensors, header = read_tensors(path)
    assert torch.equal(tensors["a"], tensors["b"])
    assert header == json.loads('{"x": [1]}')


def test_parts_of_one_tensor(tmp_path):
    weight = torch.arange(6.0)
    path = write_tensors(tmp_path / "t", {"a": weight[:4], "b": weight[2:]}, {})
    assert torch.equal(read_tensors(path)[0]["b"], weight[2:])


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(3, device="meta"), "a must be a plain tensor; it is on the device meta"),
        (torch.eye(3).to_sparse(), r"it is sparse or nested: to_dense\(\) makes a plain one"),
        (torch.eye(3, dtype=torch.complex128), "hold no tensors of torch.complex128"),
    ],
)
def test_tensors_without_plain_numbers_are_not_written(tmp_path, tensor, words):
    with pytest.raises(ValueError, match=words):
        write_tensors(tmp_path / "t", {"a": tensor}, {})
    assert not list(tmp_path.iterdir())


def test_a_header_that_could_not_be_read_is_not_written(tmp_path):
    loop = {}
    loop["loop"] = loop
    for header, words in [
        ({"a": object()}, "must be plain JSON values"),
        (loop, "must be plain JSON values"),
        ({"rows": 5}, "'rows' must be a valid list"),
        ({"training": {"epochs": 1}}, "has no rows of its training's epochs"),
    ]:
        with pytest.raises(ValueError, match=words):
            write_tensors(tmp_path / "t", {}, header)
    assert not list(tmp_path.iterdir())


def test_diverged_rows_are_kept(tmp_path):
    rows = [{"epoch": 1, "train_loss": float("nan")}]
    header = {"training": {"epochs": 1}, "rows": rows}
    path = write_tensors(tmp_path / "t", {"a": torch.ones(1)}, header)
    assert str(read_tensors(path)[1]["rows"]) == str(rows)
