"""Keeping a choice: as a recipe that replays, and as the lines of code that do the same."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from prunelab.experiments import load_recipe
from prunelab.lab.state.choice import CHOICE, State
from prunelab.lab.state.network import OURS, Network
from prunelab.pruning import IMAGE_CRITERIA
from prunelab.training import TrainSettings
from prunelab.utils.paths import find_weights
from prunelab.utils.tensors import write_whole


def recipe_text(state: State, retrain: TrainSettings) -> str:
    """The choice as the YAML of a recipe: this network and data, pruned as here, then retrained.

    ValueError for what a recipe cannot name: a module or data set of one's own, a pruned file.
    """
    network = state.network
    if not network.by_name or network.source is None:
        raise ValueError(
            "a recipe names its network and data, and this lab was given objects: "
            "open a network by name, or use the code"
        )
    if getattr(network.model, "pruning_plan", None) is not None:
        raise ValueError(
            "a recipe begins with a whole network, and this one was pruned before: "
            "save the model instead"
        )
    if not state.plan.removed:
        raise ValueError("nothing is removed yet: move a slider first")
    source = network.source
    if Path(source).is_dir():
        source = str(Path(source).resolve())
    weights = str(Path(network.weights).resolve()) if network.weights else None
    content: dict[str, Any] = {
        "title": f"{network.architecture} on {network.data.name}, from the lab",
        "model": {
            "name": network.architecture,
            "num_classes": len(network.data.classes),
            "weights": weights,
        },
        "data": {"source": source, **_data_settings(network)},
        "prune": {"ratios": dict(state.ratios), **_changed_choice(state)},
        "retrain": _changed_settings(retrain),
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _changed_choice(state: State) -> dict[str, Any]:
    """What was chosen otherwise than it begins, and what was picked by hand."""
    changed = {name: value for name, value in state.choice.items() if value != CHOICE[name]}
    picks = {"keep": state.wish.keep, "drop": state.wish.drop}
    return {**changed, **{name: dict(own) for name, own in picks.items() if own}}


def _data_settings(network: Network) -> dict[str, Any]:
    """How the data was loaded, but for where: a recipe runs on any device."""
    return {name: value for name, value in network.how.items() if name != "device"}


def _changed_settings(retrain: TrainSettings) -> dict[str, Any]:
    """Epochs, rate and milestones, and whatever else is not the default."""
    default = asdict(TrainSettings())
    said = {}
    for name, value in asdict(retrain).items():
        if name in ("epochs", "lr", "milestones") or value != default[name]:
            said[name] = list(value) if isinstance(value, tuple) else value
    return said


def save_recipe(state: State, path: str | Path, retrain: TrainSettings) -> Path:
    """Write the recipe's file, and read it once, so that what is saved replays."""
    path = Path(f"{path}".removesuffix(".yaml") + ".yaml")
    write_whole(path, recipe_text(state, retrain))
    load_recipe(path)
    return path


def code_text(state: State) -> str:
    """The lines that do the same without the lab."""
    network, choice = state.network, _changed_choice(state)
    names = {"evaluate", "make_plan", "measure_cost", "prune", "trace"}
    begin, used = _opening_lines(network)
    names |= used
    how = "".join(f", {name}={value!r}" for name, value in choice.items())
    if choice.get("criterion") in IMAGE_CRITERIA:
        how += ", data=data"
    columns = '[["flops", "flops_after", "params", "params_after"]]'
    lines = [
        "import torch",
        f"from prunelab import {', '.join(sorted(names))}",
        "",
        *begin,
        "graph = trace(model, torch.zeros(data.image_shape))",
        f"plan = make_plan(graph, {state.ratios!r}{how})",
        "small = prune(model, plan)  # a new, smaller model",
        f"print(measure_cost(graph, plan){columns}.sum())",
        "print(evaluate(model, data.val), evaluate(small, data.val))",
    ]
    return "\n".join(lines) + "\n"


def _opening_lines(network: Network) -> tuple[list[str], set[str]]:
    """The lines that open a network and its data, as far as these have names; and their imports."""
    weights, names = "", set()
    if network.weights == str(find_weights(OURS)):
        weights, names = f', weights=find_weights("{OURS}")', {"find_weights"}
    elif network.weights:
        weights = f", weights={network.weights!r}"
    name, source = json.dumps(network.architecture), json.dumps(network.source)
    how = "".join(f", {key}={value!r}" for key, value in _data_settings(network).items())
    if network.by_name and network.source is not None:
        opened = f"load_model_and_data({name}, {source}{weights}{how})"
        return [f"model, data = {opened}"], names | {"load_model_and_data"}
    if network.by_name:
        model = f"load_model({name}, num_classes=len(data.classes){weights}).to(data.device)"
        return ["data = ...  # your data", f"model = {model}"], names | {"load_model"}
    if network.source is not None:
        return [f"data = load_data({source}{how})", "model = ...  # your model"], {"load_data"}
    return ["data = ...  # your data", "model = ...  # your model"], set()
