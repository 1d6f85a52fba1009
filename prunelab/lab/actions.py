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

from prunelab import charts
from prunelab.lab.export import code_text, save_recipe
from prunelab.lab.jobs import Job, JobBar, Report
from prunelab.lab.live import live, table
from prunelab.lab.state import State
from prunelab.pruning import compare_with_silenced, prune, save_pruned
from prunelab.training import RETRAINING, TrainSettings, compare_networks, train
from prunelab.utils.tensors import read_header

SEALED = 64  # images on which the pruned network is held against the silenced one
SHORT_LABEL = {"description_width": "20px"}
WRAPPED = {"flex_flow": "row wrap", "align_items": "center"}


class Actions(widgets.VBox):
    """Evaluate, Retrain, Seal, Save recipe, Save model, Copy as code."""

    def __init__(self, state: State, desk: threading.Lock) -> None:
        self.state = state
        self.evaluation, self.seal_text, self.saved = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.evaluate = JobBar(
            Job(self._evaluate, desk), "Evaluate", help="whole and pruned, on validation images"
        )
        self.epochs = widgets.BoundedIntText(
            4,
            min=1,
            max=1000,
            description="epochs",
            layout={"width": "130px"},
            style={"description_width": "54px"},
        )
        self.rate = widgets.FloatText(
            0.01,
            step=0.001,
            description="lr",
            tooltip="learning rate, constant; the paper retrains at 0.001",
            layout={"width": "120px"},
            style=SHORT_LABEL,
        )
        self.retrain = JobBar(
            Job(self._retrain, desk),
            "Retrain",
            help="stopped and pressed again, it goes on",
            options=(self.epochs, self.rate),
        )
        self.curve = widgets.VBox()
        self.masked = widgets.Checkbox(
            False,
            description="beside it: filters only set to zero",
            indent=False,
            layout={"width": "280px"},
        )
        self.seal = JobBar(
            Job(self._seal, desk),
            "Seal",
            help="removed must equal silenced: the largest difference",
            options=(self.masked,),
        )
        self.name = widgets.Text(
            "mine", description="as", layout={"width": "260px"}, style=SHORT_LABEL
        )
        self.save_recipe = self._make_button(
            "Save recipe",
            self._save_recipe,
            help="a YAML that prunelab replay and papermill run as it is",
        )
        self.save_model = self._make_button(
            "Save model",
            self._save_model,
            help="the small network as safetensors, for load_pruned",
        )
        self.copy = self._make_button(
            "Copy as code", self._show_code, help="the lines that do the same"
        )
        self.code = widgets.Textarea(rows=13, layout={"width": "100%", "display": "none"})
        keeping = [self.save_recipe, self.save_model, self.name, self.copy]
        super().__init__(
            [
                self.evaluate,
                self.evaluation,
                self.retrain,
                self.curve,
                self.seal,
                self.seal_text,
                widgets.HBox(keeping, layout=WRAPPED),
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
        models = {"whole": network.model, after: state.small}
        found = compare_networks(models, val, on_batch=report)
        if state.leaves(network, plan):
            self.evaluation.value = table(_name_accuracies(found))
        return f"{len(val):,} validation images; test images are for the end."

    def _retrain(self, report: Report) -> str:
        state, settings = self.state, self.settings
        network, plan = state.network, state.plan
        small = prune(network.model, plan, graph=network.graph)
        path = state.folder / f"retrained-{_name(settings)}.safetensors"
        rows: list[dict[str, Any]] = read_header(path)["rows"] if path.exists() else []

        def note(row: dict[str, Any]) -> None:
            rows.append(row)
            if state.leaves(network, plan):
                self._draw_curve(rows)

        try:
            history = train(
                small, network.data, settings, checkpoint=path, on_epoch=note, on_batch=report
            )
        except KeyboardInterrupt:
            where = "Retrain goes on from there" if path.exists() else "Retrain begins anew"
            raise KeyboardInterrupt(
                f"stopped after {len(rows)} of {settings.epochs} epochs; {where}"
            ) from None
        if state.leaves(network, plan):
            state.trained = small
            self._draw_curve(history.to_dict("records"))
            now = "Evaluate and Save model now mean this network."
        else:
            now = (
                "The choice has changed since: go back to it and press Retrain, "
                "and this network is there at once."
            )
        last = history.iloc[-1]
        val, test = last["val_accuracy"], last["test_accuracy"]
        return f"After {len(history)} epochs: validation {val:.1%}, test {test:.1%}. {now}"

    def _draw_curve(self, rows: list[Any]) -> None:
        chart = charts.learning_curves(pd.DataFrame(rows).assign(kind="retrained"))
        if self.curve.children:
            self.curve.children[0].chart = chart
        else:
            self.curve.children = (live(chart),)

    def _seal(self, report: Report) -> str:
        state, network, plan = self.state, self.state.network, self.state.plan
        images, _ = next(iter(network.data.val.batches(SEALED)))
        found = compare_with_silenced(
            network.model,
            plan,
            images.to(network.data.device),
            masked=self.masked.value,
            graph=network.graph,
        )
        report(1, 1)
        if state.leaves(network, plan):
            self.seal_text.value = table(
                _name_seal(found),
                formats={"largest difference": "{:.2g}", "of outputs up to": "{:.2g}"},
            )
        worst, scale = found["max_difference"].iloc[0], found["max_output"].iloc[0]
        verdict = "equals" if worst <= 1e-4 * scale else "DIFFERS FROM"
        return f"Removed {verdict} silenced: max |Δ| = {worst:.1e} of outputs up to {scale:.1f}."

    def _save_recipe(self) -> None:
        path = save_recipe(self.state, self._path(), self.settings)
        self.saved.value = f"Saved. To run it: <code>prunelab replay {escape(str(path))}</code>"

    def _save_model(self) -> None:
        what = "pruned, not retrained" if self.state.trained is None else "retrained"
        path = f"{self._path()}".removesuffix(".safetensors") + ".safetensors"
        saved = save_pruned(path, self.state.small, self.state.plan, info={"state": what})
        code = escape(f"load_pruned({str(saved)!r})")
        self.saved.value = f"Saved, {what}. To load it: <code>{code}</code>"

    def _path(self) -> Path:
        name = self.name.value.strip()
        if not name:
            raise ValueError("give it a name first, in the field beside")
        return Path(name).expanduser().resolve()

    def _show_code(self) -> None:
        hidden = self.code.layout.display == "none"
        self.code.value = code_text(self.state)
        self.code.layout.display = "" if hidden else "none"

    def _make_button(
        self, label: str, function: Callable[[], None], *, help: str
    ) -> widgets.Button:
        button = widgets.Button(description=label, tooltip=help, layout={"width": "130px"})
        button.on_click(lambda _: self.act(function))
        return button

    def act(self, function: Callable[[], None]) -> None:
        """Do it, or say why not."""
        try:
            function()
        except (ValueError, OSError) as error:
            self.saved.value = f"⚠ {escape(str(error))}"


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


def _name(settings: TrainSettings) -> str:
    """A few letters that stand for settings."""
    return hashlib.blake2b(repr(asdict(settings)).encode(), digest_size=4).hexdigest()
