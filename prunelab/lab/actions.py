"""Below the tabs: what is done with the choice. Evaluate, retrain, check."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ipywidgets as widgets
import pandas as pd

from prunelab import charts
from prunelab.lab.jobs import Job, JobBar, as_sentence
from prunelab.lab.live import live, redraw, table
from prunelab.lab.saving import Saving
from prunelab.lab.state import State, Training, Tray, find_checkpoint, retrain
from prunelab.pruning import PruningPlan, compare_with_silenced, prune
from prunelab.training import RETRAINING, TrainSettings, compare_networks
from prunelab.utils.progress import Report
from prunelab.utils.tensors import read_header

SEALED = 64  # images that Seal runs
SHORT = {"description_width": "initial"}


class Actions(widgets.VBox):
    """Evaluate, Retrain, Seal, and what keeps the choice.

    What is said here is of one plan: it goes with that plan, and comes back with it.
    """

    def __init__(self, state: State, tray: Tray, desk: threading.Lock) -> None:
        self.state, self.tray = state, tray
        self.evaluation, self.seal_text = widgets.HTML(), widgets.HTML()
        self.evaluate = self._make_bar(
            "Evaluate", self._evaluate, desk, "whole, pruned and retrained, on validation images"
        )
        self.epochs = widgets.BoundedIntText(
            4, min=1, max=1000, description="epochs", layout={"width": "120px"}, style=SHORT
        )
        self.rate = widgets.FloatText(
            0.01,
            step=0.001,
            description="lr",
            tooltip="learning rate, constant; the paper retrains at 0.001",
            layout={"width": "100px"},
            style=SHORT,
        )
        self.retrain = self._make_bar(
            "Retrain",
            self._retrain,
            desk,
            "stopped and pressed again, it goes on",
            (self.epochs, self.rate),
        )
        self.curve = widgets.VBox()
        self.masked = widgets.Checkbox(
            False,
            description="and filters only set to zero",
            indent=False,
            layout={"width": "200px"},
        )
        self.seal = self._make_bar(
            "Seal",
            self._seal,
            desk,
            "removed must equal silenced: the largest difference",
            (self.masked,),
        )
        self.saving = Saving(state, lambda: self.settings)
        parts = [self.evaluate, self.evaluation, self.retrain, self.curve, self.seal]
        super().__init__([*parts, self.seal_text, self.saving])
        self.add_class("prunelab-actions")
        state.observe(self._follow, ["plan", "network", "noted"])

    def _make_bar(
        self,
        label: str,
        work: Callable[[State, PruningPlan, Report], str],
        desk: threading.Lock,
        help: str,
        options: tuple[widgets.Widget, ...] = (),
    ) -> JobBar:
        """A job whose last words are noted of the plan that it was of."""

        def of_a_plan(report: Report) -> str:
            state, network, plan = self.state, self.state.network, self.state.plan
            try:
                said = work(state, plan, report)
            except (KeyboardInterrupt, ValueError, OSError) as error:
                said = as_sentence(error)
            if state.network is network:
                state.note(f"{label} said", said, plan)
            if state.leaves(network, plan):
                return said
            return "It was of another choice, and is told there: undo, or Plans, lead back."

        return JobBar(Job(of_a_plan, desk), label, help=help, unit="images", options=options)

    @property
    def settings(self) -> TrainSettings:
        """How it is retrained: the paper's settings at this many epochs and this rate."""
        size = min(RETRAINING.batch_size, max(8, len(self.state.network.data.train) // 40))
        return replace(RETRAINING, epochs=self.epochs.value, lr=self.rate.value, batch_size=size)

    def _follow(self, _: object) -> None:
        """Show what was said of the plan at hand."""
        state = self.state
        for bar in (self.evaluate, self.retrain, self.seal):
            if not bar.job.running:
                bar.job.message = state.find(f"{bar.start.description} said") or ""
        training, history = state.training, state.find("history")
        if training is not None:
            history = training.history
            if not self.retrain.job.running:
                self.retrain.job.message = describe_training(training)
        found, sealed = state.find("evaluation"), state.find("seal")
        self.evaluation.value = "" if found is None else table(_name_accuracies(found))
        if found is not None and training is not None and "retrained" not in set(found["network"]):
            self.evaluation.value += "<p>Before it was retrained: Evaluate adds that network.</p>"
        self.seal_text.value = "" if sealed is None else table(_name_seal(sealed), formats=SMALL)
        self._draw_curve(history)

    def _evaluate(self, state: State, plan: PruningPlan, report: Report) -> str:
        network, trained = state.network, state.trained
        models = {"whole": network.model}
        if plan.removed:
            models["pruned, not retrained"] = prune(network.model, plan, graph=network.graph)
        if trained is not None:
            models["retrained"] = trained
        val = network.data.val
        found = compare_networks(models, val, on_batch=report)
        state.note("evaluation", found, plan)
        return f"{len(val):,} validation images; test images are for the end."

    def _retrain(self, state: State, plan: PruningPlan, report: Report) -> str:
        settings, network, wish = self.settings, state.network, state.wish
        path = find_checkpoint(network, plan, settings)
        cost = network.cost(plan)
        gone = 1 - cost["flops_after"].sum() / cost["flops"].sum()
        self.retrain.unit = f"images (epochs: {settings.epochs}) of the plan at −{gone:.1%}"
        rows: list[dict[str, Any]] = read_header(path)["rows"] if path.exists() else []
        seen = [0, 1]

        def note(row: dict[str, Any]) -> None:
            rows.append(row)
            if state.network is network:
                state.note("history", pd.DataFrame(rows), plan)

        def look(done: int, total: int) -> None:
            seen[:] = done, total
            report(done, total)

        try:
            training = retrain(network, plan, settings, on_epoch=note, on_batch=look)
        except KeyboardInterrupt:
            done = f"{len(rows)} of {settings.epochs} epochs"
            part = seen[0] - len(rows) * (seen[1] // settings.epochs)
            if part > 0:
                done += f" and {part:,} images of the next"
            raise KeyboardInterrupt(f"stopped after {done}; Retrain goes on from there") from None
        if state.network is network:
            state.note("training", training, plan)
            self.tray.pin(wish, plan, training)
        return describe_training(training)

    def _draw_curve(self, history: pd.DataFrame | None) -> None:
        """Train and validation; test accuracy is not for choosing."""
        if history is None or history.empty:
            before, self.curve.children = self.curve.children, ()
            for chart in before:
                chart.close()
            return
        shown = history.drop(columns=["test_accuracy", "test_loss"]).assign(kind="retrained")
        chart = charts.learning_curves(shown)
        if self.curve.children:
            redraw(self.curve.children[0], chart)
        else:
            self.curve.children = (live(chart),)

    def _seal(self, state: State, plan: PruningPlan, report: Report) -> str:
        network = state.network
        images, _ = next(iter(network.data.val.batches(SEALED)))
        found = compare_with_silenced(
            network.model,
            plan,
            images.to(network.data.device),
            masked=self.masked.value,
            graph=network.graph,
        )
        report(len(images), len(images))
        state.note("seal", found, plan)
        worst, scale = found["max_difference"].iloc[0], found["max_output"].iloc[0]
        verdict = "equals" if worst <= 1e-4 * scale else "DIFFERS FROM"
        return f"Removed {verdict} silenced: max |Δ| = {worst:.1e} of outputs up to {scale:.1f}."


def describe_training(training: Training) -> str:
    """What came of it, in a sentence."""
    accuracy = training.history["val_accuracy"].iloc[-1]
    return (
        f"Retrained for {len(training.history)} epochs: {accuracy:.1%} of the validation images "
        "are right. This network is now what Save model keeps; Plans has it, too."
    )


SMALL: dict[str, Any] = {"largest difference": "{:.2g}", "of outputs up to": "{:.2g}"}


def _name_accuracies(found: pd.DataFrame) -> pd.DataFrame:
    """`compare_networks` for reading: accuracies in per cent."""
    named = found[["network", "correct", "total"]].copy()
    names = {"accuracy": "accuracy, %", "accuracy_low": "95 % from", "accuracy_high": "to"}
    for column, name in names.items():
        named[name] = 100 * found[column]
    return named


def _name_seal(found: pd.DataFrame) -> pd.DataFrame:
    """`compare_with_silenced` for reading."""
    names = {
        "network": "beside silenced",
        "max_difference": "largest difference",
        "max_output": "of outputs up to",
        "changed": "changed predictions",
    }
    return found.replace({"network": {"masked": "filters set to zero"}}).rename(columns=names)
