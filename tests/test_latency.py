import time

import pytest
import torch
from torch import nn

from prunelab import load_model, measure_latency


class Sleeps(nn.Module):
    def __init__(self, milliseconds):
        super().__init__()
        self.weight, self.seconds = nn.Parameter(torch.zeros(1)), milliseconds / 1000

    def forward(self, x):
        time.sleep(self.seconds)
        return x


def test_it_measures_milliseconds_in_turns():
    found = measure_latency(
        {"slow": Sleeps(8), "fast": Sleeps(2)}, (3, 8, 8), device="cpu", batch=2, repeats=5
    ).set_index("model")
    assert found.loc["fast", "median_ms"] == pytest.approx(2, rel=0.8)
    assert found.loc["slow", "median_ms"] > found.loc["fast", "median_ms"]
    assert (found["low_ms"] <= found["high_ms"]).all()
    assert set(found["batch"]) == {2}


def test_the_model_stays_as_it_was():
    model = load_model("resnet20").train()
    before = model.bn1.running_mean.clone()
    assert len(measure_latency(model, (3, 32, 32), device="cpu", repeats=2)) == 1
    assert model.training
    assert torch.equal(model.bn1.running_mean, before)
