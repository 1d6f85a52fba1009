"""The measured time of recipes' pruned networks (Li et al. 2017, appendix, Table 3)."""

from collections.abc import Sequence
from itertools import product

import pandas as pd
import torch

from prunelab.experiments.recipe import load_recipe
from prunelab.graph import trace
from prunelab.measure import FORMATS, measure_latency
from prunelab.models import load_model
from prunelab.pruning import make_plan, prune
from prunelab.utils.checks import check_choice
from prunelab.utils.devices import pick_device


def time_recipes(
    recipes: Sequence[str],
    *,
    batches: Sequence[int] = (1, 128),
    aligns: Sequence[int] = (1, 8),
    formats: Sequence[str] = FORMATS,
    runtimes: Sequence[str] = ("torch",),
    image_size: int = 32,
    device: str | torch.device = "auto",
    repeats: int = 30,
) -> pd.DataFrame:
    """The measured time of recipes' pruned networks beside their multiply-adds.

    As in Li et al. 2017, appendix, Table 3. Weights are fresh: they change no time.

    Args:
        recipes: names or YAML files of recipes that prune.
        batches: images in a forward pass.
        aligns: alignments of widths, as in `make_plan`; 1 is as asked for.
        formats: memory formats of images and weights, of `contiguous` and `channels_last`.
        runtimes: of `torch` and `onnxruntime`; the latter, on the CPU, in the contiguous format
            alone: there are no rows for it in the other.
        image_size: pixels a side.
        device: where to measure: `auto`, `cpu`, `cuda`, ….
        repeats: turns that are measured, as in `measure_latency`.

    Returns:
        A row for each recipe, batch size, memory format, runtime and network, the whole one and the
        pruned one at each alignment; columns recipe, those of `measure_latency`, device, threads,
        torch.

    Raises:
        ValueError: an unknown recipe or one that prunes nothing, a list that is empty or none, or
            onnxruntime elsewhere than on the CPU.

    Example:
        >>> time_recipes(["vgg16-pruned-a", "resnet56-pruned-b"], batches=[1])
    """
    recipes = [recipes] if isinstance(recipes, str) else recipes
    lists = {
        "recipes": recipes,
        "batches": batches,
        "aligns": aligns,
        "formats": formats,
        "runtimes": runtimes,
    }
    for what, given in lists.items():
        if isinstance(given, str) or not isinstance(given, Sequence) or not given:
            raise ValueError(f"{what} must be a list that is not empty; got {given!r}")
    ways = _list_ways(formats, runtimes)
    where, frames = pick_device(device), []
    for name in recipes:
        recipe = load_recipe(name)
        if recipe.prune is None:
            raise ValueError(f"recipe {name!r} prunes nothing, so there is nothing to compare")
        model = load_model(recipe.model.name, num_classes=recipe.model.num_classes or 10)
        graph = trace(model, torch.zeros(1, 3, image_size, image_size))
        networks = {"whole": model}
        ratios, rounding = recipe.prune.all_ratios, recipe.prune.rounding
        for align in aligns:
            plan = make_plan(graph, ratios, rounding=rounding, align=align)
            label = "pruned" if align == 1 else f"pruned, aligned to {align}"
            networks[label] = prune(model, plan, graph=graph)
        for batch, (kind, runtime) in product(batches, ways):
            found = measure_latency(
                networks,
                (3, image_size, image_size),
                device=where,
                batch=batch,
                channels_last=kind == "channels_last",
                runtime=runtime,
                repeats=repeats,
            )
            frames.append(found.assign(recipe=name))
    together = pd.concat(frames, ignore_index=True)
    together.insert(0, "recipe", together.pop("recipe"))
    named = torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu"
    return together.assign(device=named, threads=torch.get_num_threads(), torch=torch.__version__)


def _list_ways(formats: Sequence[str], runtimes: Sequence[str]) -> list[tuple[str, str]]:
    """Each memory format with each runtime that knows it."""
    ways = []
    for kind, runtime in product(formats, runtimes):
        check_choice("memory format", kind, FORMATS)
        if runtime != "onnxruntime" or kind == "contiguous":
            ways.append((kind, runtime))
    if not ways:
        raise ValueError("onnxruntime is timed in the contiguous format: add it to formats")
    return ways
