from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def data_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunelab.data.datasets.data_dir", lambda: tmp_path / "data")
