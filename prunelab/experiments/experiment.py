"""An experiment, step by step: baseline, sensitivity, plan, retraining, scratch, report.

Each step leaves its files in the run's folder and, called again, takes them from there instead of
working twice.
"""

import copy
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.optim import SGD

from prunelab.data import DataSplits
from prunelab.experiments.log import read_log
from prunelab.experiments.recipe import PruneRecipe, Recipe, change_recipe, load_recipe
from prunelab.experiments.results import summarise
from prunelab.experiments.rows import count_by_class, report_rows
from prunelab.experiments.run_folder import claim_folder, list_files
from prunelab.experiments.steps import carry_momentum, plan_by_recipe, plan_of, prune_in_steps
from prunelab.experiments.trainings import Trainings
from prunelab.export import Exported, export_network, name_beside
from prunelab.graph import ChannelGraph, trace
from prunelab.measure import choose_ratios, measure_sensitivity
from prunelab.models import (
    Weights,
    fill_network,
    initialise,
    load_data_for,
    load_model,
    open_weights,
)
from prunelab.pruning import PruningPlan, make_plan, measure_cost, prune, total_cost
from prunelab.utils import processes
from prunelab.utils.checks import check_seed
from prunelab.utils.devices import pick_device
from prunelab.utils.paths import runs_dir
from prunelab.utils.seals import write_table
from prunelab.utils.tensors import write_whole

FEW = 50  # validation images, by which layers can hardly be told apart


