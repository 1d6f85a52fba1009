"""Learning: baselines, retraining and scratch rows by one function, stopped and resumed at will."""

import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.data import DataSplits
from prunelab.pruning import check_optimizer
from prunelab.training.evaluation import autocast, check_outputs, evaluate
from prunelab.training.settings import TrainSettings
from prunelab.training.state import PartialEpoch, TrainingState
from prunelab.utils import processes
from prunelab.utils.checks import check_whole
from prunelab.utils.devices import random_state, set_random_state
from prunelab.utils.modules import find_place, widen
from prunelab.utils.progress import track
from prunelab.utils.stopping import Stops, noting_stops
from prunelab.utils.tensors import load_tensors

LONG = 20  # epochs that are worth a compilation on a GPU


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.SGD:
    """What `train` uses: SGD with the momentum and the weight decay of the settings.

    Args:
        model: whose parameters it holds.
        settings: of them, `lr`, `momentum` and `weight_decay`.

    Returns:
        An optimizer, fused if the model is on a GPU.
    """
    return torch.optim.SGD(
        model.parameters(),
        settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=next(model.parameters()).is_cuda,
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
    """Train the model in place, on the data's device.

    The weights are those of the last epoch; with `settings.patience`, which stops early, those of
    the best one on validation, and the optimizer starts anew. Nothing is chosen on test.

    Under torchrun all processes call it with the same arguments; `batch_size` is that of all
    together, and the loss curve is that of one process, but for rounding. The first one alone
    writes and prints.

    Args:
        model: images (n, 3, h, w) in, logits (n, classes) out.
        data: a data set.
        settings: how it learns.
        optimizer: one to go on with, from `make_optimizer` and `prune_optimizer`. What it has
            gathered is kept; its rate, momentum and weight decay become those of the settings. None
            starts a new one.
        checkpoint: a file written whole after each epoch, and within one after each `save_every`
            batches. Called again with it, training goes on where it stopped, in one process on a
            CPU to the same weights bit for bit; a finished one only loads. The file's weights then
            take the place of the model's.
        save_every: batches between two saves within an epoch.
        progress: show a bar, and print a line for each epoch.
        on_epoch: called with each new row.
        on_batch: called with (images done, images in all epochs) after each batch. What it or
            `on_epoch` raises stops the training. At a KeyboardInterrupt (SIGINT or SIGTERM, in one
            process) all is saved up to that batch, and it then says what was kept.

    Returns:
        A row for each epoch; columns epoch (from 1), lr, train_loss, train_accuracy, val_loss,
        val_accuracy, test_loss, test_accuracy, seconds.

    Raises:
        ValueError: the checkpoint is of other settings, data, network or plan, the loss not
            finite, no weight is to learn, or weights have fewer bits than float32; or what is given
            is no data set or no settings.
    """
    if not isinstance(data, DataSplits):
        raise ValueError(
            f"train takes a data set, as load_data gives one, not {type(data).__name__}"
        )
    if not isinstance(settings, TrainSettings):
        raise ValueError(
            f"train takes settings, such as TrainSettings(epochs=1), not {type(settings).__name__}"
        )
    check_whole("save_every", save_every, why="batches")
    _, kind = find_place(model)
    if kind in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"train keeps weights in float32, and this {type(model).__name__} has {kind}: give "
            "model.float(), and compute in bfloat16 by TrainSettings(precision='bfloat16')"
        )
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError(
            f"nothing in this {type(model).__name__} learns: each of its parameters has "
            "requires_grad=False; model.requires_grad_() lets all of them"
        )
    model.to(data.device)
    progress = progress and processes.rank() == 0
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = optimizer or make_optimizer(model, settings)
    _prepare_optimizer(optimizer, model, settings)
    about, defaults = _identity(settings, data), _plain(TrainSettings())
    at = TrainingState(model, optimizer, about, defaults, data.describe())
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and processes.broadcast(path.exists):
        at.read(path)
        if progress and (at.rows or at.part):
            within = f" and {at.part.batches} batches" if at.part else ""
            done = f"{len(at.rows)} of {settings.epochs} epochs{within}"
            print(f"  {done} were done before", flush=True)
    _align_momentum(optimizer)

    def save() -> None:
        if path is not None:
            at.write(path)

    try:
        # several processes would have to stop at the same batch
        alone = processes.world_size() == 1
        with processes.distributed(model) as forward, noting_stops(able=alone) as stops:
            if _compiles(settings, data.device):
                torch.compiler.reset()  # after some networks in one process, torch compiles no more
                forward = torch.compile(forward, dynamic=False)  # type: ignore[assignment]
            while len(at.rows) < settings.epochs and not _is_stale(at.rows, settings.patience):
                _train_epoch(
                    at, forward, data, settings, progress, on_batch, save, save_every, stops
                )
                if settings.patience is not None and _best(at.rows) == len(at.rows) - 1:
                    at.best = {name: t.clone() for name, t in model.state_dict().items()}
                save()
                if progress:
                    print(_format_epoch(at.rows[-1], settings.epochs), flush=True)
                if on_epoch:
                    on_epoch(at.rows[-1])
    except KeyboardInterrupt as error:
        kept = "nothing was saved"
        if path is not None and path.exists():
            kept = f"{path} holds what was saved last; the same call goes on from there"
        done = f"{len(at.rows)} of {settings.epochs} epochs"
        raise type(error)(f"stopped after {done}; {kept}") from None
    if at.best:
        load_tensors(model, at.best)
        optimizer.state.clear()  # its momentum was that of the last epoch
        if progress:
            best = _best(at.rows) + 1
            print(f"  the weights are those of epoch {best}, the best on validation", flush=True)
    model.eval()
    return pd.DataFrame(at.rows)


