"""Fixtures of sweeps."""

from pathlib import Path

import pytest
from fake_points import run_fake

from prunelab.experiments.sweep import in_order, on_dask


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Points train nothing, and do what files here tell."""
    folder = tmp_path / "told"
    folder.mkdir()
    monkeypatch.setenv("PRUNELAB_FAKE", str(folder))
    for runner in (in_order, on_dask):
        monkeypatch.setattr(runner, "run_point", run_fake)
    return folder
