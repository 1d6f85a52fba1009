"""What networks answer, image by image, and what it says of classes: counts of one frame."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn

from prunelab.data import FileSplit, Split, pick_batch_size, take
from prunelab.training.evaluation import check_finite, check_outputs
from prunelab.utils.checks import check_choice, check_whole
from prunelab.utils.intervals import wilson
from prunelab.utils.modules import find_place

VERDICTS = ("broke", "mended", "both wrong")


def predict(
    models: Mapping[str, nn.Module],
    split: Split | FileSplit,
    *,
    classes: Sequence[str] | None = None,
    images: int | None = None,
    seed: int = 0,
    on_batch: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """What each network answers on each image of a split, in evaluation mode.

    Each batch is read once, and all networks look at it.

    Args:
        models: {name: model}; each takes images (n, 3, h, w) and returns logits (n, classes).
        split: `data.val`, say.
        classes: the classes' names, `data.classes`; None: their numbers.
        images: only so many of the split's images, picked by `seed`; None: all.
        seed: of that pick.
        on_batch: called with (images done, images in all, of all networks) after each batch.

    Returns:
        A row for each network and image. Columns: image (its place in the split), label, network,
        predicted, confidence (the softmax of what is predicted). label, network and predicted are
        categories in their own order: `frame["label"].cat.codes` are the numbers of classes.

    Raises:
        ValueError: no models, a wrong number of images or classes, or outputs that are no logits.

    Example:
        >>> predicted = predict({"whole": model, "pruned": small}, data.val, classes=data.classes)
        >>> find_flips(predicted, "whole", "pruned")
    """
    names = _check(models, split, classes)
    places = torch.arange(len(split))
    if images is not None:
        check_whole("images", images, most=len(split), why="what the split has")
        generator = torch.Generator().manual_seed(seed)
        places = torch.randperm(len(split), generator=generator)[:images]
        places = torch.sort(places)[0]
    taken = take(split, places)
    modes = [(module, module.training) for m in models.values() for module in m.modules()]
    try:
        found = _answer(models, taken, split, on_batch)
    finally:
        for module, training in modes:
            module.training = training
    shared = {"image": places.tolist(), "label": taken.labels.tolist()}
    frames = [pd.DataFrame({**shared, "network": name, **own}) for name, own in found.items()]
    frame = pd.concat(frames, ignore_index=True)
    # a network may know classes that the data do not have
    names += [str(number) for number in range(len(names), int(frame["predicted"].max()) + 1)]
    for column in ("label", "predicted"):
        frame[column] = pd.Categorical.from_codes(frame[column].to_numpy(), pd.Index(names))
    return frame.assign(network=pd.Categorical(frame["network"], list(models)))


def _answer(
    models: Mapping[str, nn.Module],
    taken: Split | FileSplit,
    split: Split | FileSplit,
    on_batch: Callable[[int, int], None] | None,
) -> dict[str, dict[str, list[Any]]]:
    """Of each model, what it predicts and how sure it is, of some images of a split."""
    found: dict[str, dict[str, list[Any]]] = {}
    places = {name: find_place(model) for name, model in models.items()}
    for name, model in models.items():
        model.eval()
        found[name] = {"predicted": [], "confidence": []}
    done, step = 0, pick_batch_size(split.image_size, next(iter(places.values()))[0])
    with torch.inference_mode():
        for images, _ in taken.batches(step):
            for name, model in models.items():
                logits = model(images.to(*places[name]))
                check_outputs(logits, split)
                confidence, answer = logits.float().softmax(1).max(1)
                check_finite(float(confidence.sum()), name)
                found[name]["predicted"] += answer.tolist()
                found[name]["confidence"] += confidence.tolist()
                done += len(images)
                if on_batch:
                    on_batch(done, len(models) * len(taken))
    return found


def count_classes(predicted: pd.DataFrame) -> pd.DataFrame:
    """How often each network is right about each class.

    Args:
        predicted: of `predict`.

    Returns:
        A row for each network and class that has images. Columns: network, class, correct, total,
        accuracy, accuracy_low, accuracy_high (Wilson's 95 % interval).

    Example:
        >>> count_classes(predicted).sort_values("accuracy").head()
    """
    right = predicted.assign(right=predicted["label"] == predicted["predicted"])
    counted = right.groupby(["network", "label"], observed=True)["right"].agg(["sum", "size"])
    columns = {"label": "class", "sum": "correct", "size": "total"}
    counted = counted.reset_index().rename(columns=columns)
    pairs = zip(counted["correct"], counted["total"], strict=True)
    low, high = zip(*(wilson(correct, total) for correct, total in pairs), strict=True)
    accuracy = counted["correct"] / counted["total"]
    return counted.assign(accuracy=accuracy, accuracy_low=low, accuracy_high=high)


def count_confusions(predicted: pd.DataFrame) -> pd.DataFrame:
    """What each network takes each class for.

    Args:
        predicted: of `predict`.

    Returns:
        A row for each network, class and answer that was given. Columns: network, class, predicted,
        count.

    Example:
        >>> count_confusions(predicted).query("`class` != predicted").nlargest(5, "count")
    """
    named = predicted.rename(columns={"label": "class"})
    counted = named.groupby(["network", "class", "predicted"], observed=True).size()
    return counted.reset_index(name="count")


def find_flips(predicted: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """The images of which two networks say different things.

    Args:
        predicted: of `predict`.
        one: the network before, by its name.
        other: the network after.

    Returns:
        A row for each such image. Columns: image, label, before, after (the answers),
        confidence_before, confidence_after, verdict (broke, mended or both wrong). Those that broke
        come first, and of these the ones that the network after is surest of.

    Raises:
        ValueError: there is no such network.

    Example:
        >>> find_flips(predicted, "whole", "pruned").groupby("verdict").size()
    """
    networks = list(dict.fromkeys(predicted["network"]))
    before, after = (
        predicted[predicted["network"] == check_choice("network", name, networks)]
        for name in (one, other)
    )
    both = before.merge(after, on=["image", "label"], suffixes=("_before", "_after"))
    both = both.rename(columns={"predicted_before": "before", "predicted_after": "after"})
    flips = both[both["before"] != both["after"]]
    verdict = pd.Series("both wrong", flips.index)
    verdict = verdict.mask(flips["before"] == flips["label"], "broke")
    verdict = verdict.mask(flips["after"] == flips["label"], "mended")
    flips = flips.assign(verdict=pd.Categorical(verdict, VERDICTS))
    order = ["verdict", "confidence_after", "image"]
    flips = flips.sort_values(order, ascending=[True, False, True], ignore_index=True)
    confidences = ["confidence_before", "confidence_after"]
    return flips[["image", "label", "before", "after", *confidences, "verdict"]]


def _check(
    models: Mapping[str, nn.Module], split: Split | FileSplit, classes: Sequence[str] | None
) -> list[str]:
    """The names of the classes; ValueError says what is wrong with what `predict` was given."""
    if not isinstance(models, Mapping) or not models:
        given = "an empty one" if isinstance(models, Mapping) else type(models).__name__
        raise ValueError(f"predict takes {{name: model}}, such as {{'whole': model}}, not {given}")
    if not isinstance(split, Split | FileSplit):
        raise ValueError(f"predict takes a split, such as data.val, not {type(split).__name__}")
    count = int(split.labels.max()) + 1
    if classes is not None and len(classes) < count:
        raise ValueError(
            f"classes names {len(classes)}, and the split has {count}; data.classes names them all"
        )
    return [str(number) for number in range(count)] if classes is None else list(classes)
