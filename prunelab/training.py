"""Learning: baselines, retraining and scratch rows by one function, stopped and resumed at will."""

import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab import processes
from prunelab.batches import FileSplit, Split, pick_batch_size
from prunelab.checkpoint import load_tensors
from prunelab.data import DataSplits
from prunelab.progress import watch
from prunelab.resuming import EpochPart, Training, random_state, set_random_state

PRECISIONS = ("float32", "bfloat16")
LONG = 20  # epochs that are worth a compilation on a GPU


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
    compile: bool | None = None  # by torch.compile; None: 20 epochs or more on a GPU, not under torchrun
    patience: int | None = None  # stop after so many epochs without a better validation accuracy
    seed: int = 0

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name, smallest in (("epochs", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < smallest:
                raise ValueError(f"{name} must be a whole number of at least {smallest}, not {value!r}")
        if self.patience is not None and (type(self.patience) is not int or self.patience < 1):
            raise ValueError(f"patience must be a whole number of epochs, 1 or more, or None; not {self.patience!r}")
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


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.SGD:
    """What `train` uses: SGD with the momentum and the weight decay of the settings, fused if the model is on a GPU."""
    fused = next(model.parameters()).is_cuda
    return torch.optim.SGD(
        model.parameters(), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=fused
    )


def check_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """ValueError unless every parameter that the model trains is in the optimizer: else it would stand still.

    The usual slip: the model was pruned, and the optimizer still holds the parameters of the whole one.
    """
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    idle = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in held]
    if idle:
        more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
        raise ValueError(
            f"{', '.join(idle[:3])}{more} would not be trained: the optimizer does not hold them. After pruning, "
            "write optimizer = prune_optimizer(optimizer, model, small), or make a new one"
        )


def train(
    model: nn.Module,
    data: DataSplits,
    settings: TrainSettings,
    *,
    optimizer: torch.optim.SGD | None = None,
    checkpoint: str | Path | None = None,
    save_every: int = 1000,
    progress: bool = False,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Train the model in place, on the data's device, and return a row for each epoch.

    Columns: epoch (from 1), lr, train_loss, train_accuracy, val_loss, val_accuracy, test_loss,
    test_accuracy, seconds. The weights are those of the last epoch; with `settings.patience`, which stops early,
    those of the best one on validation, and the optimizer starts anew. Nothing is chosen on test.

    optimizer: one to go on with, from `make_optimizer` and `prune_optimizer`. What it has gathered is kept; its rate,
        momentum and weight decay become those of the settings. None starts a new one.
    checkpoint: a file written whole after each epoch, and within one after each `save_every` batches. Called again
        with it, training goes on where it stopped, in one process on a CPU to the same weights bit for bit; a finished
        one only loads.
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
    if save_every < 1:
        raise ValueError(f"save_every must be a whole number of batches, 1 or more, not {save_every!r}")
    if settings.compile and processes.count() > 1:
        raise ValueError("compile=True is for one process; leave it out under torchrun")
    optimizer = optimizer or make_optimizer(model, settings)
    _check_optimizer(optimizer, model, settings)
    at = Training(model, optimizer, _identity(settings, data), _plain(TrainSettings()))
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and processes.from_first(path.exists):
        at.read(path)
        if progress and (at.rows or at.part):
            within = f" and {at.part.batches} batches" if at.part else ""
            print(f"  {len(at.rows)} of {settings.epochs} epochs{within} were done before", flush=True)
    elif processes.count() > 1:
        load_tensors(model, processes.from_first(lambda: {k: t.cpu() for k, t in model.state_dict().items()}))
    for parameter, state in optimizer.state.items():  # momentum has its weight's memory format: fused steps ask for it
        if isinstance(momentum := state.get("momentum_buffer"), Tensor):
            state["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
    forward: Callable[[Tensor], Tensor] = model
    if _compiles(settings, data.device):
        torch.compiler.reset()  # after some networks in one process, torch would compile no more
        forward = torch.compile(model, dynamic=False)

    def save() -> None:
        if path is not None:
            at.write(path)

    try:
        while len(at.rows) < settings.epochs and not _is_stale(at.rows, settings.patience):
            _train_epoch(at, forward, data, settings, progress, on_batch, save, save_every)
            if settings.patience is not None and _best(at.rows) == len(at.rows) - 1:
                at.best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            save()
            if progress:
                print(_describe(at.rows[-1], settings.epochs), flush=True)
            if on_epoch:
                on_epoch(at.rows[-1])
    except KeyboardInterrupt:
        saved = path is not None and path.exists()
        kept = f"{path} holds what was saved last; the same call goes on from there" if saved else "nothing was saved"
        raise KeyboardInterrupt(f"stopped after {len(at.rows)} of {settings.epochs} epochs; {kept}") from None
    if at.best:
        load_tensors(model, at.best)
        optimizer.state.clear()  # its momentum was that of the last epoch
        if progress:
            print(f"  the weights are those of epoch {_best(at.rows) + 1}, the best on validation", flush=True)
    model.eval()
    return pd.DataFrame(at.rows)


def _train_epoch(
    at: Training,
    forward: Callable[[Tensor], Tensor],  # the model, perhaps compiled
    data: DataSplits,
    settings: TrainSettings,
    progress: bool,
    on_batch: Callable[[int, int], None] | None,
    save: Callable[[], None],
    save_every: int,
) -> None:
    """One epoch, from where it is; its row is added to those of the training."""
    model, device, epoch = at.model, data.device, len(at.rows)
    for group in at.optimizer.param_groups:
        group["lr"] = settings.lr_at(epoch)
    seed = settings.seed * 10_007 + epoch  # order, crops and dropout of an epoch depend on nothing before it
    part = at.part = at.part or EpochPart(
        torch.zeros((), dtype=torch.long, device=device), torch.zeros((), device=device)
    )
    count, name = -(-len(data.train) // settings.batch_size), f"epoch {epoch + 1}/{settings.epochs}"
    batches = data.train.batches(
        settings.batch_size, seed=seed, augment=settings.augment, shared=True, skip=part.batches
    )
    model.train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []), processes.synced_norms(model):
        torch.manual_seed(seed)
        if at.random is not None:
            set_random_state(device, at.random)
        for images, labels in watch(batches, name, count - part.batches, "batches", show=progress):
            n = min(settings.batch_size, len(data.train) - part.seen)  # of all processes
            if n == 1 and part.seen:
                break  # batch norm cannot learn from one image
            if settings.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            at.optimizer.zero_grad(set_to_none=True)
            with _autocast(device, settings.precision):
                logits = forward(images)
            if not part.seen:
                check_outputs(logits, data.train)
            loss = F.cross_entropy(logits.float(), labels, reduction="sum") / n
            loss.backward()
            processes.add_up_gradients(model)
            at.optimizer.step()
            part.loss += loss.detach() * n
            part.correct += (logits.argmax(1) == labels).sum()
            part.seen += n
            part.batches += 1
            if part.batches % save_every == 0:
                at.random = random_state(device)
                save()
            if on_batch:
                on_batch(epoch * len(data.train) + part.seen, settings.epochs * len(data.train))
    mean_loss = float(processes.add_up(part.loss)) / part.seen
    if not math.isfinite(mean_loss):
        raise ValueError(
            f"the loss is {mean_loss} in epoch {epoch + 1}: training diverged; a smaller lr than {settings.lr} may help"
        )
    scores = {
        name: evaluate(model, split, precision=settings.precision)
        for name, split in (("val", data.val), ("test", data.test))
    }
    row = {
        "epoch": epoch + 1,
        "lr": settings.lr_at(epoch),
        "train_loss": mean_loss,
        "train_accuracy": int(processes.add_up(part.correct)) / part.seen,
        **{f"{name}_{key}": getattr(m, key) for name, m in scores.items() for key in ("loss", "accuracy")},
        "seconds": round(part.spent(), 2),
    }
    at.rows, at.part, at.random = [*at.rows, row], None, None


def _best(rows: list[dict[str, Any]]) -> int:
    """Which epoch's row has the best validation accuracy, the first of equals."""
    return max(range(len(rows)), key=lambda i: (rows[i]["val_accuracy"], -i))


def _is_stale(rows: list[dict[str, Any]], patience: int | None) -> bool:
    return patience is not None and bool(rows) and len(rows) - 1 - _best(rows) >= patience


def _compiles(settings: TrainSettings, device: torch.device) -> bool:
    """As the settings say; by default where a long run on a GPU wins back the minute or two that it takes."""
    if settings.compile is not None:
        return settings.compile
    able = find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))
    return device.type == "cuda" and settings.epochs >= LONG and processes.count() == 1 and able


def _check_optimizer(optimizer: torch.optim.SGD, model: nn.Module, settings: TrainSettings) -> None:
    if not isinstance(optimizer, torch.optim.SGD):
        raise ValueError(f"train goes on with torch.optim.SGD (make_optimizer), not {type(optimizer).__name__}")
    check_optimizer(optimizer, model)
    for group in optimizer.param_groups:
        group |= {"momentum": settings.momentum, "weight_decay": settings.weight_decay}


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


def _plain(settings: TrainSettings) -> dict[str, Any]:
    return {**asdict(settings), "milestones": list(settings.milestones)}


def _identity(settings: TrainSettings, data: DataSplits) -> dict[str, Any]:
    """What a checkpoint must agree with to go on from it."""
    normalization = [list(values) for values in data.normalization]
    about = _plain(settings)
    del about["compile"]  # how it runs, not what it learns
    return {**about, "data": data.fingerprint, "normalization": normalization}
