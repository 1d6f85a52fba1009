"""How long a network really takes: measured here, networks in turns, beside what they compute."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from prunelab.export import open_converted
from prunelab.utils.checks import check_choice, check_whole
from prunelab.utils.devices import pick_device
from prunelab.utils.modules import CONVS, copy_with

FORMATS = ("contiguous", "channels_last")
RUNTIMES = ("torch", "onnxruntime")
ALIGNED = 8  # widths that are multiples of it fill vector registers and tensor cores


def measure_latency(
    model: nn.Module | Mapping[str, nn.Module],
    input_shape: Sequence[int],
    *,
    device: str | torch.device = "auto",
    batch: int = 1,
    channels_last: bool = False,
    runtime: str = "torch",
    repeats: int = 30,
    warm_up: int = 5,
    on_progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Milliseconds of one forward pass beside multiply-adds, for each model.

    Models take turns, so that a busy machine slows all alike. Copies are measured, in evaluation
    mode; on a GPU, the time is taken between events. In onnxruntime, each is first converted to
    ONNX, in memory, for this batch.

    Args:
        model: one, or {name: model} to compare with the first.
        input_shape: of one image, (3, 32, 32).
        device: where to measure: `auto`, `cpu`, `cuda`, ….
        batch: images in a forward pass.
        channels_last: the memory format of images and weights; else torch's contiguous one. Which
            is faster depends on the machine, and a pruned network may gain in one and not in the
            other.
        runtime: `torch`, or `onnxruntime` on the CPU, which runs the network on as many threads as
            torch and fuses its layers. It knows the contiguous format alone.
        repeats: turns that are measured.
        warm_up: turns before them that are not.
        on_progress: called with (turns done, turns in all) after each turn.

    Returns:
        A row for each model; columns model, batch, format, runtime, repeats, median_ms, low_ms,
        high_ms (quartiles), time_left (the time in fractions of the first model's, median over the
        turns), flops (multiply-adds for one image, counted by torch), flops_left, unaligned (convs
        whose width is no multiple of 8, which hardware computes no faster than the next one),
        where.

    Raises:
        ValueError: a batch or repeats below 1, no model, an input shape that it does not take, or
            a model, device or format that onnxruntime does not know.

    Example:
        >>> measure_latency({"whole": model, "pruned": small}, (3, 32, 32), batch=128)
    """
    check_whole("batch", batch)
    check_whole("repeats", repeats)
    check_whole("warm_up", warm_up, least=0)
    if not isinstance(model, nn.Module | Mapping):
        raise ValueError(
            f"measure_latency takes a model, or {{name: model}}, not a {type(model).__name__}"
        )
    where = _pick_place(runtime, device, channels_last)
    models = dict(model) if isinstance(model, Mapping) else {"model": model}
    if not models:
        raise ValueError("there is no model to measure: pass one, or {name: model}")
    memory = torch.channels_last if channels_last else torch.contiguous_format
    copies = {}
    for name, original in models.items():
        copied = copy_with(original, torch.clone).eval().to(where)
        copies[name] = copied.to(memory_format=memory)
    images = torch.zeros(batch, *input_shape, device=where)
    if images.ndim == 4:
        images = images.contiguous(memory_format=memory)
    flops = {name: _count_flops(copied, images[:1]) for name, copied in copies.items()}
    calls: dict[str, Callable[[Tensor], Any]] = dict(copies)
    if runtime == "onnxruntime":
        calls = {name: open_converted(copied, images) for name, copied in copies.items()}
    times = _time_in_turns(calls, images, repeats, warm_up, on_progress)
    table = pd.DataFrame([_latency_row(name, copies, times, flops, batch) for name in copies])
    table.insert(2, "format", "channels_last" if channels_last else "contiguous")
    table.insert(3, "runtime", runtime)
    return table


def _pick_place(runtime: str, device: str | torch.device, channels_last: bool) -> torch.device:
    """The device; ValueError for one, or a format, that the runtime does not know."""
    if check_choice("runtime", runtime, RUNTIMES) == "torch":
        return pick_device(device)
    where = pick_device("cpu" if str(device) == "auto" else device)
    if where.type != "cpu" or channels_last:
        raise ValueError(
            "onnxruntime is timed on the CPU and in the contiguous format: device='cpu', "
            "channels_last=False"
        )
    return where


def _time_in_turns(
    models: Mapping[str, Callable[[Tensor], Any]],
    images: Tensor,
    repeats: int,
    warm_up: int,
    on_progress: Callable[[int, int], None] | None,
) -> dict[str, list[float]]:
    """{name: milliseconds of each of its turns}"""
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for turn in range(warm_up + repeats):
            for name, model in models.items():
                milliseconds = _time_once(model, images)
                if turn >= warm_up:
                    times[name].append(milliseconds)
            if on_progress:
                on_progress(turn + 1, warm_up + repeats)
    return times


def _latency_row(
    name: str,
    models: Mapping[str, nn.Module],
    times: Mapping[str, list[float]],
    flops: Mapping[str, int],
    batch: int,
) -> dict[str, object]:
    first = next(iter(models))
    own, whole = torch.tensor(times[name]), torch.tensor(times[first])
    convs = {n: m.out_channels for n, m in models[name].named_modules() if isinstance(m, CONVS)}
    odd = [f"{n} ({width})" for n, width in convs.items() if width % ALIGNED]
    return {
        "model": name,
        "batch": batch,
        "repeats": len(own),
        "median_ms": float(own.median()),
        "low_ms": float(own.quantile(0.25)),
        "high_ms": float(own.quantile(0.75)),
        "time_left": float((own / whole).median()),
        "flops": flops[name],
        "flops_left": flops[name] / flops[first] if flops[first] else float("nan"),
        "unaligned": len(odd),
        "where": ", ".join(odd),
    }


def _count_flops(model: nn.Module, images: Tensor) -> int:
    """Multiply-adds of one forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        try:
            model(images)
        except RuntimeError as error:
            raise ValueError(
                f"{type(model).__name__} does not take an image of shape {tuple(images.shape[1:])} "
                f"({str(error).splitlines()[0]}); input_shape is that of one image, without the "
                "batch: (3, 32, 32)"
            ) from error
    return counter.get_total_flops() // 2  # torch counts a multiply-add as two


def _time_once(model: Callable[[Tensor], Any], images: Tensor) -> float:
    """Milliseconds of one forward pass."""
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
