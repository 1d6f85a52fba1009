"""How long a network really takes: measured on the machine at hand, networks in turns."""

import time
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import nn

from prunelab.data import pick_device


def measure_latency(
    model: nn.Module | Mapping[str, nn.Module],
    input_shape: Sequence[int],
    *,
    device: str | torch.device = "auto",
    batch: int = 1,
    repeats: int = 30,
    warm_up: int = 5,
) -> pd.DataFrame:
    """Milliseconds of one forward pass, a row for each model: model, batch, repeats, median_ms, low_ms, high_ms.

    model: one, or {name: model} to compare; these take turns, so that a busy machine slows all alike.
    input_shape: of one image, (3, 32, 32). low_ms and high_ms are the quartiles.
    On a GPU the time is taken between events, after `warm_up` passes. Models go there and back.
    """
    where = pick_device(device)
    models = dict(model) if isinstance(model, Mapping) else {"model": model}
    homes = {name: next(m.parameters()).device for name, m in models.items()}
    modes = {name: m.training for name, m in models.items()}
    images = torch.zeros(batch, *input_shape, device=where)
    times: dict[str, list[float]] = {name: [] for name in models}
    try:
        for m in models.values():
            m.to(where).eval()
        with torch.inference_mode():
            for turn in range(warm_up + repeats):
                for name, m in models.items():
                    milliseconds = _time_once(m, images)
                    if turn >= warm_up:
                        times[name].append(milliseconds)
    finally:
        for name, m in models.items():
            m.to(homes[name]).train(modes[name])
    rows = [
        (name, batch, repeats, *(float(torch.tensor(t).quantile(q)) for q in (0.5, 0.25, 0.75)))
        for name, t in times.items()
    ]
    return pd.DataFrame(rows, columns=["model", "batch", "repeats", "median_ms", "low_ms", "high_ms"])


def _time_once(model: nn.Module, images: torch.Tensor) -> float:
    if images.device.type != "cuda":
        started = time.perf_counter()
        model(images)
        return (time.perf_counter() - started) * 1000
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    model(images)
    end.record()
    end.synchronize()
    return start.elapsed_time(end)
