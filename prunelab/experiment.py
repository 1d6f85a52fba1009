"""An experiment of a recipe, step by step: baseline, sensitivity, plan, retraining, scratch, report.

Each step leaves its files in the run's folder and, called again, takes them from there instead of working twice.
"""

import copy
import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.optim import SGD

from prunelab import processes
from prunelab.checkpoint import hash_tensors, save_pruned, write_whole
from prunelab.cost import measure_cost, total_cost
from prunelab.data import DataSplits, load_data, pick_device, runs_dir
from prunelab.graph import ChannelGraph, trace
from prunelab.latency import measure_latency
from prunelab.models import initialise, load_model
from prunelab.plan import PruningPlan, make_plan
from prunelab.recipe import PruneRecipe, Recipe, check_recipe, dump_recipe, load_recipe
from prunelab.results import append_line, find_unlogged, gather_rows, read_log, read_rows
from prunelab.schedule import find_ratios, make_steps
from prunelab.sensitivity import measure_sensitivity
from prunelab.surgery import prune, prune_optimizer
from prunelab.training import TrainSettings, evaluate, make_optimizer, train


def replay(
    recipe: Recipe | str | Path,
    *,
    data: DataSplits | str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    out: str | Path | None = None,
) -> pd.DataFrame:
    """Run all of a recipe, and return one tidy row for each network: baseline, pruned, retrained, scratch.

    data: a data set, its name or its folder; None takes the recipe's. out: where run folders go, `data/runs`.
    Stopped at any moment and called again, it goes on; finished, it does nothing twice.
    """
    run = Experiment(recipe, data=data, device=device, seed=seed, out=out)
    run.retrained()
    run.scratch()
    return run.report()


