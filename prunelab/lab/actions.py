"""Below: what is done with the choice. Evaluate, retrain, check, and keep it."""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pandas as pd
import torch
from torch import nn

from prunelab import charts
from prunelab.batches import FileSplit, Split
from prunelab.checkpoint import read_header, save_pruned
from prunelab.lab.export import code_text, save_recipe
from prunelab.lab.jobs import Job, JobBar, Report
from prunelab.lab.state import State
from prunelab.lab.views import live, table
from prunelab.oracle import mask, silence
from prunelab.sensitivity import wilson
from prunelab.surgery import prune
from prunelab.training import RETRAINING, TrainSettings, evaluate, train

SEALED = 64  # images on which the pruned network is held against the silenced one


class Actions(widgets.VBox):
    """Evaluate, Retrain, Seal, Save recipe, Save model, Copy as code."""

    def __init__(self, state: State, desk: threading.Lock) -> None:
        self.state = state
        self.evaluation, self.seal_text, self.saved = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.evaluate = JobBar(Job(self._evaluate, desk), "Evaluate", help="whole and pruned, on validation images")
        self.epochs = widgets.BoundedIntText(
            4, min=1, max=1000, description="epochs", layout={"width": "130px"}, style={"description_width": "54px"}
        )
        self.rate = widgets.FloatText(
            0.01, description="lr", step=0.001, layout={"width": "120px"}, style={"description_width": "20px"},
            tooltip="learning rate, constant; the paper retrains at 0.001",
        )  # fmt: skip
        self.retrain = JobBar(
            Job(self._retrain, desk),
            "Retrain",
            help="stopped and pressed again, it goes on",
            options=(self.epochs, self.rate),
        )
        self.curve = widgets.VBox()
        self.masked = widgets.Checkbox(
            False, description="beside it: filters only set to zero", indent=False, layout={"width": "280px"}
        )
        self.seal = JobBar(
            Job(self._seal, desk),
            "Seal",
            help="removed must equal silenced: the largest difference",
            options=(self.masked,),
        )
        self.name = widgets.Text(
            "mine", description="as", layout={"width": "260px"}, style={"description_width": "20px"}
        )
        self.save_recipe = self._button(
            "Save recipe", "a YAML that prunelab replay and papermill run as it is", self._save_recipe
        )
        self.save_model = self._button(
            "Save model", "the small network as safetensors, for load_pruned", self._save_model
        )
        self.copy = self._button("Copy as code", "the lines that do the same", self._show_code)
        self.code = widgets.Textarea(rows=13, layout={"width": "100%", "display": "none"})
        row = widgets.HBox(
            [self.save_recipe, self.save_model, self.name, self.copy],
            layout={"flex_flow": "row wrap", "align_items": "center"},
        )
        super().__init__(
            [
                self.evaluate,
                self.evaluation,
                self.retrain,
                self.curve,
                self.seal,
                self.seal_text,
                row,
                self.saved,
                self.code,
            ]
        )
        state.observe(self._forget, ["plan", "network"])

    @property
    def settings(self) -> TrainSettings:
        """How it is retrained: the paper's settings at this many epochs and this rate."""
        size = min(RETRAINING.batch_size, max(8, len(self.state.network.data.train) // 40))
        return replace(RETRAINING, epochs=self.epochs.value, lr=self.rate.value, batch_size=size)

    def _forget(self, _: object) -> None:
        """What was said of another plan is not said of this one."""
        self.evaluation.value = self.seal_text.value = self.saved.value = ""
        self.curve.children = ()
        self.code.layout.display = "none"

    def _evaluate(self, report: Report) -> str:
        state, val = self.state, self.state.network.data.val
        network, plan = state.network, state.plan
        after = "pruned, not retrained" if state.trained is None else "retrained"
        found = evaluate_both({"whole": state.network.model, after: state.small}, val, report)
        if state.leaves(network, plan):
            self.evaluation.value = table(found)
        return f"{len(val):,} validation images; test images are for the end."

    def _retrain(self, report: Report) -> str:
        state, network, plan, settings = self.state, self.state.network, self.state.plan, self.settings
        small = prune(network.model, plan, graph=network.graph)
        path = state.folder / f"retrained-{_name(settings)}.safetensors"
        rows: list[dict[str, Any]] = read_header(path)["rows"] if path.exists() else []

        def note(row: dict[str, Any]) -> None:
            rows.append(row)
            if state.leaves(network, plan):
                self._draw_curve(rows)

        try:
            history = train(small, network.data, settings, checkpoint=path, on_epoch=note, on_batch=report)
        except KeyboardInterrupt:
            where = "Retrain goes on from there" if path.exists() else "Retrain begins anew"
            raise KeyboardInterrupt(f"stopped after {len(rows)} of {settings.epochs} epochs; {where}") from None
        last, still = history.iloc[-1], state.leaves(network, plan)
        if still:
            state.trained = small
            self._draw_curve(history.to_dict("records"))
        now = (
            "Evaluate and Save model now mean this network"
            if still
            else ("The choice has changed since: go back to it and press Retrain, and this network is there at once")
        )
        return f"After {len(history)} epochs: validation {last['val_accuracy']:.1%}, test {last['test_accuracy']:.1%}. {now}."

    def _draw_curve(self, rows: list[Any]) -> None:
        chart = charts.learning_curves(pd.DataFrame(rows).assign(kind="retrained"))
        if self.curve.children:
            self.curve.children[0].chart = chart
        else:
            self.curve.children = (live(chart),)

    def _seal(self, report: Report) -> str:
        state, network, plan = self.state, self.state.network, self.state.plan
        images, _ = next(iter(state.network.data.val.batches(SEALED)))
        found = seal(state, images.to(state.network.data.device), masked=self.masked.value)
        report(1, 1)
        if state.leaves(network, plan):
            self.seal_text.value = table(found.map(lambda v: f"{v:.2g}" if isinstance(v, float) else v))
        worst = float(found["largest difference"].iloc[0])
        scale = float(found["of outputs up to"].iloc[0])
        good = worst <= 1e-4 * scale
        return f"Removed {'equals' if good else 'DIFFERS FROM'} silenced: max |Δ| = {worst:.1e} of outputs up to {scale:.1f}."

    def _save_recipe(self) -> None:
        path = save_recipe(self.state, self._path(), self.settings)
        self.saved.value = f"Saved. To run it: <code>prunelab replay {escape(str(path))}</code>"

    def _save_model(self) -> None:
        what = "pruned, not retrained" if self.state.trained is None else "retrained"
        path = save_pruned(
            f"{self._path()}".removesuffix(".safetensors") + ".safetensors",
            self.state.small,
            self.state.plan,
            info={"state": what},
        )
        self.saved.value = f"Saved, {what}. To load it: <code>load_pruned({escape(repr(str(path)))})</code>"

    def _path(self) -> Path:
        name = self.name.value.strip()
        if not name:
            raise ValueError("give it a name first, in the field beside")
        return Path(name).expanduser().resolve()

    def _show_code(self) -> None:
        hidden = self.code.layout.display == "none"
        self.code.value = code_text(self.state)
        self.code.layout.display = "" if hidden else "none"

    def _button(self, label: str, help: str, function: Callable[[], None]) -> widgets.Button:
        button = widgets.Button(description=label, tooltip=help, layout={"width": "130px"})
        button.on_click(lambda _: self.act(function))
        return button

    def act(self, function: Callable[[], None]) -> None:
        """Do it, or say why not."""
        try:
            function()
        except (ValueError, OSError) as error:
            self.saved.value = f"⚠ {escape(str(error))}"


def _name(settings: TrainSettings) -> str:
    """A few letters that stand for settings."""
    return hashlib.blake2b(repr(asdict(settings)).encode(), digest_size=4).hexdigest()


def evaluate_both(models: dict[str, nn.Module], split: Split | FileSplit, report: Report | None = None) -> pd.DataFrame:
    """A row for each network: right answers, images, accuracy and its 95 % interval, in per cent."""
    rows = []
    for i, (name, model) in enumerate(models.items()):

        def note(done: int, total: int, before: int = i) -> None:
            if report:
                report(before * total + done, len(models) * total)

        found = evaluate(model, split, on_batch=note)
        low, high = wilson(found.correct, found.total)
        rows.append(
            {"network": name, "right": found.correct, "of": found.total, "accuracy, %": 100 * found.accuracy,
             "95 % from": 100 * low, "to": 100 * high}
        )  # fmt: skip
    return pd.DataFrame(rows)


def seal(state: State, images: torch.Tensor, *, masked: bool) -> pd.DataFrame:
    """How far the pruned network is from the silenced one (what removing means), and with `masked` how far one is
    whose filters are only zero. A row for each; the answers that differ are counted."""
    network = state.network
    others = {"removed": prune(network.model, state.plan, graph=state.graph)}
    if masked:
        others["filters set to zero"] = mask(network.model, state.plan, graph=state.graph)
    rows = []
    with torch.inference_mode():
        truth = silence(network.model, state.plan, graph=state.graph).eval()(images)
        for name, other in others.items():
            logits = other.eval()(images)
            rows.append(
                {"beside silenced": name, "largest difference": float((logits - truth).abs().max()),
                 "of outputs up to": float(truth.abs().max()),
                 "other answers": int((logits.argmax(1) != truth.argmax(1)).sum()), "images": len(images)}
            )  # fmt: skip
    return pd.DataFrame(rows)
