"""Where a training is: written after each epoch, and within long ones; read, it goes on from there, bit for bit."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunelab import processes
from prunelab.checkpoint import load_tensors, read_tensors, write_tensors


@dataclass
class EpochPart:
    """The sums of an epoch so far."""

    correct: Tensor  # right answers of this process's images
    loss: Tensor  # the sum of its share of each batch's loss
    batches: int = 0
    seen: int = 0  # images, of all processes
    seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def spent(self) -> float:
        """Seconds, those before an interruption included."""
        return self.seconds + time.perf_counter() - self.started


@dataclass
class Training:
    """All that a training is at."""

    model: nn.Module
    optimizer: torch.optim.SGD
    about: dict[str, Any]  # settings and data, which a checkpoint must agree with
    defaults: dict[str, Any]  # of settings: what a checkpoint from before a setting existed meant
    rows: list[dict[str, Any]] = field(default_factory=list)  # of the epochs that are done
    part: EpochPart | None = None  # of the one that is not
    random: Tensor | None = None  # the state of its generator (dropout draws from it)
    best: dict[str, Tensor] = field(default_factory=dict)  # the best epoch's weights, where training may stop early

    def write(self, path: Path) -> None:
        """Write all of it to a file, whole or not at all."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            if state.get("momentum_buffer") is not None:
                tensors[f"momentum.{i}"] = state["momentum_buffer"]
        header: dict[str, Any] = {"training": self.about, "rows": self.rows}
        if self.part is not None:
            assert self.random is not None
            tensors |= {
                "part.correct": processes.add_up(self.part.correct.clone()),
                "part.loss": processes.add_up(self.part.loss.clone()),
                "part.random": self.random,
            }
            header["part"] = {
                "batches": self.part.batches, "seen": self.part.seen, "seconds": self.part.spent(),
            }  # fmt: skip
        write_tensors(path, tensors, header)

    def read(self, path: Path) -> None:
        """Go to where the file is. Raises ValueError for a file of other settings, data or network."""
        tensors, header = processes.from_first(lambda: read_tensors(path))
        made = header.get("training")
        if made is None:
            raise ValueError(f"{path} is no training checkpoint")
        made = {**self.defaults, **made}
        odd = [f"{key} {made.get(key)!r}, not {value!r}" for key, value in self.about.items() if made.get(key) != value]
        if odd:
            raise ValueError(
                f"{path} was made with other settings: {'; '.join(odd)}. Keep it and name another folder, or move it away"
            )

        def of(kind: str) -> dict[str, Tensor]:
            return {name.removeprefix(kind): t for name, t in tensors.items() if name.startswith(kind)}

        shapes = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        if shapes != {name: tensor.shape for name, tensor in of("model.").items()}:
            raise ValueError(f"{path} holds another network than the one given; name another file, or move it away")
        load_tensors(self.model, of("model."))
        momentum = {int(i): {"momentum_buffer": t} for i, t in of("momentum.").items()}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": momentum})
        device = next(self.model.parameters()).device
        self.best = {name: tensor.to(device) for name, tensor in of("best.").items()}
        self.rows = list(header["rows"])
        if "part" in header:
            own = 0 if processes.rank() else 1  # the sums are of all processes: one goes on with them
            self.part = EpochPart(
                tensors["part.correct"].to(device) * own, tensors["part.loss"].to(device) * own, **header["part"]
            )
            self.random = tensors["part.random"]


def random_state(device: torch.device) -> Tensor:
    """Of the device's own generator."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Put the device's own generator where it was."""
    torch.cuda.set_rng_state(state, device) if device.type == "cuda" else torch.set_rng_state(state)
