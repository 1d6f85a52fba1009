"""Learning: baselines, retraining and scratch rows by one function, stopped and resumed at will."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab import processes
from prunelab.batches import FileSplit, Split, pick_batch_size
from prunelab.checkpoint import load_tensors, read_tensors, write_tensors
from prunelab.data import DataSplits
from prunelab.progress import watch

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrainSettings:
    """How a network learns. The defaults are the CIFAR baseline of Li et al. 2017, §4 (He et al. 2016, §4.2)."""

    epochs: int = 160
    lr: float = 0.1
    milestones: tuple[float, ...] = (0.5, 0.75)  # fractions of the epochs at which lr drops
    lr_drop: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    batch_size: int = 128
    augment: bool = True
    precision: str = "float32"  # or bfloat16: autocast
    channels_last: bool = False
    compile: bool = False  # by torch.compile: slow to begin, so for long runs
    seed: int = 0

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name, smallest in (("epochs", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < smallest:
                raise ValueError(f"{name} must be a whole number of at least {smallest}, not {value!r}")
        if not self.lr > 0:
            raise ValueError(f"lr must be above 0, not {self.lr!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        if any(not 0 < m < 1 for m in self.milestones):
            raise ValueError(f"milestones are fractions of the epochs, between 0 and 1, not {self.milestones!r}")

    def lr_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return self.lr * self.lr_drop ** sum(epoch >= max(int(m * self.epochs), 1) for m in self.milestones)


RETRAINING = TrainSettings(epochs=40, lr=0.001, milestones=())  # §4: a quarter of the training, constant rate


@dataclass(frozen=True)
class Metrics:
    """What an evaluation counted: right answers, images, and the mean cross-entropy."""

    correct: int
    total: int
    loss: float

    @property
    def accuracy(self) -> float:
        """The fraction of right answers, in [0, 1]."""
        return self.correct / self.total


def evaluate(
    model: nn.Module,
    split: Split | FileSplit,
    *,
    batch_size: int | None = None,
    precision: str = "float32",
    on_batch: Callable[[int, int], None] | None = None,
) -> Metrics:
    """How the model does on a split, in evaluation mode; the model is left in the mode it was in.

    Images are normalised as the split says and go to the model's device. batch_size: images at once; None picks
    it by their size and the device. precision: `float32` or `bfloat16`.
    on_batch: called with (images done, images in all) after each batch.
    Under torchrun all processes call it, and each looks at its share of the images.

    >>> evaluate(model, data.test).accuracy
    """
    if not isinstance(split, Split | FileSplit):
        raise ValueError(f"evaluate takes a split, such as data.test, not {type(split).__name__}")
    device = next(model.parameters()).device
    training = model.training
    correct = torch.zeros((), dtype=torch.long, device=device)
    loss = torch.zeros((), dtype=torch.double, device=device)
    try:
        model.eval()
        with torch.inference_mode(), _autocast(device, precision):
            step = batch_size or pick_batch_size(split.image_size, device)
            for i, (images, labels) in enumerate(split.batches(step, shared=True)):
                images, labels = images.to(device), labels.to(device)
                logits = model(images)
                if not i:
                    check_outputs(logits, split)
                correct += (logits.argmax(1) == labels).sum()
                loss += F.cross_entropy(logits.float(), labels, reduction="sum")
                if on_batch:
                    on_batch(min(step * (i + 1), len(split)), len(split))
    finally:
        model.train(training)
    correct, loss = processes.add_up(correct), processes.add_up(loss)
    return Metrics(int(correct), len(split), float(loss) / len(split))


def train(
    model: nn.Module,
    data: DataSplits,
    settings: TrainSettings,
    *,
    checkpoint: str | Path | None = None,
    progress: bool = False,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Train the model in place, on the data's device, and return a row for each epoch.

    Columns: epoch (from 1), lr, train_loss, train_accuracy, val_loss, val_accuracy, test_loss,
    test_accuracy, seconds. The weights are those of the last epoch; nothing is chosen on test.

    checkpoint: a file written whole after each epoch. Called again with it, training goes on where it
        stopped, to the same weights bit for bit on a CPU; a finished one only loads.
    progress: a bar, and a printed line for each epoch. on_epoch: called with each new row. on_batch: called with
        (images done, images in all epochs) after each batch. What they raise stops the training; a
        KeyboardInterrupt then says what was kept.
    Under torchrun all processes call it with the same arguments; `batch_size` is that of all together, and the loss
        curve is that of one process, but for rounding. The first one alone writes and prints.

    Raises ValueError for a checkpoint of other settings, data or network, or when the loss is not finite.
    """
    model.to(data.device)
    progress = progress and processes.rank() == 0
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)
    if settings.compile and processes.count() > 1:
        raise ValueError("compile=True is for one process; leave it out under torchrun")
    optimizer = torch.optim.SGD(
        model.parameters(), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay,
        fused=data.device.type == "cuda",
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    if checkpoint is not None and processes.from_first(Path(checkpoint).exists):
        rows = _resume(Path(checkpoint), model, optimizer, settings, data)
        if progress and rows:
            print(f"  {len(rows)} of {settings.epochs} epochs were done before", flush=True)
    elif processes.count() > 1:
        load_tensors(model, processes.from_first(lambda: {k: t.cpu() for k, t in model.state_dict().items()}))
    forward = torch.compile(model, dynamic=False) if settings.compile else model
    try:
        for epoch in range(len(rows), settings.epochs):
            rows.append(_train_epoch(model, forward, data, settings, optimizer, epoch, progress, on_batch))
            if checkpoint is not None:
                _save(Path(checkpoint), model, optimizer, settings, data, rows)
            if progress:
                print(_describe(rows[-1], settings.epochs), flush=True)
            if on_epoch:
                on_epoch(rows[-1])
    except KeyboardInterrupt:
        saved = f"{checkpoint} holds the last one; the same call goes on from there"
        saved = saved if checkpoint and rows else "nothing was saved"
        raise KeyboardInterrupt(f"stopped after {len(rows)} of {settings.epochs} epochs; {saved}") from None
    model.eval()
    return pd.DataFrame(rows)


def _train_epoch(
    model: nn.Module,
    forward: Callable[[Tensor], Tensor],  # the model, perhaps compiled
    data: DataSplits,
    settings: TrainSettings,
    optimizer: torch.optim.SGD,
    epoch: int,
    progress: bool,
    on_batch: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    started = time.perf_counter()
    for group in optimizer.param_groups:
        group["lr"] = settings.lr_at(epoch)
    seed = settings.seed * 10_007 + epoch  # order, crops and dropout of an epoch depend on nothing before it
    device = data.device
    correct = torch.zeros((), dtype=torch.long, device=device)
    total_loss = torch.zeros((), device=device)
    seen, name = 0, f"epoch {epoch + 1}/{settings.epochs}"
    batches = data.train.batches(settings.batch_size, seed=seed, augment=settings.augment, shared=True)
    model.train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []), processes.synced_norms(model):
        torch.manual_seed(seed)
        for images, labels in watch(
            batches, name, -(-len(data.train) // settings.batch_size), "batches", show=progress
        ):
            n = min(settings.batch_size, len(data.train) - seen)  # of all processes
            if n == 1 and seen:
                break  # batch norm cannot learn from one image
            if settings.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad(set_to_none=True)
            with _autocast(device, settings.precision):
                logits = forward(images)
            if not seen:
                check_outputs(logits, data.train)
            loss = F.cross_entropy(logits.float(), labels, reduction="sum") / n
            loss.backward()
            processes.add_up_gradients(model)
            optimizer.step()
            total_loss += loss.detach() * n
            correct += (logits.argmax(1) == labels).sum()
            seen += n
            if on_batch:
                on_batch(epoch * len(data.train) + seen, settings.epochs * len(data.train))
    total_loss, correct = processes.add_up(total_loss), processes.add_up(correct)
    mean_loss = float(total_loss) / seen
    if not math.isfinite(mean_loss):
        raise ValueError(
            f"the loss is {mean_loss} in epoch {epoch + 1}: training diverged; a smaller lr than {settings.lr} may help"
        )
    scores = {
        name: evaluate(model, split, precision=settings.precision)
        for name, split in (("val", data.val), ("test", data.test))
    }
    return {
        "epoch": epoch + 1,
        "lr": settings.lr_at(epoch),
        "train_loss": mean_loss,
        "train_accuracy": int(correct) / seen,
        **{f"{name}_{key}": getattr(m, key) for name, m in scores.items() for key in ("loss", "accuracy")},
        "seconds": round(time.perf_counter() - started, 2),
    }


def check_outputs(logits: Tensor, split: Split | FileSplit) -> None:
    """ValueError unless a model's outputs are logits of at least the classes that the split has."""
    if not isinstance(logits, Tensor):
        raise ValueError(f"the model returns a {type(logits).__name__}; it must return logits (n, classes) alone")
    classes = int(split.labels.max()) + 1
    if logits.ndim != 2 or logits.shape[1] < classes:
        raise ValueError(
            f"the model's output has the shape {tuple(logits.shape)}, and the data {classes} classes; it must return "
            f"logits (n, classes): load_model(..., num_classes={classes})"
        )


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def _describe(row: dict[str, Any], epochs: int) -> str:
    return (
        f"  epoch {row['epoch']:>3}/{epochs}  loss {row['train_loss']:.3f}  "
        f"accuracy: train {row['train_accuracy']:.1%}, val {row['val_accuracy']:.1%}, test {row['test_accuracy']:.1%}"
    )


def _identity(settings: TrainSettings, data: DataSplits) -> dict[str, Any]:
    """What a checkpoint must agree with to go on from it."""
    return {**asdict(settings), "milestones": list(settings.milestones), "data": data.fingerprint,
            "normalization": [list(values) for values in data.normalization]}  # fmt: skip


def _save(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.SGD,
    settings: TrainSettings,
    data: DataSplits,
    rows: list[dict[str, Any]],
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        if state.get("momentum_buffer") is not None:
            tensors[f"momentum.{i}"] = state["momentum_buffer"]
    write_tensors(path, tensors, {"training": _identity(settings, data), "rows": rows})


def _resume(
    path: Path, model: nn.Module, optimizer: torch.optim.SGD, settings: TrainSettings, data: DataSplits
) -> list[dict[str, Any]]:
    tensors, header = processes.from_first(lambda: read_tensors(path))
    made, wanted = header.get("training"), _identity(settings, data)
    if made is None:
        raise ValueError(f"{path} is no training checkpoint")
    odd = [f"{key} {made.get(key)!r}, not {value!r}" for key, value in wanted.items() if made.get(key) != value]
    if odd:
        raise ValueError(
            f"{path} was made with other settings: {'; '.join(odd)}. Keep it and name another folder, or move it away"
        )
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    state = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    if own != {name: tensor.shape for name, tensor in state.items()}:
        raise ValueError(f"{path} holds another network than the one given; name another file, or move it away")
    load_tensors(model, state)
    momentum = {
        int(name.removeprefix("momentum.")): {"momentum_buffer": t}
        for name, t in tensors.items()
        if name.startswith("momentum.")
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": momentum})
    return list(header["rows"])
