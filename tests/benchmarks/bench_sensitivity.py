"""Sensitivity beside the loop one would write: copy, prune, and evaluate over a DataLoader, for each layer and ratio."""

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from turns import compare

from prunelab import load_data, load_model, make_plan, measure_sensitivity, prune, trace
from prunelab.batches import Split, normalize

IMAGES = 500
LAYERS = 7
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def ours(model: nn.Module, split: Split, layers: list[str]) -> list[int]:
    return measure_sensitivity(model, split, layers=layers, ratios=RATIOS).query("ratio > 0")["correct"].tolist()


def theirs(model: nn.Module, split: Split, layers: list[str], batch_size: int) -> list[int]:
    loader = DataLoader(
        TensorDataset(normalize(split.images, split.normalization), split.labels), batch_size=batch_size
    )
    graph = trace(model, torch.zeros(1, 3, 32, 32))
    counts = []
    for layer in layers:
        for ratio in RATIOS:
            small = prune(copy.deepcopy(model), make_plan(graph, {layer: ratio})).eval()
            with torch.inference_mode():
                counts.append(sum(int((small(images).argmax(1) == labels).sum()) for images, labels in loader))
    return counts


def settle(model: nn.Module, split: Split) -> nn.Module:
    """Batch norms that know the images, as after training."""
    model.train()
    with torch.no_grad():
        for images, _ in split.batches(100):
            model(images)
    return model.eval()


def rows(pairs: int, device: str = "cpu") -> Iterator[dict[str, object]]:
    train = load_data("digits", device=device).train
    split = Split(train.images[:IMAGES], train.labels[:IMAGES], train.normalization)
    for name in ("resnet56", "vgg16"):
        torch.manual_seed(0)
        model = settle(load_model(name).to(device), split)
        free = [g.leader for g in trace(model, torch.zeros(1, 3, 32, 32)).groups if g.prunable]
        layers = [free[round(i * (len(free) - 1) / (LAYERS - 1))] for i in range(LAYERS)]
        for batch_size in (128, IMAGES):  # the second is slower on a CPU, but what one may write
            truth = theirs(model, split, layers, batch_size)
            assert ours(model, split, layers) == truth
            what = f"sensitivity, {name}, {LAYERS} layers × {len(RATIOS)} ratios, {IMAGES} images, {device}; theirs {batch_size} at once"
            given = (model, split, layers, batch_size)
            yield compare(what, lambda given: ours(*given[:3]), lambda given: theirs(*given), lambda g=given: g, pairs)
