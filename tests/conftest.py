"""Fixtures that the tests share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small import few, make_folder, shake
from torch import nn

from prunelab import DataSplits, load_data, load_model
from prunelab.experiments import rows


@pytest.fixture(autouse=True)
def runs_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNELAB_RUNS", str(tmp_path / "runs"))


@pytest.fixture(autouse=True)
def brief_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a report's times are is not looked at."""
    monkeypatch.setattr(rows, "TURNS", 1)


@pytest.fixture(scope="session")
def digits() -> DataSplits:
    return load_data("digits", device="cpu")


@pytest.fixture(scope="session")
def few_digits(digits: DataSplits) -> DataSplits:
    return few(digits)


@pytest.fixture
def make_model() -> Callable[..., nn.Module]:
    def make(name: str = "resnet20", **options: object) -> nn.Module:
        torch.manual_seed(0)
        return shake(load_model(name, **options))

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image folder of two classes, 12 training and 4 test images of 32×32 pixels each."""
    return make_folder(tmp_path / "images")
