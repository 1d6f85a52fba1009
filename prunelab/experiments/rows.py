"""A run's networks, measured: a row for each, with its evidence."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from prunelab.experiments.recipe import Recipe
from prunelab.experiments.results import KINDS, gather_rows, read_rows, sort_rows
from prunelab.experiments.trainings import Trainings
from prunelab.graph import ChannelGraph
from prunelab.measure import measure_latency
from prunelab.models import find_file
from prunelab.pruning import total_cost
from prunelab.training import count_classes, evaluate, predict
from prunelab.utils import processes
from prunelab.utils.progress import track
from prunelab.utils.seals import CHANGED, EVIDENCE, read_table, write_table
from prunelab.utils.tensors import hash_tensors

TURNS = 10  # that are timed
WHOLE = ("baseline", "continued")  # that lose no filters


def report_rows(
    networks: Mapping[str, nn.Module],
    recipe: Recipe,
    graph: ChannelGraph,
    trainings: Trainings,
) -> pd.DataFrame:
    """A row for each of {kind: network}, measured or, where their weights are known, read.

    Kept in the run's `rows.csv`. graph: of the unpruned network.
    """
    path = trainings.folder / "rows.csv"
    models = {kind: networks[kind] for kind in KINDS if kind in networks}
    before = processes.broadcast(lambda: read_rows(path))
    hashes = processes.broadcast(
        lambda: {kind: hash_tensors(model.state_dict()) for kind, model in models.items()}
    )
    whole = before[before[EVIDENCE] != CHANGED]  # the others are measured again
    known = set()  # where all were changed, a column's name was
    if len(whole):
        known = set(zip(whole["kind"], whole["weights"], strict=True))
    if not set(hashes.items()) <= known or len(whole) < len(before):
        trainings.own()
        if len(whole) < len(before) and not processes.rank():
            write_table(path, whole) if len(whole) else path.unlink()
        gather_rows(_measure_networks(models, hashes, recipe, graph, trainings), path)
    rows = processes.broadcast(lambda: read_rows(path))
    rows = rows[rows["kind"].isin(models)]
    return sort_rows(rows)


def _measure_networks(
    networks: Mapping[str, nn.Module],
    hashes: Mapping[str, str],
    recipe: Recipe,
    graph: ChannelGraph,
    trainings: Trainings,
) -> pd.DataFrame:
    data, device = trainings.data, trainings.device
    batch = 64 if data.train.image_size <= 64 else 8
    how = {"device": device, "batch": batch, "repeats": TURNS}
    times = measure_latency(networks, data.image_shape[1:], **how)  # type: ignore[arg-type]
    latency = dict(zip(times["model"], times["median_ms"].round(3), strict=True))
    rows = []
    show = not processes.rank()
    for kind, model in track(networks.items(), "measuring", len(networks), "networks", show=show):
        row = _measure_network(kind, model, recipe, graph, trainings)
        row |= {"latency_ms": latency[kind], "latency_batch": batch}
        row |= {"threads": torch.get_num_threads(), "weights": hashes[kind]}
        rows.append(row)
    return pd.DataFrame(rows)


def _measure_network(
    kind: str, model: nn.Module, recipe: Recipe, graph: ChannelGraph, trainings: Trainings
) -> dict[str, Any]:
    data, device = trainings.data, trainings.device
    plan = None if kind in WHOLE else getattr(model, "pruning_plan", None)
    cost = total_cost(graph, plan, shortcuts=recipe.shortcuts).to_dict("index")
    before, after = cost["before"], cost["after"]
    val, test = evaluate(model, data.val), evaluate(model, data.test)
    history, weights = trainings.history(kind), recipe.model.weights
    row: dict[str, Any] = {
        "recipe": recipe.name,
        "paper": recipe.paper,
        "kind": kind,
        "model": recipe.model.name,
        "dataset": data.name,
        "seed": trainings.seed,
        "start": Path(weights).name if weights else "trained",
        "start_sha256": hash_start(weights) if weights else "",
        "epochs": len(history),
        "n_train": len(data.train),
        "n_test": test.total,
        "test_accuracy": test.accuracy,
        "n_val": val.total,
        "val_accuracy": val.accuracy,
        "val_accuracy_best": None,
        "test_accuracy_best": None,
        "flops": after["flops"],
        "params": after["params"],
        "params_all": after["params_all"],
        "flops_removed": 1 - after["flops"] / before["flops"],
        "params_removed": 1 - after["params"] / before["params"],
        "seconds": 0,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processes": processes.world_size(),
        "torch": torch.__version__,
    }
    if len(history):
        last = history[history["step"] == history["step"].max()]  # those before it were larger
        row["val_accuracy_best"] = last["val_accuracy"].max()
        row["test_accuracy_best"] = last["test_accuracy"].max()
        row["seconds"] = history["seconds"].sum()
    return row


def hash_start(weights: str) -> str:
    """SHA-256 of the file of weights that a run begins with; empty for a library's, by name."""
    if not Path(weights).exists():
        return ""
    with open(find_file(weights), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def count_by_class(networks: Mapping[str, nn.Module], trainings: Trainings) -> pd.DataFrame:
    """How often each of {kind: network} is right about each class of the test split.

    As of `count_classes`, with the weights' digest; kept in the run's `classes.csv`, and read from
    there where the weights are known.
    """
    path, data = trainings.folder / "classes.csv", trainings.data
    models = {kind: networks[kind] for kind in KINDS if kind in networks}
    hashes = {kind: hash_tensors(model.state_dict()) for kind, model in models.items()}
    columns = ["network", "weights", EVIDENCE]
    known = read_table(path) if path.exists() else pd.DataFrame(columns=columns)
    known = known if {*columns} <= {*known.columns} else pd.DataFrame(columns=columns)
    known = known[~known["network"].isin(known["network"][known[EVIDENCE] == CHANGED])]
    done = set(zip(known["network"], known["weights"], strict=True))
    missing = {kind: model for kind, model in models.items() if (kind, hashes[kind]) not in done}
    if missing:
        counted = count_classes(predict(missing, data.test, classes=data.classes))
        counted["weights"] = counted["network"].map(hashes)
        before = known[~known["network"].isin(missing)]
        known = pd.concat([before, counted], ignore_index=True) if len(before) else counted
        write_table(path, known)
        known = read_table(path)
    known = known[known["network"].isin(models)].reset_index(drop=True)
    return known.drop(columns=EVIDENCE)