def _train_epoch(
    at: TrainingState,
    forward: Callable[[Tensor], Tensor],  # the model, perhaps distributed and compiled
    data: DataSplits,
    settings: TrainSettings,
    progress: bool,
    on_batch: Callable[[int, int], None] | None,
    save: Callable[[], None],
    save_every: int,
    stops: Stops,
) -> None:
    """One epoch, from where it is; its row is added to those of the training."""
    device, epoch, (_, kind) = data.device, len(at.rows), find_place(at.model)
    for group in at.optimizer.param_groups:
        group["lr"] = settings.lr_at(epoch)
    # order, crops and dropout of an epoch depend on nothing before it
    seed = settings.seed * 10_007 + epoch
    part = at.part = at.part or PartialEpoch.begin(device)
    count, name = -(-len(data.train) // settings.batch_size), f"epoch {epoch + 1}/{settings.epochs}"
    batches = data.train.batches(
        settings.batch_size, seed=seed, augment=settings.augment, shared=True, skip=part.batches
    )
    at.model.train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        if at.random is not None:
            set_random_state(device, at.random)
        for images, labels in track(batches, name, count - part.batches, "batches", show=progress):
            n = min(settings.batch_size, len(data.train) - part.seen)  # of all processes
            if n == 1 and part.seen:
                break  # batch norm cannot learn from one image
            if settings.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            at.optimizer.zero_grad(set_to_none=True)
            with autocast(device, settings.precision):
                logits = forward(images.to(kind))
            if not part.seen:
                check_outputs(logits, data.train)
            loss = F.cross_entropy(widen(logits), labels, reduction="sum")
            (loss * (processes.world_size() / n)).backward()  # gradients: means over processes
            at.optimizer.step()
            part.loss += loss.detach()
            part.correct += (logits.argmax(1) == labels).sum()
            part.seen += n
            part.batches += 1
            if part.batches % save_every == 0:
                at.random = random_state(device)
                save()
            try:
                if on_batch:
                    on_batch(epoch * len(data.train) + part.seen, settings.epochs * len(data.train))
                stops.obey()
            except KeyboardInterrupt:  # between two batches: all is in step
                at.random = random_state(device)
                save()
                raise
        at.random = random_state(device)
    try:
        row = _finish_epoch(at.model, data, settings, part, epoch, stops)
    except KeyboardInterrupt:  # its batches are done
        save()
        raise
    at.rows, at.part, at.random = [*at.rows, row], None, None


def _finish_epoch(
    model: nn.Module,
    data: DataSplits,
    settings: TrainSettings,
    part: PartialEpoch,
    epoch: int,
    stops: Stops,
) -> dict[str, Any]:
    """The row of an epoch whose batches are done: the network is evaluated."""
    mean_loss = float(processes.all_reduce(part.loss)) / part.seen
    if not math.isfinite(mean_loss):
        raise ValueError(
            f"the loss is {mean_loss} in epoch {epoch + 1}: training diverged; a smaller lr than "
            f"{settings.lr} may help"
        )
    row = {
        "epoch": epoch + 1,
        "lr": settings.lr_at(epoch),
        "train_loss": mean_loss,
        "train_accuracy": int(processes.all_reduce(part.correct)) / part.seen,
    }
    for name, split in (("val", data.val), ("test", data.test)):
        found = evaluate(
            model, split, precision=settings.precision, on_batch=lambda *_: stops.obey()
        )
        row |= {f"{name}_loss": found.loss, f"{name}_accuracy": found.accuracy}
    return row | {"seconds": round(part.spent(), 2)}


def _best(rows: list[dict[str, Any]]) -> int:
    """Which epoch's row has the best validation accuracy, the first of equals."""
    return max(range(len(rows)), key=lambda i: (rows[i]["val_accuracy"], -i))


def _is_stale(rows: list[dict[str, Any]], patience: int | None) -> bool:
    return patience is not None and bool(rows) and len(rows) - 1 - _best(rows) >= patience


def _compiles(settings: TrainSettings, device: torch.device) -> bool:
    """As the settings say; by default where a long run on a GPU wins back the minutes it takes."""
    if settings.compile is not None:
        return settings.compile
    able = find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))
    long = settings.epochs >= LONG and processes.world_size() == 1
    return device.type == "cuda" and long and able


