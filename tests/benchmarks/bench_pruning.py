"""Trace, plan and prune beside Torch-Pruning 1.6; a plan's cost beside pruning and counting.

Ours leaves the model given as it is and returns a smaller copy; theirs works in place.
"""

import copy
from functools import partial

import torch
import torch_pruning as tp
from torch import nn
from torchvision.models import get_model
from turns import compare

from prunelab import load_model, make_plan, measure_cost, prune, trace

IMAGES = torch.zeros(1, 3, 224, 224)
SMALL = torch.zeros(1, 3, 32, 32)


def ours(model: nn.Module) -> nn.Module:
    graph = trace(model, IMAGES)
    return prune(model, make_plan(graph, {"*": 0.3}), graph=graph)


def theirs(model: nn.Module) -> nn.Module:
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    choices = {"pruning_ratio": 0.3, "ignored_layers": head}
    score = tp.importance.MagnitudeImportance(p=1)
    tp.pruner.MagnitudePruner(model, IMAGES, importance=score, **choices).step()
    return model


def prune_rows(pairs: int) -> list[dict[str, object]]:
    rows = []
    for name in ("resnet50", "vgg16_bn", "densenet201"):
        # densenet201: half a minute for each of theirs
        turns = min(pairs, 3) if name == "densenet201" else pairs
        model = get_model(name, weights=None).eval()
        what = f"trace + plan + prune, {name}"
        rows.append(compare(what, ours, theirs, partial(copy.deepcopy, model), turns))
    return rows


def cost_row(pairs: int) -> dict[str, object]:
    """What a plan would save on ResNet-110: from the graph, and by pruning and counting."""
    model = load_model("resnet110")
    graph = trace(model, SMALL)
    plan = make_plan(graph, {"*": 0.3})
    return compare(
        "multiply-adds of a plan, resnet110",
        lambda _: measure_cost(graph, plan),
        lambda _: tp.utils.count_ops_and_params(prune(model, plan, graph=graph), SMALL),
        lambda: None,
        pairs,
    )


def rows(pairs: int, device: str = "cpu") -> list[dict[str, object]]:
    del device  # nothing of it is heavy: on the CPU
    return [cost_row(pairs), *prune_rows(pairs)]
