"""The trainings of a run: each with its checkpoint and log, and all their epochs."""

import weakref
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.optim import SGD

from prunelab.data import DataSplits
from prunelab.experiments.log import find_unlogged
from prunelab.models import save_pruned
from prunelab.pruning import PruningPlan
from prunelab.training import TrainSettings, count_epochs, make_optimizer, train
from prunelab.utils import processes
from prunelab.utils.checks import SEEDS
from prunelab.utils.ownership import own, owning
from prunelab.utils.seals import append_line, write_table

SEED_STEP = 1_000_003  # between the seeds of a schedule's trainings: shuffles and crops of its own


class Trainings:
    """Trains the networks of a run, and keeps every epoch in its folder."""

    def __init__(
        self, folder: Path, data: DataSplits, device: torch.device, seed: int, wait: bool = False
    ) -> None:
        self.folder, self.data, self.device, self.seed, self.wait = folder, data, device, seed, wait
        self._owned = False
        self._histories: list[tuple[str, pd.DataFrame]] = []

    def train(
        self,
        kind: str,
        model: nn.Module,
        settings: TrainSettings,
        checkpoint: Path,
        optimizer: SGD | None = None,
        *,
        step: int = 0,
    ) -> SGD:
        """Train a network in place; what comes back is its optimizer, with the momentum.

        kind: of the network, as in the rows of a report. step: of a schedule, from 1; 0 without.
        """
        with self._own_place(checkpoint, settings.epochs):
            return self._train(kind, model, settings, checkpoint, optimizer, step)

    def _own_place(self, checkpoint: Path, epochs: int) -> AbstractContextManager[None]:
        """Own what is written: nothing of a training that is done and only read."""
        if processes.rank() or count_epochs(checkpoint) >= epochs:
            return nullcontext()
        if checkpoint.parent != self.folder:  # a baseline that is shared: one trains, others wait
            return owning(checkpoint.parent, wait=True)
        self.own()
        return nullcontext()

    def _train(
        self,
        kind: str,
        model: nn.Module,
        settings: TrainSettings,
        checkpoint: Path,
        optimizer: SGD | None,
        step: int,
    ) -> SGD:
        epochs = f"{settings.epochs} epoch{'s' * (settings.epochs != 1)}"
        print(f"{kind}: {epochs} on {self.data.name} ({self.device})", flush=True)

        def log(row: dict[str, Any]) -> None:
            if not processes.rank():
                append_line(self.folder / "log.jsonl", {"kind": kind, "step": step, **row})

        settings = replace(settings, seed=(self.seed + SEED_STEP * step) % SEEDS)
        model.to(self.device)
        optimizer = optimizer or make_optimizer(model, settings)
        history = train(
            model,
            self.data,
            settings,
            optimizer=optimizer,
            checkpoint=checkpoint,
            progress=True,
            on_epoch=log,
        )
        for row in find_unlogged(self.folder, kind, step, history):
            log(row)  # it was killed between keeping an epoch and logging it
        self._histories.append((kind, history.assign(kind=kind, step=step)))
        write_table(self.folder / "history.csv", self.history())
        return optimizer

    def own(self) -> None:
        """Own the run's folder, from the first work in it until the run is no more."""
        if not self._owned and not processes.rank():
            weakref.finalize(self, own(self.folder, wait=self.wait))
            self._owned = True

    def save(self, name: str, model: nn.Module, recipe: str, kind: str) -> None:
        """Save a pruned network in the run's folder, with where it comes from."""
        plan = model.pruning_plan
        assert isinstance(plan, PruningPlan)
        info = self.describe(recipe, kind)
        save_pruned(self.folder / name, model, plan, info=info)

    def describe(self, recipe: str, kind: str) -> dict[str, Any]:
        """What a network of this run learned from, as plain JSON values."""
        return {"recipe": recipe, "kind": kind, "seed": self.seed, **self.data.describe()}

    def history(self, kind: str | None = None) -> pd.DataFrame:
        """The epochs of all trainings so far, or of those of one kind of network."""
        own = [history for name, history in self._histories if kind in (None, name)]
        return pd.concat(own, ignore_index=True) if own else pd.DataFrame()
