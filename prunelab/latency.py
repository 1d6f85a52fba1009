"""How long a network really takes: measured on the machine at hand, networks in turns, beside what they compute."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prunelab.criteria import check_choice
from prunelab.data import pick_device
from prunelab.graph import trace
from prunelab.models import load_model
from prunelab.numbering import CONVS
from prunelab.plan import make_plan
from prunelab.recipe import load_recipe
from prunelab.surgery import prune

FORMATS = ("contiguous", "channels_last")
ALIGNED = 8  # widths that are multiples of it fill vector registers and tensor cores


def measure_latency(
    model: nn.Module | Mapping[str, nn.Module],
    input_shape: Sequence[int],
    *,
    device: str | torch.device = "auto",
    batch: int = 1,
    channels_last: bool = False,
    repeats: int = 30,
    warm_up: int = 5,
    on_progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Milliseconds of one forward pass beside multiply-adds, a row for each model.

    model: one, or {name: model} to compare with the first; these take turns, so that a busy machine slows all
        alike. Copies are measured, in evaluation mode. input_shape: of one image, (3, 32, 32).
    channels_last: the memory format of images and weights; else torch's contiguous one. Which is faster depends on
        the machine, and a pruned network may gain in one and not in the other.
    On a GPU the time is taken between events. `warm_up` passes go before, unmeasured.
    on_progress: called with (turns done, turns in all) after each turn.

    Columns: model, batch, format, repeats, median_ms, low_ms, high_ms (quartiles), time_left (median over the turns of the
    time in fractions of the first model's), flops (multiply-adds for one image, counted by torch), flops_left,
    unaligned (convs whose width is no multiple of 8, which hardware computes no faster than the next one), where.
    Raises ValueError for a batch or repeats below 1.

    >>> measure_latency({"whole": model, "pruned": prune(model, plan)}, (3, 32, 32), batch=128)
    """
    for name, value, least in (("batch", batch, 1), ("repeats", repeats, 1), ("warm_up", warm_up, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number, {least} or more; got {value!r}")
    if not isinstance(model, nn.Module | Mapping):
        raise ValueError(f"measure_latency takes a model, or {{name: model}}, not a {type(model).__name__}")
    where = pick_device(device)
    models = dict(model) if isinstance(model, Mapping) else {"model": model}
    if not models:
        raise ValueError("there is no model to measure: pass one, or {name: model}")
    kind = torch.channels_last if channels_last else torch.contiguous_format
    copies = {name: copy.deepcopy(m).eval().to(where, memory_format=kind) for name, m in models.items()}  # type: ignore[call-overload]
    images = torch.zeros(batch, *input_shape, device=where)
    if images.ndim == 4:
        images = images.contiguous(memory_format=kind)
    flops = {name: _count_flops(m, images[:1]) for name, m in copies.items()}
    times: dict[str, list[float]] = {name: [] for name in copies}
    with torch.inference_mode():
        for turn in range(warm_up + repeats):
            for name, m in copies.items():
                milliseconds = _time_once(m, images)
                if turn >= warm_up:
                    times[name].append(milliseconds)
            if on_progress:
                on_progress(turn + 1, warm_up + repeats)
    table = pd.DataFrame([_row(name, copies, times, flops, batch) for name in copies])
    table.insert(2, "format", "channels_last" if channels_last else "contiguous")
    return table


def _row(
    name: str, models: Mapping[str, nn.Module], times: Mapping[str, list[float]], flops: Mapping[str, int], batch: int
) -> dict[str, object]:
    own, first = torch.tensor(times[name]), torch.tensor(times[next(iter(models))])
    whole = flops[next(iter(models))]
    convs = {n: m.out_channels for n, m in models[name].named_modules() if isinstance(m, CONVS)}
    odd = [f"{n} ({width})" for n, width in convs.items() if width % ALIGNED]
    return {
        "model": name,
        "batch": batch,
        "repeats": len(own),
        "median_ms": float(own.median()),
        "low_ms": float(own.quantile(0.25)),
        "high_ms": float(own.quantile(0.75)),
        "time_left": float((own / first).median()),
        "flops": flops[name],
        "flops_left": flops[name] / whole if whole else float("nan"),
        "unaligned": len(odd),
        "where": ", ".join(odd),
    }


def _count_flops(model: nn.Module, images: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        try:
            model(images)
        except RuntimeError as error:
            raise ValueError(
                f"{type(model).__name__} does not take an image of shape {tuple(images.shape[1:])} "
                f"({str(error).splitlines()[0]}); input_shape is that of one image, without the batch: (3, 32, 32)"
            ) from error
    return counter.get_total_flops() // 2  # torch counts a multiply-add as two


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


def time_recipes(
    recipes: Sequence[str],
    *,
    batches: Sequence[int] = (1, 128),
    aligns: Sequence[int] = (1, 8),
    formats: Sequence[str] = FORMATS,
    image_size: int = 32,
    device: str | torch.device = "auto",
    repeats: int = 30,
) -> pd.DataFrame:
    """The measured time of recipes' pruned networks beside their multiply-adds (Li et al. 2017, appendix, Table 3).

    A row for each recipe, batch size, memory format and network: the whole one, and the pruned one at each alignment of widths.
    Weights are fresh: they change no time. Columns: recipe, and those of `measure_latency`; device, threads, torch.

    >>> time_recipes(["vgg16-pruned-a", "resnet56-pruned-b"], batches=[1])
    """
    recipes = [recipes] if isinstance(recipes, str) else recipes
    for what, given in (("recipes", recipes), ("batches", batches), ("aligns", aligns), ("formats", formats)):
        if isinstance(given, str) or not isinstance(given, Sequence) or not given:
            raise ValueError(f"{what} must be a list that is not empty; got {given!r}")
    where, frames = pick_device(device), []
    for name in recipes:
        recipe = load_recipe(name)
        if recipe.prune is None:
            raise ValueError(f"recipe {name!r} prunes nothing, so there is nothing to compare")
        model = load_model(recipe.model.name, num_classes=recipe.model.num_classes or 10)
        graph = trace(model, torch.zeros(1, 3, image_size, image_size))
        networks = {"whole": model}
        for align in aligns:
            plan = make_plan(graph, recipe.prune.all_ratios, rounding=recipe.prune.rounding, align=align)
            networks["pruned" if align == 1 else f"pruned, aligned to {align}"] = prune(model, plan, graph=graph)
        for batch, kind in product(batches, formats):
            last = check_choice("memory format", kind, FORMATS) == "channels_last"
            shape = (3, image_size, image_size)
            found = measure_latency(networks, shape, device=where, batch=batch, channels_last=last, repeats=repeats)
            frames.append(found.assign(recipe=name))
    together = pd.concat(frames, ignore_index=True)
    together.insert(0, "recipe", together.pop("recipe"))
    named = torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu"
    return together.assign(device=named, threads=torch.get_num_threads(), torch=torch.__version__)