class Experiment:
    """A recipe, data and a seed, with a folder of their own: `<out>/<recipe>-<seed>/`."""

    def __init__(
        self,
        recipe: Recipe | str | Path,
        *,
        data: DataSplits | str | Path | None = None,
        device: str = "auto",
        seed: int = 0,
        out: str | Path | None = None,
        changes: Iterable[str] = (),
    ) -> None:
        self.recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
        self.device = pick_device(device)
        self.seed = seed
        self.out = Path(out) if out else runs_dir()
        self.folder = self.out / f"{self.recipe.name}-{seed}"
        self.data = data if isinstance(data, DataSplits) else self._load_data(data)
        classes = len(self.data.classes)
        self.num_classes = self.recipe.model.num_classes or classes
        if self.num_classes != classes:
            raise ValueError(
                f"recipe {self.recipe.name!r} makes a model of {self.num_classes} classes and {self.data.name} has "
                f"{classes}; set model.num_classes={classes}, or give other data"
            )
        self._networks: dict[str, nn.Module] = {}
        self._histories: list[pd.DataFrame] = []
        self._optimizer: SGD | None = None  # of the baseline's training
        if self.recipe.prune is not None:
            self._plan(self.graph, self.recipe.prune.all_ratios)  # a wrong layer is said before anything is trained
        for name in self.recipe.sensitivity:
            self.graph.select(name)
        self._claim_folder()

    def _load_data(self, source: str | Path | None) -> DataSplits:
        options = self.recipe.data.model_dump()
        name = str(source or options.pop("source"))
        options.pop("source", None)
        return processes.first_goes_ahead(lambda: load_data(name, device=self.device, seed=self.seed, **options))

    def _claim_folder(self) -> None:
        about = {
            "recipe": _comparable(self.recipe),
            "seed": self.seed,
            "data": self.data.fingerprint,
            "normalization": [list(values) for values in self.data.normalization],
        }
        path = self.folder / "run.json"
        before = processes.from_first(lambda: path.read_text(encoding="utf-8") if path.exists() else "")
        if before:
            made = json.loads(before)
            made["recipe"] = _comparable(check_recipe(made["recipe"], f"{path} is of another version: its recipe"))
            odd = _differences(made, about)
            if odd:
                raise ValueError(
                    f"{self.folder} holds another run: {'; '.join(odd)}. Name another folder for runs (out)"
                )
        write_whole(path, json.dumps(about, indent=1))

    @cached_property
    def graph(self) -> ChannelGraph:
        """The trace of the unpruned network."""
        return trace(self._fresh(), torch.zeros(self.data.image_shape))

    def baseline(self) -> nn.Module:
        """The network before pruning: trained by the recipe, shared with `baseline_from`, or read from weights."""
        if "baseline" not in self._networks:
            weights = self.recipe.model.weights
            model = self._fresh(weights)
            if weights is None:
                home = self.out / f"{self.recipe.baseline_from or self.recipe.name}-{self.seed}"
                self._optimizer = self._train("baseline", model, self.recipe.baseline, home / "baseline.safetensors")
            self._networks["baseline"] = model.to(self.device)
        return self._networks["baseline"]

    def sensitivity(self) -> pd.DataFrame:
        """Accuracy on the validation split of each layer or stage of the recipe, pruned alone, not retrained."""
        if not self.recipe.sensitivity:
            return pd.DataFrame()
        criterion = self.recipe.prune.criterion if self.recipe.prune else "l1"
        found = measure_sensitivity(
            self.baseline(),
            self.data,
            layers=self.recipe.sensitivity,
            criterion=criterion,
            seed=self.seed,
            store=self.folder / "sensitivity.jsonl",
            progress=True,
        )
        write_whole(self.folder / "sensitivity.csv", found.to_csv(index=False))
        return found

    def plan(self) -> PruningPlan | None:
        """Which filters go, by the recipe; kept in plan.json. None for a recipe that prunes nothing."""
        if self.recipe.prune is None:
            return None
        if self.recipe.prune.schedule != "once" and self.recipe.retrain is not None:
            self.retrained()  # each choice looks at weights retrained after the one before
            plan: Any = self._networks["retrained"].pruning_plan
        else:
            plan = self._plan(self.trace_pruned_from(), self.recipe.prune.all_ratios)
        assert isinstance(plan, PruningPlan)
        write_whole(self.folder / "plan.json", plan.to_json())
        return plan

    def pruned(self) -> nn.Module | None:
        """The baseline without the filters, before any retraining."""
        if self.recipe.prune is None or self.recipe.retrain is None:
            return None
        if "pruned" not in self._networks:
            plan = self.plan()
            assert plan is not None
            self._networks["pruned"] = prune(self.baseline(), plan)
        return self._networks["pruned"]

    def retrained(self) -> nn.Module | None:
        """The pruned network after retraining, saved as pruned.safetensors."""
        settings, recipe = self.recipe.retrain, self.recipe.prune
        if recipe is None or settings is None:
            if recipe is None:
                self.baseline()
            return None
        if "retrained" not in self._networks:
            if recipe.schedule == "once":
                model = copy.deepcopy(self.pruned())
                assert model is not None
                optimizer = self._carry_over(self._optimizer, self.baseline(), model)
                self._train("retrained", model, settings, self.folder / "retrain.safetensors", optimizer)
            else:
                model = self._prune_in_steps(recipe, settings)
            self._networks["retrained"] = model
            self._save_pruned("pruned.safetensors", model, "retrained")
        return self._networks["retrained"]

    def scratch(self) -> nn.Module | None:
        """The pruned network from fresh weights, trained as the baseline was, saved as scratch.safetensors."""
        if self.recipe.scratch is None or self.recipe.prune is None:
            return None
        kind = f"scratch-{self.recipe.scratch}"
        if kind not in self._networks:
            plan = self.plan()
            assert plan is not None
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                model = prune(self._fresh(), plan)
                initialise(model)
            cost = total_cost(self.graph, plan)["flops"]
            longer = cost["before"] / cost["after"] if self.recipe.scratch == "B" else 1.0
            settings = replace(self.recipe.baseline, epochs=round(self.recipe.baseline.epochs * longer))
            self._train(kind, model, settings, self.folder / "scratch-training.safetensors")
            self._networks[kind] = model
            self._save_pruned("scratch.safetensors", model, kind)
        return self._networks[kind]

    def history(self) -> pd.DataFrame:
        """The epochs of all trainings so far, with columns `kind` and `step` (of a schedule, from 1; 0 without)."""
        return pd.concat(self._histories, ignore_index=True) if self._histories else pd.DataFrame()

    def log(self) -> pd.DataFrame:
        """Every epoch logged so far, as in `history`: also of a run that another process is still at."""
        return read_log(self.folder)

    def report(self) -> pd.DataFrame:
        """A tidy row for each network so far, kept in rows.csv and gathered in `<out>/results.csv`."""
        path = self.folder / "rows.csv"
        self.pruned()
        order = ("baseline", "pruned", "retrained", "scratch-E", "scratch-B")
        networks = {kind: self._networks[kind] for kind in order if kind in self._networks}
        before = processes.from_first(lambda: read_rows(path))
        hashes = processes.from_first(lambda: {kind: hash_tensors(m.state_dict()) for kind, m in networks.items()})
        if not set(hashes.items()) <= set(zip(before["kind"], before["weights"], strict=True)):
            gather_rows(self._measure(networks, hashes), path)
        rows = processes.from_first(lambda: read_rows(path))
        gather_rows(rows, self.out / "results.csv")
        rows = rows[rows["kind"].isin(networks)]
        return rows.sort_values("kind", key=lambda kinds: kinds.map(order.index), ignore_index=True)

    def _measure(self, networks: dict[str, nn.Module], hashes: dict[str, str]) -> pd.DataFrame:
        batch = 64 if self.data.train.image_size <= 64 else 8
        times = measure_latency(networks, self.data.image_shape[1:], device=self.device, batch=batch)
        latency = dict(zip(times["model"], times["median_ms"].round(3), strict=True))
        more = {"latency_batch": batch, "threads": torch.get_num_threads()}
        rows = [
            self._row(kind, model) | {"latency_ms": latency[kind]} | more | {"weights": hashes[kind]}
            for kind, model in networks.items()
        ]
        return pd.DataFrame(rows)

    def files(self) -> dict[str, str]:
        """What the run left in its folder: {file: what it is}."""
        known = {
            "rows.csv": "a row for each network",
            "plan.json": "which filters stay",
            "pruned.safetensors": "the pruned, retrained network (load_pruned opens it)",
            "scratch.safetensors": "the same network trained from scratch",
            "baseline.safetensors": "the baseline's training",
            "sensitivity.csv": "accuracy of each stage pruned alone",
            "history.csv": "every epoch",
            "log.jsonl": "the same, a line as each epoch ends",
            "replay.ipynb": "this notebook, executed",
        }
        return {str(self.folder / name): what for name, what in known.items() if (self.folder / name).exists()}

    def summary(self) -> pd.DataFrame:
        """The report for reading: percent, millions and milliseconds, a line for each network."""
        rows = self.report().set_index("kind")
        table = pd.DataFrame(
            {
                "test accuracy %": 100 * rows["test_accuracy"],
                "best %": 100 * rows["test_accuracy_best"],
                "validation %": 100 * rows["val_accuracy"],
                "multiply-adds (M)": rows["flops"] / 1e6,
                "removed %": 100 * rows["flops_removed"],
                "parameters (M)": rows["params"] / 1e6,
                f"ms for {rows['latency_batch'].iloc[0]} images": rows["latency_ms"],
                "epochs": rows["epochs"],
            }
        )
        return table.round(2)

    def trace_pruned_from(self) -> ChannelGraph:
        """The trace of the network whose filters the plan chooses among; a scratch row needs widths only, so fresh weights do."""
        retrains = self.recipe.retrain is not None or self.recipe.prune is None
        return trace(self.baseline(), torch.zeros(self.data.image_shape)) if retrains else self.graph

    def cost(self) -> pd.DataFrame:
        """`measure_cost` of the unpruned network under the plan."""
        return measure_cost(self.graph, self.plan(), shortcuts=self.recipe.shortcuts)

    # ------------------------------------------------------------------------------------ helpers

    def _fresh(self, weights: str | None = None) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return load_model(self.recipe.model.name, num_classes=self.num_classes, weights=weights)

    def _plan(self, graph: ChannelGraph, ratios: dict[str, float]) -> PruningPlan:
        recipe = self.recipe.prune
        assert recipe is not None
        how = recipe.model_dump(include={"criterion", "strategy", "order", "rounding", "align"})
        return make_plan(graph, ratios, data=self.data, seed=self.seed, **how)

    def _prune_in_steps(self, recipe: PruneRecipe, settings: TrainSettings) -> nn.Module:
        baseline, optimizer = self.baseline(), self._optimizer
        how: dict[str, Any] = {"schedule": recipe.schedule, "rounds": recipe.rounds}
        steps = make_steps(self.graph, recipe.all_ratios, **how, rounding=recipe.rounding) or [{}]
        model = baseline
        for i, step in enumerate(steps, 1):
            graph = trace(model, torch.zeros(self.data.image_shape))
            plan = self._plan(graph, find_ratios(graph, step))
            whole = all(len(kept) == len(graph.numbers[name]) for name, kept in plan.keep.items())
            if whole and (i < len(steps) or model is not baseline):
                continue  # nothing goes, for a width that `align` likes
            small = prune(model, plan, graph=graph)
            optimizer = self._carry_over(optimizer, model, small)
            print(f"{i} of {len(steps)}: {', '.join(step) if len(step) == 1 else 'all layers'}", flush=True)
            checkpoint = self.folder / f"retrain-{i}.safetensors"
            optimizer = self._train("retrained", small, settings, checkpoint, optimizer, step=i)
            model = small
        plan = model.pruning_plan  # type: ignore[assignment]
        model.pruning_plan = replace(plan, settings={**plan.settings, "ratios": recipe.all_ratios, **how})  # type: ignore[assignment]
        return model

    def _carry_over(self, optimizer: SGD | None, model: nn.Module, small: nn.Module) -> SGD | None:
        """The momentum of what was trained here; weights from a file have none."""
        return None if optimizer is None else prune_optimizer(optimizer, model, small)

    def _train(
        self, kind: str, model: nn.Module, settings: TrainSettings, checkpoint: Path, optimizer: SGD | None = None,
        *, step: int = 0,
    ) -> SGD:  # fmt: skip
        print(f"{kind}: {settings.epochs} epochs on {self.data.name} ({self.device})", flush=True)
        log = partial(append_line, self.folder / "log.jsonl", {"kind": kind, "step": step})
        settings = replace(settings, seed=self.seed + 1_000_003 * step)  # each step with shuffles and crops of its own
        model.to(self.device)
        optimizer = optimizer or make_optimizer(model, settings)
        history = train(
            model, self.data, settings, optimizer=optimizer, checkpoint=checkpoint, progress=True, on_epoch=log
        )
        for row in find_unlogged(self.folder, kind, step, history):
            log(row)  # it was killed between keeping an epoch and logging it
        self._histories.append(history.assign(kind=kind, step=step))
        write_whole(self.folder / "history.csv", self.history().to_csv(index=False))
        return optimizer

    def _save_pruned(self, name: str, model: nn.Module, kind: str) -> None:
        plan = model.pruning_plan
        assert isinstance(plan, PruningPlan)
        info = {
            "recipe": self.recipe.name,
            "kind": kind,
            "seed": self.seed,
            "dataset": self.data.name,
            "classes": list(self.data.classes),
            "normalization": [list(values) for values in self.data.normalization],
        }
        save_pruned(self.folder / name, model, plan, info=info)

    def _row(self, kind: str, model: nn.Module) -> dict[str, Any]:
        plan = None if kind == "baseline" else getattr(model, "pruning_plan", None)
        cost = total_cost(self.graph, plan, shortcuts=self.recipe.shortcuts)
        history = pd.concat([h for h in self._histories if h["kind"].eq(kind).all()] or [pd.DataFrame()])
        val, test = (evaluate(model, split) for split in (self.data.val, self.data.test))
        trained = len(history) > 0
        last = history[history["step"] == history["step"].max()] if trained else history  # those before it were larger
        best = {f"{s}_accuracy_best": last[f"{s}_accuracy"].max() if trained else None for s in ("val", "test")}
        return {
            "recipe": self.recipe.name,
            "paper": self.recipe.paper,
            "kind": kind,
            "model": self.recipe.model.name,
            "dataset": self.data.name,
            "seed": self.seed,
            "start": Path(self.recipe.model.weights).name if self.recipe.model.weights else "trained",
            "epochs": len(history),
            "n_test": test.total,
            "test_accuracy": test.accuracy,
            "n_val": val.total,
            "val_accuracy": val.accuracy,
            **best,
            **{name: int(cost.loc["after", name]) for name in ("flops", "params", "params_all")},  # type: ignore[arg-type]
            "flops_removed": 1 - cost.loc["after", "flops"] / cost.loc["before", "flops"],  # type: ignore[operator]
            "params_removed": 1 - cost.loc["after", "params"] / cost.loc["before", "params"],  # type: ignore[operator]
            "seconds": history["seconds"].sum() if trained else 0,
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
            "processes": processes.count(),
            "torch": torch.__version__,
        }


def _comparable(recipe: Recipe) -> dict[str, Any]:
    """What makes a run another one: not whether torch compiles it."""
    values = dump_recipe(recipe)
    for part in ("baseline", "retrain"):
        if values[part] is not None:
            del values[part]["compile"]
    return values


def _differences(before: Any, now: Any, where: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [d for key in keys for d in _differences(before.get(key), now.get(key), f"{where}.{key}".strip("."))]
    return [] if before == now else [f"{where} was {before!r}, not {now!r}"]
