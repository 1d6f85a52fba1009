"""Plans that are kept side by side: in a file of the network's folder, so they outlive the lab."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import traitlets
from pydantic import TypeAdapter

from prunelab.lab.state.choice import State, Wish
from prunelab.lab.state.glance import Glance
from prunelab.lab.state.retraining import Training, find_checkpoint, retrain
from prunelab.pruning import PruningPlan, total_cost
from prunelab.training import TrainSettings
from prunelab.utils.intervals import wilson
from prunelab.utils.seals import read_note, write_note


@dataclass(frozen=True)
class Pin:
    """A plan that is kept.

    Attributes:
        name: by which it is known.
        wish: what was asked for.
        retrained: the settings by which it was retrained; None: it was not.
        flops_left: the fraction of multiply-adds that is left.
        params_left: likewise of parameters.
        correct: predictions on validation images.
        total: these images; 0: none were looked at.
        shares: {layer: fraction of its filters that goes}, of layers that can lose some.
    """

    name: str
    wish: Wish
    retrained: TrainSettings | None
    flops_left: float
    params_left: float
    correct: int
    total: int
    shares: dict[str, float]


PINS = TypeAdapter(tuple[Pin, ...])


class Tray(traitlets.HasTraits):
    """The plans that are kept for the network at hand, oldest first.

    Several labs may keep plans of one network: each reads the file again before it writes.

    Attributes:
        pins: these (a trait).
        trouble: what is wrong with the file that holds them (a trait).
    """

    pins = traitlets.Tuple()
    trouble = traitlets.Unicode()

    def __init__(self, state: State, glance: Glance) -> None:
        super().__init__()
        self.state, self.glance = state, glance
        state.observe(self._open, "network")
        self._open()

    @property
    def path(self) -> Path:
        """The file that holds them."""
        return self.state.network.folder / "plans.json"

    def _open(self, _: object = None) -> None:
        """Read those of this network."""
        self.pins, self.trouble = (), ""
        if self.path.exists():
            try:
                self.pins = self._read()
            except ValueError:
                self.trouble = (
                    f"{self.path} holds no list of plans, or was changed; when one is pinned, it "
                    f"is kept as {self._spoilt.name}"
                )

    def _read(self) -> tuple[Pin, ...]:
        if (content := self.path.read_bytes()).startswith(b"["):  # of a version without checksums
            return PINS.validate_json(content)
        return PINS.validate_json(json.dumps(read_note(self.path).get("pins")))

    @property
    def _spoilt(self) -> Path:
        return self.path.with_suffix(".spoilt.json")

    def _change(self, change: Callable[[tuple[Pin, ...]], tuple[Pin, ...]]) -> None:
        """Change the pins as they are in the file now."""
        with self.state.lock:
            self._open()
            pins = change(self.pins)
            if self.trouble:
                self.path.replace(self._spoilt)
            write_note(self.path, {"pins": PINS.dump_python(pins, mode="json")})
            self.pins, self.trouble = pins, ""

    def pin(
        self,
        wish: Wish | None = None,
        plan: PruningPlan | None = None,
        training: Training | None = None,
    ) -> None:
        """Keep a plan, by default the one at hand; one that is kept already is counted anew."""
        state = self.state
        if wish is None or plan is None:
            wish, plan, training = state.wish, state.plan, state.training
        costs = total_cost(state.graph, plan)
        left = (costs.loc["after"] / costs.loc["before"]).to_dict()
        counted = self.glance.count(training.model if training else state.small)
        free = [group for group in state.graph.groups if group.prunable]
        made = Pin(
            name="",
            wish=wish,
            retrained=training.settings if training else None,
            flops_left=left["flops"],
            params_left=left["params"],
            correct=counted.correct if counted else 0,
            total=counted.total if counted else 0,
            shares={g.leader: round(1 - len(plan.keep[g.leader]) / g.size, 4) for g in free},
        )

        def add(pins: tuple[Pin, ...]) -> tuple[Pin, ...]:
            what = made.wish, made.retrained
            same = next((own for own in pins if (own.wish, own.retrained) == what), None)
            named = replace(made, name=same.name if same else _next_name(pins))
            return (*(own for own in pins if own is not same), named)

        self._change(add)

    def load(self, pin: Pin) -> None:
        """Take the choice of a pin, with its retrained network.

        Raises:
            FileNotFoundError: the file of that network is gone; nothing has changed then.
        """
        state, plan = self.state, pin.wish.plan(self.state.network)
        if pin.retrained is not None:
            path = find_checkpoint(state.network, plan, pin.retrained)
            if not path.exists():
                raise FileNotFoundError(
                    f"the retrained network of {pin.name} was in {path}, which is gone: take its "
                    "ratios by hand, and retrain it again"
                )
        state.ask(pin.wish)
        if (state.training.settings if state.training else None) != pin.retrained:
            state.forget()
            if pin.retrained is not None:
                state.note("training", retrain(state.network, plan, pin.retrained))

    def rename(self, pin: Pin, name: str) -> bool:
        """Know a pin by another name; False for an empty one, or that of another pin."""
        name = name.strip()
        if not name or name in {own.name for own in self.pins}:
            return False
        named = replace(pin, name=name)
        self._change(lambda pins: tuple(named if own == pin else own for own in pins))
        return True

    def drop(self, pin: Pin) -> None:
        """Keep a pin no longer."""
        self._change(lambda pins: tuple(own for own in pins if own != pin))

    def frame(self) -> pd.DataFrame:
        """A row for each pin; columns name, flops_left, params_left, accuracy, accuracy_low,
        accuracy_high, correct, total, retrained (bool), epochs, lr, ratios."""
        rows = []
        for pin in self.pins:
            low, high = wilson(pin.correct, pin.total) if pin.total else (None, None)
            row = {
                "name": pin.name,
                "flops_left": pin.flops_left,
                "params_left": pin.params_left,
                "accuracy": pin.correct / pin.total if pin.total else None,
                "accuracy_low": low,
                "accuracy_high": high,
                "correct": pin.correct,
                "total": pin.total,
                "retrained": pin.retrained is not None,
                "epochs": pin.retrained.epochs if pin.retrained else None,
                "lr": pin.retrained.lr if pin.retrained else None,
                "ratios": json.dumps(pin.wish.ratios),
            }
            rows.append(row)
        return pd.DataFrame(rows)

    def shares(self) -> pd.DataFrame:
        """A row for each pin and layer; columns name, layer, paper_name, removed (a fraction)."""
        shapes = self.state.graph.shapes
        rows = [
            {
                "name": pin.name,
                "layer": layer,
                "paper_name": shapes[layer].paper_name,
                "removed": share,
            }
            for pin in self.pins
            for layer, share in pin.shares.items()
        ]
        return pd.DataFrame(rows)


def _next_name(pins: tuple[Pin, ...]) -> str:
    taken = {pin.name for pin in pins}
    return next(name for i in range(1, len(pins) + 2) if (name := f"plan {i}") not in taken)
