"""Accuracy while sliding: a few validation images, looked at in the background after each move."""

import threading
import time
from dataclasses import dataclass

import torch
import traitlets
from torch import Tensor, nn

from prunelab.data import take
from prunelab.lab.state.choice import State, hash_plan
from prunelab.lab.state.network import Network
from prunelab.utils.intervals import wilson

PAUSE = 0.12  # seconds without a move before images are looked at
AT_ONCE = 50  # images between two looks whether the choice has moved on
ENOUGH = 0.5  # seconds that may go by before what was counted is shown


@dataclass(frozen=True)
class Counted:
    """Correct predictions among the first of the glance's images."""

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """In [0, 1]."""
        return self.correct / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy lies between these 95 times in 100."""
        return wilson(self.correct, self.total)


class Glance(traitlets.HasTraits):
    """Counts the correct predictions of the plan at hand, shortly after each move.

    Args:
        state: whose plan it follows.
        desk: the lock of long work; while that is held, nothing is counted.
        images: of the validation split, at most; 0: nothing is counted.

    Attributes:
        whole: what the whole network gets right, once it was counted (a trait, like the next).
        found: what the plan at hand leaves, None while it is not known.
    """

    whole = traitlets.Instance(Counted, allow_none=True)
    found = traitlets.Instance(Counted, allow_none=True)

    def __init__(self, state: State, desk: threading.Lock, images: int) -> None:
        super().__init__()
        self.state, self.images, self._desk = state, images, desk
        self._timer: threading.Timer | None = None
        self._turn = 0  # of the latest move
        state.observe(self._open, "network")
        state.observe(self._follow, ["plan", "noted"])
        self._open()
        self._follow()

    def _open(self, _: object = None) -> None:
        self._batches: list[tuple[Tensor, Tensor]] = []
        self._known: dict[str, Counted] = {}
        self._beside: list[Counted] = []  # of the whole network, after each few images
        self.whole = self.found = None

    def _follow(self, _: object = None) -> None:
        """Look at the plan at hand, unless it is known."""
        self._turn += 1
        if self._timer:
            self._timer.cancel()
        self.found = self._known.get(self._key())
        if self.images and (self.found is None or self.whole is None):
            self._later()

    def _later(self) -> None:
        self._timer = threading.Timer(PAUSE, self._look, [self._turn])
        self._timer.daemon = True
        self._timer.start()

    def _key(self) -> str:
        trained = self.state.trained
        return hash_plan(self.state.plan) + (f" {id(trained)}" if trained is not None else "")

    def _look(self, turn: int) -> None:
        state = self.state
        if turn != self._turn:
            return
        if self._desk.locked():  # long work goes first
            self._later()
            return
        if self.whole is None:
            self._beside = self._count(state.network.model, turn, float("inf"))
            self.whole = self._beside[-1] if self._beside else None
        if self.whole is not None and self.found is None:
            key, untouched = self._key(), not state.plan.removed and state.trained is None
            counted = self._beside if untouched else self._count(state.small, turn, ENOUGH)
            if counted and turn == self._turn:
                self._known[key] = counted[-1]
                self.found = counted[-1]

    def count(self, model: nn.Module) -> Counted | None:
        """Correct predictions on all of the images; None where there are none."""
        counted = self._count(model, None, float("inf"))
        return counted[-1] if counted else None

    def beside(self, found: Counted) -> Counted | None:
        """What the whole network gets right of the same images."""
        return next((own for own in self._beside if own.total == found.total), self.whole)

    def _count(self, model: nn.Module, turn: int | None, enough: float) -> list[Counted]:
        """Correct predictions so far after each few images, for `enough` seconds.

        turn: of the move that asks; when something has moved since, the answer is empty.
        """
        training, began = model.training, time.monotonic()
        correct = total = 0
        counted: list[Counted] = []
        try:
            model.eval()
            with torch.inference_mode():
                for images, labels in self._look_up(self.state.network):
                    correct += int((model(images).argmax(1) == labels).sum())
                    total += len(labels)
                    counted.append(Counted(correct, total))
                    if turn not in (None, self._turn):
                        return []
                    if time.monotonic() - began > enough:
                        break
        finally:
            model.train(training)
        return counted

    def _look_up(self, network: Network) -> list[tuple[Tensor, Tensor]]:
        """Some validation images, the same ones each time, on the network's device."""
        if not self._batches:
            val = network.data.val
            some = min(self.images, len(val))
            chosen = torch.randperm(len(val), generator=torch.Generator().manual_seed(0))[:some]
            split = take(val, chosen)
            device = network.data.device
            self._batches = [(x.to(device), y.to(device)) for x, y in split.batches(AT_ONCE)]
        return self._batches
