"""Keeping a choice: as a recipe that replays, and as the lines of code that do the same."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from prunelab.checkpoint import write_whole
from prunelab.criteria import IMAGE_CRITERIA
from prunelab.lab.state import CHOICE, OURS, State
from prunelab.notebooks import find_weights
from prunelab.recipe import load_recipe
from prunelab.training import TrainSettings


def recipe_text(state: State, retrain: TrainSettings) -> str:
    """The choice as the YAML of a recipe: this network and data, pruned as here, then retrained.

    Raises ValueError for what a recipe cannot name: a module or a data set of one's own, a pruned file.
    """
    network = state.network
    if not network.by_name or network.source is None:
        raise ValueError(
            "a recipe names its network and data, and this lab was given objects: open a network by name, or use the code"
        )
    if getattr(network.model, "pruning_plan", None) is not None:
        raise ValueError("a recipe begins with a whole network, and this one was pruned before: save the model instead")
    if not state.ratios:
        raise ValueError("nothing is removed yet: move a slider first")
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(retrain).items()}
    default = asdict(TrainSettings())
    source = network.source if not Path(network.source).is_dir() else str(Path(network.source).resolve())
    weights = str(Path(network.weights).resolve()) if network.weights else None
    content: dict[str, Any] = {
        "title": f"{network.architecture} on {network.data.name}, from the lab",
        "model": {"name": network.architecture, "num_classes": len(network.data.classes), "weights": weights},
        "data": {"source": source},
        "prune": {"ratios": dict(state.ratios), **{k: v for k, v in state.choice.items() if v != CHOICE[k]}},
        "retrain": {k: v for k, v in settings.items() if k in ("epochs", "lr", "milestones") or v != default[k]},
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def save_recipe(state: State, path: str | Path, retrain: TrainSettings) -> Path:
    """Write the recipe's file, and read it once, so that what is saved replays."""
    path = Path(f"{path}".removesuffix(".yaml") + ".yaml")
    write_whole(path, recipe_text(state, retrain))
    load_recipe(path)
    return path


def code_text(state: State) -> str:
    """The lines that do the same without the lab."""
    network, choice = state.network, {k: v for k, v in state.choice.items() if v != CHOICE[k]}
    names = ["evaluate", "load_data", "load_model", "make_plan", "measure_cost", "prune", "trace"]
    pruned = getattr(network.model, "pruning_plan", None) is not None
    ours = network.weights == str(find_weights(OURS))
    if not network.by_name:
        model = "...  # your model"
        names.remove("load_model")
    elif pruned:
        model = f"load_pruned({network.weights!r})"
        names[names.index("load_model")] = "load_pruned"
    else:
        weights = f'find_weights("{OURS}")' if ours else repr(network.weights)
        more = f", weights={weights}" if network.weights else ""
        model = f'load_model("{network.architecture}", num_classes={len(network.data.classes)}{more})'
    data = f"load_data({json.dumps(network.source)})" if network.source else "...  # your data"
    if network.source is None:
        names.remove("load_data")
    how = "".join(f", {k}={v!r}" for k, v in choice.items())
    how += ", data=data" if choice.get("criterion") in IMAGE_CRITERIA else ""
    lines = [
        "import torch",
        f"from prunelab import {', '.join(names)}",
        *(["from prunelab.notebooks import find_weights"] if ours and not pruned else []),
        "",
        f"data = {data}",
        f"model = {model}.to(data.device)" if network.by_name else f"model = {model}",
        "graph = trace(model, torch.zeros(data.image_shape))",
        f"plan = make_plan(graph, {state.ratios!r}{how})",
        "small = prune(model, plan)  # a new, smaller model",
        'print(measure_cost(graph, plan)[["flops", "flops_after", "params", "params_after"]].sum())',
        "print(evaluate(model, data.val), evaluate(small, data.val))",
    ]
    return "\n".join(lines) + "\n"
