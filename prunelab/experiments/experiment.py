"""An experiment, step by step: baseline, sensitivity, plan, retraining, scratch, report.

Each step leaves its files in the run's folder and, called again, takes them from there instead of
working twice.
"""

import copy
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.optim import SGD

from prunelab.data import DataSplits, load_data
from prunelab.experiments.log import read_log
from prunelab.experiments.recipe import PruneRecipe, Recipe, load_recipe
from prunelab.experiments.rows import report_rows, summarise
from prunelab.experiments.run_folder import claim_folder, list_files
from prunelab.experiments.steps import carry_momentum, plan_by_recipe, plan_of, prune_in_steps
from prunelab.experiments.trainings import Trainings
from prunelab.graph import ChannelGraph, trace
from prunelab.measure import measure_sensitivity
from prunelab.models import initialise, load_model
from prunelab.pruning import PruningPlan, measure_cost, prune, total_cost
from prunelab.utils import processes
from prunelab.utils.devices import pick_device
from prunelab.utils.paths import runs_dir
from prunelab.utils.tensors import write_whole


def replay(
    recipe: Recipe | str | Path,
    *,
    data: DataSplits | str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    out: str | Path | None = None,
) -> pd.DataFrame:
    """Run all of a recipe: what its networks cost and how well they do.

    Stopped at any moment and called again, it goes on; finished, it does nothing twice.

    Args:
        recipe: one of `load_recipe`, a name or a YAML file.
        data: a data set, its name or its folder; None takes the recipe's.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ….
        seed: of weights, batches and the validation split.
        out: where run folders go; None: `data/runs`.

    Returns:
        A tidy row for each network (baseline, pruned, retrained, scratch); columns recipe, paper,
        kind, model, dataset, seed, start, epochs, n_test, test_accuracy, n_val, val_accuracy (both
        at the last epoch), val_accuracy_best, test_accuracy_best, flops (multiply-adds for one
        image), params, params_all, flops_removed, params_removed, seconds, device, processes,
        torch, latency_ms, latency_batch, threads, weights (their digest).

    Raises:
        ValueError: an unknown recipe, layer or device, or a folder of another run.
        FileNotFoundError: there is no such data.

    Example:
        >>> replay("digits-quick", device="cpu")
    """
    run = Experiment(recipe, data=data, device=device, seed=seed, out=out)
    run.retrained()
    run.scratch()
    return run.report()


