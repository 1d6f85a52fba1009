"""How well a network does: counted on a split."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.data import FileSplit, Split, pick_batch_size
from prunelab.utils import processes
from prunelab.utils.intervals import wilson
from prunelab.utils.modules import find_place, widen


@dataclass(frozen=True)
class Metrics:
    """What an evaluation counted.

    Attributes:
        correct: images whose class was predicted.
        total: images.
        loss: the mean cross-entropy.
    """

    correct: int
    total: int
    loss: float

    @property
    def accuracy(self) -> float:
        """correct / total, in [0, 1]."""
        return self.correct / self.total


def evaluate(
    model: nn.Module,
    split: Split | FileSplit,
    *,
    batch_size: int | None = None,
    precision: str = "float32",
    on_batch: Callable[[int, int], None] | None = None,
) -> Metrics:
    """How the model does on a split, in evaluation mode.

    Images are normalised as the split says and go to the model's device, in its kind of float; the
    model is left in the mode it was in. Under torchrun all processes call it, and each looks at its
    shard of the images.

    Args:
        model: images (n, 3, h, w) in, logits (n, classes) out.
        split: `data.val`, say.
        batch_size: images at once; None picks it by their size and the device.
        precision: `float32` or `bfloat16`.
        on_batch: called with (images done, images in all) after each batch.

    Returns:
        What was counted.

    Raises:
        ValueError: the model's outputs are no logits of the split's classes, or not finite; it has
            no weights (on meta), or the split no images.

    Example:
        >>> evaluate(model, data.test).accuracy
    """
    if not isinstance(split, Split | FileSplit):
        raise ValueError(f"evaluate takes a split, such as data.test, not {type(split).__name__}")
    if not len(split):
        raise ValueError("evaluate takes a split with images; this one has none")
    device, kind = find_place(model)
    training = model.training
    correct = torch.zeros((), dtype=torch.long, device=device)
    loss = torch.zeros((), dtype=torch.double, device=device)
    try:
        model.eval()
        with torch.inference_mode(), autocast(device, precision):
            step = batch_size or pick_batch_size(split.image_size, device)
            for i, (images, labels) in enumerate(split.batches(step, shared=True)):
                images, labels = images.to(device, kind), labels.to(device)
                logits = model(images)
                if not i:
                    check_outputs(logits, split)
                correct += (logits.argmax(1) == labels).sum()
                loss += F.cross_entropy(widen(logits), labels, reduction="sum")
                if on_batch:
                    on_batch(min(step * (i + 1), len(split)), len(split))
    finally:
        model.train(training)
    correct, loss = processes.all_reduce(correct), processes.all_reduce(loss)
    check_finite(float(loss), type(model).__name__)
    return Metrics(int(correct), len(split), float(loss) / len(split))


def compare_networks(
    models: Mapping[str, nn.Module],
    split: Split | FileSplit,
    *,
    on_batch: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """How several networks do on one split.

    Args:
        models: {name: model}.
        split: `data.test`, say.
        on_batch: called with (images done, images in all, of all networks) after each batch.

    Returns:
        A row for each network; columns network, correct, total, accuracy, accuracy_low,
        accuracy_high (Wilson's 95 % interval), loss.

    Raises:
        ValueError: models without names; else as `evaluate`.

    Example:
        >>> compare_networks({"whole": model, "pruned": small}, data.test)
    """
    if not isinstance(models, Mapping):
        given = type(models).__name__
        raise ValueError(
            "compare_networks takes models by name, such as {'whole': model, 'pruned': small}, "
            f"not {given}"
        )
    rows = []
    for i, (name, model) in enumerate(models.items()):

        def note(done: int, total: int, before: int = i) -> None:
            if on_batch:
                on_batch(before * total + done, len(models) * total)

        found = evaluate(model, split, on_batch=note)
        low, high = wilson(found.correct, found.total)
        row = {
            "network": name,
            "correct": found.correct,
            "total": found.total,
            "accuracy": found.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "loss": found.loss,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def check_outputs(logits: Tensor, split: Split | FileSplit) -> None:
    """ValueError unless a model's outputs are logits of at least the classes of the split."""
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"the model returns a {type(logits).__name__}; it must return logits (n, classes) alone"
        )
    if int(split.labels.min()) < 0:
        raise ValueError(f"the split has the label {int(split.labels.min())}; labels count from 0")
    classes = int(split.labels.max()) + 1
    if logits.ndim != 2 or logits.shape[1] < classes:
        raise ValueError(
            f"the model's output has the shape {tuple(logits.shape)}, and the data {classes} "
            f"classes; it must return logits (n, classes): load_model(..., num_classes={classes})"
        )


def check_finite(total: float, network: str) -> None:
    """ValueError where a sum over a network's outputs is NaN or infinite: they predict nothing."""
    if not math.isfinite(total):
        raise ValueError(
            f"the outputs of {network} are not finite (their sum or loss is {total}): look for NaN "
            "or huge numbers in its weights, and at the images' normalization"
        )


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which operators compute in bfloat16 where that was asked for."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