def replay(
    recipe: Recipe | str | Path,
    *,
    data: DataSplits | str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    out: str | Path | None = None,
    baseline: str | Path | None = None,
) -> pd.DataFrame:
    """Run all of a recipe: what its networks cost and how well they do.

    Stopped at any moment and called again, it goes on; finished, it does nothing twice.

    Args:
        recipe: one of `load_recipe`, a name or a YAML file.
        data: a data set, its name or its folder; None takes the recipe's.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ….
        seed: of weights, batches and the validation split.
        out: where run folders go; None: `data/runs`.
        baseline: as in `Experiment`.

    Returns:
        A tidy row for each network (baseline, pruned, retrained, continued, scratch, as far as the
        recipe makes them); columns recipe, paper, kind, model, dataset, seed, start, start_sha256
        (of a file of weights), epochs, n_train, n_test, test_accuracy, n_val, val_accuracy (both at
        the last epoch), val_accuracy_best, test_accuracy_best, flops (multiply-adds for one image),
        params, params_all, flops_removed, params_removed, seconds, device, processes, torch,
        latency_ms, latency_batch, threads, weights (their digest), evidence (as of `read_rows`).

    Raises:
        ValueError: an unknown recipe, layer or device, or a folder of another run.
        FileNotFoundError: there is no such data.

    Example:
        >>> replay("digits-quick", device="cpu")
    """
    run = Experiment(recipe, data=data, device=device, seed=seed, out=out, baseline=baseline)
    run.retrained()
    run.continued()
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
        wait: whether to wait where another process works in this run's folder; else that is an
            error, which says who.
        changes: settings to change in a recipe of a name or file, as in `load_recipe`.
        weights: in place of the recipe's.
        normalization: likewise.
        image_size: likewise.
        label: likewise.
        baseline: the folder of a run with the same baseline, which is taken from there or, where it
            is not done, trained there; None: as the recipe's `baseline_from` says.

    Attributes:
        recipe, data, device, seed, out: as given.
        folder: of this run.
        num_classes: outputs of the network.

    Raises:
        ValueError: an unknown recipe, layer or device, other classes than the data's, or a folder
            of another run; all before anything is trained.
        FileNotFoundError: there is no such data.
        OSError: at the first work, that another process works in the folder.

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
        wait: bool = False,
        changes: Iterable[str] = (),
        weights: str | Path | None = None,
        normalization: str | None = None,
        image_size: int | None = None,
        label: str | None = None,
        baseline: str | Path | None = None,
    ) -> None:
        loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
        self.recipe = change_recipe(
            loaded, weights=weights, normalization=normalization, image_size=image_size, label=label
        )
        self.device = pick_device(device)
        check_seed(seed)
        self.seed = seed
        self.out = Path(out) if out else runs_dir()
        self.folder = self.out / f"{self.recipe.name}-{seed}"
        self._shared = Path(baseline) if baseline else None
        self.data = data if isinstance(data, DataSplits) else self._load_data(data)
        classes = len(self.data.classes)
        self.num_classes = self.recipe.model.num_classes or classes
        if self.num_classes != classes:
            raise ValueError(
                f"recipe {self.recipe.name!r} makes a model of {self.num_classes} classes and "
                f"{self.data.name} has {classes}; set model.num_classes={classes}, or give other "
                "data"
            )
        self._trainings = Trainings(self.folder, self.data, self.device, seed, wait)
        self._networks: dict[str, nn.Module] = {}
        self._optimizer: SGD | None = None  # of the baseline's training
        # a wrong layer is said before anything is trained
        if self.recipe.prune is not None:
            self._plan(self.graph, self.recipe.prune, self.recipe.prune.all_ratios)
        for name in self.recipe.sensitivity:
            self.graph.select(name)
        claim_folder(self.folder, self.recipe, seed, self.data)

    def _load_data(self, source: str | Path | None) -> DataSplits:
        name, options = self.recipe.model.name, self.recipe.data.model_dump()
        own = options.pop("source")
        options |= {"device": self.device, "seed": self.seed}
        return processes.rank_zero_first(
            lambda: load_data_for(name, self._start, source or own, **options)
        )

    @cached_property
    def _start(self) -> Weights | None:
        """The weights that the recipe begins with."""
        model = self.recipe.model
        return None if model.weights is None else open_weights(model.name, model.weights)

    @cached_property
    def graph(self) -> ChannelGraph:
        """The trace of the unpruned network."""
        return self._trace(self._fresh())

    def baseline(self) -> nn.Module:
        """The network before pruning: trained, that of `baseline_from`, or read from weights.

        With `fine_tune`, it is trained on from the weights.
        """
        if "baseline" not in self._networks:
            recipe, start = self.recipe, self._start
            settings = recipe.baseline if start is None else recipe.fine_tune
            model = self._fresh() if start is None else self._fill(start)
            if settings is not None:
                shared = recipe.baseline_from if start is None else None
                home = self._shared or self.out / f"{shared or recipe.name}-{self.seed}"
                file = home / "baseline.safetensors"
                self._optimizer = self._trainings.train("baseline", model, settings, file)
            self._networks["baseline"] = model.to(self.device)
        return self._networks["baseline"]

    def sensitivity(self) -> pd.DataFrame:
        """The accuracy with each layer or stage of the recipe pruned alone, not retrained.

        As of `measure_sensitivity`, on the validation split; kept in sensitivity.csv. Where ratios
        are chosen by a budget and the recipe names no layers, it is of all that may be pruned.
        """
        recipe = self.recipe.prune
        layers: tuple[str, ...] = self.recipe.sensitivity
        if not layers and recipe is not None and recipe.max_flops is not None:
            whole = {group.leader for name in recipe.skip for group in self.graph.select(name)}
            leaders = (group.leader for group in self.graph.groups if group.prunable)
            layers = tuple(name for name in leaders if name not in whole)
        if not layers:
            return pd.DataFrame()
        found = measure_sensitivity(
            self.baseline(),
            self.data,
            layers=layers,
            criterion=recipe.criterion if recipe else "l1",
            seed=self.seed,
            store=self.folder / "sensitivity.jsonl",
            progress=True,
        )
        write_table(self.folder / "sensitivity.csv", found)
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
            plan = self._plan(self.trace_pruned_from(), recipe, self.ratios())
        write_whole(self.folder / "plan.json", plan.to_json())
        return plan

    def ratios(self) -> dict[str, float]:
        """The fraction of filters that goes from each layer: the recipe's, or by its budget."""
        recipe = self.recipe.prune
        if recipe is None:
            return {}
        return recipe.all_ratios if recipe.max_flops is None else self._chosen

    @cached_property
    def _chosen(self) -> dict[str, float]:
        """The ratios of the recipe's budget."""
        recipe = self.recipe.prune
        assert recipe is not None
        if len(self.data.val) < FEW:
            print(
                f"ratios are chosen by {len(self.data.val)} validation images, which is few: "
                "data.val_fraction=0.3 holds out more"
            )
        how: dict[str, Any] = {"max_flops": recipe.max_flops, "per": recipe.per}
        return choose_ratios(self.sensitivity(), self.graph, align=recipe.align, **how)

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
                ratios = self.ratios()
                model = prune_in_steps(first, self._optimizer, recipe, ratios, settings, trainings)
            self._networks["retrained"] = model
            self._trainings.save("pruned.safetensors", model, self.recipe.name, "retrained")
        return self._networks["retrained"]

    def continued(self) -> nn.Module | None:
        """The whole network, trained on for as long as the pruned one is retrained.

        Saved as continued.safetensors. None for a recipe without it.
        """
        settings = self.recipe.retrain
        if not self.recipe.continued or settings is None or self.retrained() is None:
            return None
        if "continued" not in self._networks:
            steps = max(self._trainings.history("retrained")["step"], default=0)
            # nothing goes: a copy, whose optimiser goes on as that of the pruned one does
            model = prune(self.baseline(), make_plan(self._trace(self.baseline()), {}))
            optimizer = carry_momentum(self._optimizer, self.baseline(), model)
            for step in range(1, steps + 1) if steps else [0]:
                file = self.folder / f"continued-training{f'-{step}' if steps else ''}.safetensors"
                optimizer = self._trainings.train(
                    "continued", model, settings, file, optimizer, step=step
                )
            self._networks["continued"] = model
            self._trainings.save("continued.safetensors", model, self.recipe.name, "continued")
        return self._networks["continued"]

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
        """A tidy row for each network so far, as of `replay`; kept in rows.csv."""
        self.pruned()
        return report_rows(self._networks, self.recipe, self.graph, self._trainings)

    def summary(self) -> pd.DataFrame:
        """The report for reading: percent, millions and milliseconds, a line for each network."""
        return summarise(self.report())

    def classes(self) -> pd.DataFrame:
        """How often each network is right about each class of the test split.

        As of `count_classes`; kept in classes.csv.
        """
        return count_by_class(self._networks, self._trainings)

    def export(self, to: str = "onnx") -> Exported:
        """Write the retrained network (else the baseline) for use elsewhere, into the folder.

        Args:
            to: as in `export_network`, which also checks what was written, on 64 test images.

        Returns:
            What was written and how it was checked.
        """
        small, kind = self.retrained(), "retrained"
        if small is None:
            small, kind = self.baseline(), "baseline"
        return export_network(
            small,
            name_beside(self.folder / ("pruned" if kind == "retrained" else kind), to),
            to=to,
            example_input=torch.zeros(self.data.image_shape),
            images=next(self.data.test.batches(64))[0].cpu(),
            info=self._trainings.describe(self.recipe.name, kind),
        )

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

    def _fresh(self) -> nn.Module:
        """The network with fresh weights; with the filters it has where its weights are pruned."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = load_model(self.recipe.model.name, num_classes=self.num_classes)
        pruned = self._start and self._start.plan
        return prune(model, pruned) if pruned else model

    def _fill(self, weights: Weights) -> nn.Module:
        recipe = self.recipe.model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)  # of a new last layer
            return fill_network(recipe.name, self.num_classes, weights, recipe.new_head)

    def _trace(self, model: nn.Module) -> ChannelGraph:
        return trace(model, torch.zeros(self.data.image_shape))

    def _plan(
        self, graph: ChannelGraph, recipe: PruneRecipe, ratios: dict[str, float]
    ) -> PruningPlan:
        return plan_by_recipe(recipe, ratios, graph, self.data, self.seed)
