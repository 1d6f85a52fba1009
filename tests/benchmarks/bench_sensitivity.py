"""Sensitivity beside the loop one would write.

For each layer and ratio, that copies, prunes, and evaluates over a DataLoader.
"""

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from turns import compare

from prunelab import load_data, load_model, make_plan, measure_sensitivity, prune, trace
from prunelab.data.batches import Split
from prunelab.data.images import normalize

IMAGES = 500
LAYERS = 7
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def ours(model: nn.Module, split: Split, layers: list[str]) -> list[int]:
    table = measure_sensitivity(model, split, layers=layers, ratios=RATIOS)
    return table.query("ratio > 0")["correct"].tolist()


def theirs(model: nn.Module, split: Split, layers: list[str], batch_size: int) -> list[int]:
    images = normalize(split.images, split.normalization)
    loader = DataLoader(TensorDataset(images, split.labels), batch_size=batch_size)
    graph = trace(model, torch.zeros(1, 3, 32, 32))
    counts = []
    for layer in layers:
        for ratio in RATIOS:
            small = prune(copy.deepcopy(model), make_plan(graph, {layer: ratio})).eval()
            correct = 0
            with torch.inference_mode():
                for images, labels in loader:
                    correct += int((small(images).argmax(1) == labels).sum())
            counts.append(correct)
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
            amount = f"{LAYERS} layers × {len(RATIOS)} ratios, {IMAGES} images"
            what = f"sensitivity, {name}, {amount}, {device}; theirs {batch_size} at once"
            given = (model, split, layers)
            yield compare(
                what,
                lambda size, given=given: ours(*given),
                lambda size, given=given: theirs(*given, size),
                lambda size=batch_size: size,
                pairs,
            )
