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
