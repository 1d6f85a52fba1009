"""Accuracy while sliding: a few validation images, looked at in the background after each move."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import traitlets
from torch import Tensor, nn

from prunelab.data import take
from prunelab.lab.state.choice import State
from prunelab.lab.state.network import Network
from prunelab.lab.state.retraining import find_checkpoint, hash_plan
from prunelab.training import check_outputs
from prunelab.utils.intervals import wilson

PAUSE = 0.12  # seconds without a move before images are looked at
AT_ONCE = 50  # images between two looks whether the choice has moved on
ENOUGH = 0.5  # seconds that may go by before what was counted so far is shown


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
        trouble: why nothing can be counted, or "".
    """

    whole = traitlets.Instance(Counted, allow_none=True)
    found = traitlets.Instance(Counted, allow_none=True)
    trouble = traitlets.Unicode()

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
        self.whole, self.found, self.trouble = None, None, ""

    def _follow(self, _: object = None) -> None:
        """Look at the plan at hand, unless it is known."""
        self._turn += 1
        if self._timer:
            self._timer.cancel()
        self.found = self._known.get(self._key())
        if self.images and not self.trouble and (self.found is None or self.whole is None):
            self._later()

    def _later(self) -> None:
        self._timer = threading.Timer(PAUSE, self._look, [self._turn])
        self._timer.daemon = True
        self._timer.start()

    def _key(self) -> str:
        """What is counted: the plan at hand, or what it left, retrained."""
        state = self.state
        if state.training is None:
            return hash_plan(state.plan)
        return find_checkpoint(state.network, state.plan, state.training.settings).name

    def _look(self, turn: int) -> None:
        if turn != self._turn:
            return
        if self._desk.locked():  # long work goes first
            self._later()
            return
        try:
            self._count_both(turn)
        except Exception as error:  # of a network of one's own; all else works without this
            with self.state.lock:
                if turn == self._turn:
                    self.trouble = f"{error}" or type(error).__name__

    def _count_both(self, turn: int) -> None:
        """Count the whole network, once, and what the plan leaves."""
        state = self.state
        with state.lock:
            network, key, trained = state.network, self._key(), state.trained
            untouched = not state.plan.removed and trained is None
            beside, batches = self._beside, self._batches
        batches = batches or _pick_batches(network, self.images)
        beside = beside or self._count(network.model, batches, turn)
        with state.lock:
            if turn != self._turn:
                return
            self._batches, self._beside = batches, beside
            self.whole = beside[-1] if beside else None
        found = beside
        if not untouched:
            found = self._count(state.small, batches, turn, self._show)
        with state.lock:
            if turn == self._turn and found:
                self._known[key] = self.found = found[-1]

    def _show(self, turn: int, found: Counted) -> None:
        """Show what is counted so far."""
        with self.state.lock:
            if turn == self._turn:
                self.found = found

    def count(self, model: nn.Module) -> Counted | None:
        """Correct predictions on all of the images; None where there are none."""
        if self.trouble:
            return None
        batches = self._batches or _pick_batches(self.state.network, self.images)
        counted = self._count(model, batches)
        return counted[-1] if counted else None

    def beside(self, found: Counted) -> Counted | None:
        """What the whole network gets right of the same images."""
        return next((own for own in self._beside if own.total == found.total), self.whole)

    def _count(
        self,
        model: nn.Module,
        batches: list[tuple[Tensor, Tensor]],
        turn: int | None = None,
        show: Callable[[int, Counted], None] | None = None,
    ) -> list[Counted]:
        """Correct predictions so far after each few images.

        turn: of the move that asks; when something has moved since, the answer is empty. show: it
        is called with the turn and each of them, where it takes a while.
        """
        training, began = model.training, time.monotonic()
        correct = total = 0
        counted: list[Counted] = []
        try:
            model.eval()
            with torch.inference_mode():
                for images, labels in batches:
                    logits = model(images)
                    check_outputs(logits, self.state.network.data.val)
                    correct += int((logits.argmax(1) == labels).sum())
                    total += len(labels)
                    counted.append(Counted(correct, total))
                    if turn not in (None, self._turn):
                        return []
                    if show and turn is not None and time.monotonic() - began > ENOUGH:
                        show(turn, counted[-1])
        finally:
            model.train(training)
        return counted


def _pick_batches(network: Network, images: int) -> list[tuple[Tensor, Tensor]]:
    """Some validation images, the same ones each time, on the network's device."""
    val, device = network.data.val, network.data.device
    order = torch.randperm(len(val), generator=torch.Generator().manual_seed(0))
    batches = take(val, order[:images]).batches(AT_ONCE)
    return [(x.to(device), y.to(device)) for x, y in batches]
