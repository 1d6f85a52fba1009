"""Plans that are kept side by side: in a file of the network's folder, so they outlive the lab."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd
import traitlets
from torch import nn

from prunelab.lab.state.choice import State, Wish
from prunelab.lab.state.glance import Glance
from prunelab.pruning import PruningPlan, prune, total_cost
from prunelab.training import TrainSettings, train
from prunelab.utils.intervals import wilson
from prunelab.utils.tensors import write_whole


@dataclass(frozen=True)
class Pin:
    """A plan that is kept.

    Attributes:
        name: by which it is known.
        wish: what was asked for, as plain data.
        flops_left: the fraction of multiply-adds that is left.
        params_left: likewise of parameters.
        correct: predictions on validation images.
        total: these images; 0: none were looked at.
        retrained: the settings by which it was retrained; None: it was not.
        shares: {layer: fraction of its filters that goes}, of layers that can lose some.
    """

    name: str
    wish: dict[str, Any]
    flops_left: float
    params_left: float
    correct: int = 0
    total: int = 0
    retrained: dict[str, Any] | None = None
    shares: dict[str, float] = field(default_factory=dict)


class Tray(traitlets.HasTraits):
    """The plans that are kept for the network at hand, oldest first.

    Attributes:
        pins: these (a trait).
        trouble: what was wrong with the file that holds them (a trait).
    """

    pins = traitlets.Tuple()
    trouble = traitlets.Unicode()

    def __init__(self, state: State, glance: Glance) -> None:
        super().__init__()
        self.state, self.glance = state, glance
        state.observe(self._open, "network")
        self._open()

    def _open(self, _: object = None) -> None:
        """Read those of this network."""
        self.pins, self.trouble = (), ""
        path = self.state.network.folder / "plans.json"
        if path.exists():
            try:
                self.pins = tuple(Pin(**row) for row in json.loads(path.read_text()))
            except (ValueError, TypeError) as error:
                self.trouble = (
                    f"{path} holds no list of plans ({error}): what is pinned now will replace it"
                )

    def pin(
        self,
        *,
        wish: Wish | None = None,
        plan: PruningPlan | None = None,
        model: nn.Module | None = None,
        retrained: TrainSettings | None = None,
        name: str = "",
    ) -> Pin:
        """Keep a plan, by default the one at hand; one that is kept already takes what is new."""
        state = self.state
        wish, plan = wish or state.wish, plan or state.plan
        if retrained is None and model is None:
            retrained = state.find("settings")
        costs = total_cost(state.graph, plan)
        left = (costs.loc["after"] / costs.loc["before"]).to_dict()
        counted = self.glance.count(model if model is not None else state.small)
        free = [group for group in state.graph.groups if group.prunable]
        made = Pin(
            name=name or self._next_name(),
            wish=asdict(wish),
            flops_left=left["flops"],
            params_left=left["params"],
            correct=counted.correct if counted else 0,
            total=counted.total if counted else 0,
            retrained=None if retrained is None else asdict(retrained),
            shares={g.leader: round(1 - len(plan.keep[g.leader]) / g.size, 4) for g in free},
        )
        same = [
            pin
            for pin in self.pins
            if (pin.shares, pin.retrained) == (made.shares, made.retrained)
            and pin.wish == made.wish
        ]
        if same:
            made = replace(made, name=same[0].name)
        self._write([*(pin for pin in self.pins if pin not in same), made])
        return made

    def _next_name(self) -> str:
        taken = {pin.name for pin in self.pins}
        return next(name for i in range(1, 10**6) if (name := f"plan {i}") not in taken)

    def load(self, pin: Pin) -> None:
        """Take the choice of a pin, with its retrained network."""
        state = self.state
        wish = {**pin.wish, "preset": pin.wish["preset"] and tuple(pin.wish["preset"])}
        state.ask(Wish(**wish))
        if pin.retrained is None:
            state.forget("trained", "settings")
        elif state.find("settings") != (settings := as_settings(pin.retrained)):
            small = prune(state.network.model, state.plan, graph=state.graph)
            path = state.path(f"{name_settings(settings)}.safetensors")
            if path.exists():  # a finished training only loads
                train(small, state.network.data, settings, checkpoint=path)
                state.note("settings", settings)
                state.note("trained", small)

    def rename(self, pin: Pin, name: str) -> None:
        """Know a pin by another name; an empty one, or that of another pin, changes nothing."""
        name = name.strip()
        free = name and name not in {own.name for own in self.pins}
        named = replace(pin, name=name) if free else replace(pin)
        self._write([named if own is pin else own for own in self.pins])

    def drop(self, pin: Pin) -> None:
        """Keep a pin no longer."""
        self._write([own for own in self.pins if own is not pin])

    def _write(self, pins: list[Pin]) -> None:
        path = self.state.network.folder / "plans.json"
        write_whole(path, json.dumps([asdict(pin) for pin in pins], indent=1))
        self.pins, self.trouble = tuple(pins), ""

    def frame(self) -> pd.DataFrame:
        """A row for each pin; columns name, flops_left, params_left, accuracy, accuracy_low,
        accuracy_high, correct, total, retrained (bool), epochs, lr, ratios."""
        rows = []
        for pin in self.pins:
            low, high = wilson(pin.correct, pin.total) if pin.total else (None, None)
            trained: Mapping[str, Any] = pin.retrained or {}
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
                "epochs": trained.get("epochs"),
                "lr": trained.get("lr"),
                "ratios": json.dumps(pin.wish["ratios"]),
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


def as_settings(fields: Mapping[str, Any]) -> TrainSettings:
    """Settings from plain data, whose lists are tuples again."""
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return TrainSettings(**plain)


def name_settings(settings: TrainSettings) -> str:
    """The settings of a training in a file's name."""
    text = repr(asdict(settings)).encode()
    return f"retrained-{hashlib.blake2b(text, digest_size=4).hexdigest()}"