def _prepare_optimizer(
    optimizer: torch.optim.SGD, model: nn.Module, settings: TrainSettings
) -> None:
    if not isinstance(optimizer, torch.optim.SGD):
        given = type(optimizer).__name__
        raise ValueError(f"train goes on with torch.optim.SGD (make_optimizer), not {given}")
    check_optimizer(optimizer, model)
    for group in optimizer.param_groups:
        group |= {"momentum": settings.momentum, "weight_decay": settings.weight_decay}


def _align_momentum(optimizer: torch.optim.SGD) -> None:
    """Momentum gets its weight's memory format: fused steps ask for it."""
    for parameter, state in optimizer.state.items():
        if isinstance(momentum := state.get("momentum_buffer"), Tensor):
            state["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)


def _format_epoch(row: dict[str, Any], epochs: int) -> str:
    accuracies = (f"{name} {row[f'{name}_accuracy']:.1%}" for name in ("train", "val", "test"))
    return (
        f"  epoch {row['epoch']:>3}/{epochs}  loss {row['train_loss']:.3f}  "
        f"accuracy: {', '.join(accuracies)}"
    )


def _plain(settings: TrainSettings) -> dict[str, Any]:
    return {**asdict(settings), "milestones": list(settings.milestones)}


def _identity(settings: TrainSettings, data: DataSplits) -> dict[str, Any]:
    """What a checkpoint must agree with to go on from it."""
    normalization = [list(values) for values in data.normalization]
    about = _plain(settings)
    del about["compile"]  # how it runs, not what it learns
    return {**about, "data": data.fingerprint, "normalization": normalization}
