"""Where a training is: written to disk, and read to go on from there, bit for bit."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.models import describe_network
from prunelab.utils import processes
from prunelab.utils.tensors import load_tensors, peek_header, read_tensors, write_tensors


@dataclass
class PartialEpoch:
    """The sums of an epoch so far."""

    correct: Tensor  # of this process's images, how many
    loss: Tensor  # the summed cross-entropy of these
    batches: int = 0
    seen: int = 0  # images, of all processes
    seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    def begin(cls, device: torch.device) -> "PartialEpoch":
        """Nothing is done yet."""
        zero = torch.zeros((), device=device)
        return cls(correct=zero.long(), loss=zero)

    def spent(self) -> float:
        """Seconds, those before an interruption included."""
        return self.seconds + time.perf_counter() - self.started


@dataclass
class TrainingState:
    """All that a training is at."""

    model: nn.Module
    optimizer: torch.optim.SGD
    about: dict[str, Any]  # settings and data, which a checkpoint must agree with
    defaults: dict[str, Any]  # of settings: what a checkpoint from before a setting existed meant
    info: dict[str, Any] = field(default_factory=dict)  # for who uses a checkpoint as weights
    rows: list[dict[str, Any]] = field(default_factory=list)  # of the epochs that are done
    part: PartialEpoch | None = None  # of the one that is not
    random: Tensor | None = None  # the state of its generator (dropout draws from it)
    best: dict[str, Tensor] = field(default_factory=dict)  # weights, where training may stop early

    def write(self, path: Path) -> None:
        """Write all of it to a file, whole or not at all."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            if state.get("momentum_buffer") is not None:
                tensors[f"momentum.{i}"] = state["momentum_buffer"]
        header: dict[str, Any] = {"training": self.about, "rows": self.rows}
        header |= describe_network(self.model) | {"info": self.info}
        if self.part is not None:
            assert self.random is not None
            tensors |= {
                "part.correct": processes.all_reduce(self.part.correct.clone()),
                "part.loss": processes.all_reduce(self.part.loss.clone()),
                "part.random": self.random,
            }
            header["part"] = {
                "batches": self.part.batches,
                "seen": self.part.seen,
                "seconds": self.part.spent(),
            }
        write_tensors(path, tensors, header)

    def read(self, path: Path) -> None:
        """Go to where a file is; ValueError for one of other settings, data, network or plan."""
        tensors, header = processes.broadcast(lambda: read_tensors(path))
        self._check(path, header.get("training"))

        def of(kind: str) -> dict[str, Tensor]:
            own = (name for name in tensors if name.startswith(kind))
            return {name.removeprefix(kind): tensors[name] for name in own}

        shapes = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        if shapes != {name: tensor.shape for name, tensor in of("model.").items()}:
            raise ValueError(
                f"{path} holds another network than the one given; name another file, or move it "
                "away"
            )
        weights = {f"{i}": weight.shape for i, weight in enumerate(self._weights())}
        odd = [i for i, t in of("momentum.").items() if weights.get(i) != t.shape]
        if "part" in header:
            odd += [name for name in ("correct", "loss", "random") if name not in of("part.")]
        if odd:
            raise ValueError(f"{path} is no whole training ({', '.join(odd[:3])}): move it away")
        own, made = (about.get("plan") for about in (describe_network(self.model), header))
        if own and made and own["keep"] != made["keep"]:  # equal widths, other filters
            raise ValueError(
                f"{path} holds a network that was pruned by another plan than the one given: the "
                "filters that stay differ; name another file, or move it away"
            )
        load_tensors(self.model, of("model."))
        momentum = {int(i): {"momentum_buffer": t} for i, t in of("momentum.").items()}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": momentum})
        device = next(self.model.parameters()).device
        self.best = {name: tensor.to(device) for name, tensor in of("best.").items()}
        self.rows = list(header["rows"])
        if "part" in header:
            own = 0 if processes.rank() else 1  # the sums are of all: one goes on with them
            correct, loss = (
                tensors[f"part.{name}"].to(device) * own for name in ("correct", "loss")
            )
            self.part = PartialEpoch(correct, loss, **header["part"])
            self.random = tensors["part.random"]

    def _weights(self) -> list[Tensor]:
        """What the optimizer moves, in its order."""
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]

    def _check(self, path: Path, made: dict[str, Any] | None) -> None:
        if made is None:
            raise ValueError(f"{path} is no training checkpoint")
        made = {**self.defaults, **made}
        odd = []
        for key, value in self.about.items():
            if made.get(key) != value:
                odd.append(f"{key} {made.get(key)!r}, not {value!r}")
        if odd:
            raise ValueError(
                f"{path} was made with other settings: {'; '.join(odd)}. Keep it and name another "
                "folder, or move it away"
            )


def count_epochs(checkpoint: Path) -> int:
    """How many epochs a checkpoint has behind it; 0 where there is none."""
    return len(peek_header(checkpoint).get("rows", []))