class Experiment:
    """A recipe, data and a seed, with a folder of their own: `<out>/<recipe>-<seed>/`.

    Args:
        recipe: one of `load_recipe`, a name or a YAML file.
        data: a data set, its name or its folder; None takes the recipe's.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ….
        seed: of weights, batches and the validation split.
        out: where run folders go; None: `data/runs`.
        changes: settings to change in a recipe of a name or file, as in `load_recipe`.

    Attributes:
        recipe, data, device, seed, out: as given.
        folder: of this run.
        num_classes: outputs of the network.

    Raises:
        ValueError: an unknown recipe, layer or device, other classes than the data's, or a folder
            of another run; all before anything is trained.
        FileNotFoundError: there is no such data.

    Example:
        >>> run = Experiment("digits-quick", device="cpu")
        >>> small = run.retrained()
        >>> run.summary()
    """

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
                f"recipe {self.recipe.name!r} makes a model of {self.num_classes} classes and "
                f"{self.data.name} has {classes}; set model.num_classes={classes}, or give other "
                "data"
            )
        self._trainings = Trainings(self.folder, self.data, self.device, seed)
        self._networks: dict[str, nn.Module] = {}
        self._optimizer: SGD | None = None  # of the baseline's training
        # a wrong layer is said before anything is trained
        if self.recipe.prune is not None:
            self._plan(self.graph, self.recipe.prune)
        for name in self.recipe.sensitivity:
            self.graph.select(name)
        claim_folder(self.folder, self.recipe, seed, self.data)

    def _load_data(self, source: str | Path | None) -> DataSplits:
        options = self.recipe.data.model_dump()
        own = options.pop("source")
        options |= {"device": self.device, "seed": self.seed}
        return processes.rank_zero_first(lambda: load_data(str(source or own), **options))

    @cached_property
    def graph(self) -> ChannelGraph:
        """The trace of the unpruned network."""
        return self._trace(self._fresh())

    def baseline(self) -> nn.Module:
        """The network before pruning: trained, that of `baseline_from`, or read from weights."""
        if "baseline" not in self._networks:
            weights = self.recipe.model.weights
            model = self._fresh(weights)
            if weights is None:
                home = f"{self.recipe.baseline_from or self.recipe.name}-{self.seed}"
                file = self.out / home / "baseline.safetensors"
                settings = self.recipe.baseline
                self._optimizer = self._trainings.train("baseline", model, settings, file)
            self._networks["baseline"] = model.to(self.device)
        return self._networks["baseline"]

    def sensitivity(self) -> pd.DataFrame:
        """The accuracy with each layer or stage of the recipe pruned alone, not retrained.

        As of `measure_sensitivity`, on the validation split; kept in sensitivity.csv.
        """
        if not self.recipe.sensitivity:
            return pd.DataFrame()
        found = measure_sensitivity(
            self.baseline(),
            self.data,
            layers=self.recipe.sensitivity,
            criterion=self.recipe.prune.criterion if self.recipe.prune else "l1",
            seed=self.seed,
            store=self.folder / "sensitivity.jsonl",
            progress=True,
        )
        write_whole(self.folder / "sensitivity.csv", found.to_csv(index=False))
        return found

    def plan(self) -> PruningPlan | None:
        """Which filters go, by the recipe; kept in plan.json. None where nothing is pruned."""
        recipe = self.recipe.prune
        if recipe is None:
            return None
        if recipe.schedule != "once" and self.recipe.retrain is not None:
            # each choice looks at weights retrained after the one before
            plan = plan_of(self.retrained())
        else:
            plan = self._plan(self.trace_pruned_from(), recipe)
        write_whole(self.folder / "plan.json", plan.to_json())
        return plan

    def pruned(self) -> nn.Module | None:
        """The baseline without the filters, before any retraining; None where there is none."""
        if self.recipe.prune is None or self.recipe.retrain is None:
            return None
        if "pruned" not in self._networks:
            plan = self.plan()
            assert plan is not None
            self._networks["pruned"] = prune(self.baseline(), plan)
        return self._networks["pruned"]

    def retrained(self) -> nn.Module | None:
        """The pruned network after retraining, saved as pruned.safetensors.

        None where nothing is pruned (the baseline is then trained) or nothing retrained.
        """
        settings, recipe = self.recipe.retrain, self.recipe.prune
        if recipe is None:
            self.baseline()
        if recipe is None or settings is None:
            return None
        if "retrained" not in self._networks:
            if recipe.schedule == "once":
                model = copy.deepcopy(self.pruned())
                assert model is not None
                optimizer = carry_momentum(self._optimizer, self.baseline(), model)
                file = self.folder / "retrain.safetensors"
                self._trainings.train("retrained", model, settings, file, optimizer)
            else:
                first, trainings = self.baseline(), self._trainings
                model = prune_in_steps(first, self._optimizer, recipe, settings, trainings)
            self._networks["retrained"] = model
            self._trainings.save("pruned.safetensors", model, self.recipe.name, "retrained")
        return self._networks["retrained"]

    def scratch(self) -> nn.Module | None:
        """The pruned network from fresh weights, trained as the baseline was.

        Saved as scratch.safetensors. None for a recipe without it.
        """
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
            settings = self.recipe.baseline
            if self.recipe.scratch == "B":  # as many operations
                cost = total_cost(self.graph, plan)["flops"]
                longer = cost["before"] / cost["after"]
                settings = replace(settings, epochs=round(settings.epochs * longer))
            file = self.folder / "scratch-training.safetensors"
            self._trainings.train(kind, model, settings, file)
            self._networks[kind] = model
            self._trainings.save("scratch.safetensors", model, self.recipe.name, kind)
        return self._networks[kind]

    def history(self) -> pd.DataFrame:
        """The epochs of all trainings so far, with columns `kind` and `step`.

        The step is that of a schedule, from 1; 0 without.
        """
        return self._trainings.history()

    def log(self) -> pd.DataFrame:
        """Every epoch logged so far, as in `history`: also by another process still at it."""
        return read_log(self.folder)

    def report(self) -> pd.DataFrame:
        """A tidy row for each network so far, as of `replay`.

        Kept in rows.csv, and gathered in `<out>/results.csv`.
        """
        self.pruned()
        return report_rows(self._networks, self.recipe, self.graph, self._trainings, self.out)

    def summary(self) -> pd.DataFrame:
        """The report for reading: percent, millions and milliseconds, a line for each network."""
        return summarise(self.report())

    def files(self) -> dict[str, str]:
        """What the run left in its folder: {file: what it is}."""
        return list_files(self.folder)

    def trace_pruned_from(self) -> ChannelGraph:
        """The trace of the network whose filters the plan chooses among.

        A scratch row needs widths only, so fresh weights do.
        """
        if self.recipe.retrain is None and self.recipe.prune is not None:
            return self.graph
        return self._trace(self.baseline())

    def cost(self) -> pd.DataFrame:
        """`measure_cost` of the unpruned network under the plan."""
        return measure_cost(self.graph, self.plan(), shortcuts=self.recipe.shortcuts)

    def _fresh(self, weights: str | None = None) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return load_model(self.recipe.model.name, num_classes=self.num_classes, weights=weights)

    def _trace(self, model: nn.Module) -> ChannelGraph:
        return trace(model, torch.zeros(self.data.image_shape))

    def _plan(self, graph: ChannelGraph, recipe: PruneRecipe) -> PruningPlan:
        return plan_by_recipe(recipe, recipe.all_ratios, graph, self.data, self.seed)
