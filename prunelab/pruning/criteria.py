"""How filters are scored: a small score says that the filter matters little."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.data import DataSplits, FileSplit, Split
from prunelab.graph import ChannelGraph
from prunelab.utils.checks import check_choice

BATCH = 250  # images at once: bounds the memory, changes no score but Taylor's


def l1(weight: Tensor) -> Tensor:
    """s_j = Σ|F_j|, the criterion of Li et al. 2017, §3.1. (out, in, kh, kw) -> (out,)"""
    return weight.abs().flatten(1).sum(1)


def l2(weight: Tensor) -> Tensor:
    """s_j = √Σ F_j², which behaves much the same (Li et al. 2017, appendix).

    (out, in, kh, kw) -> (out,)
    """
    return weight.square().flatten(1).sum(1).sqrt()


def fpgm(weight: Tensor) -> Tensor:
    """s_j = Σ_i ‖F_j − F_i‖₂: a filter near the geometric median is replaceable.

    He et al. 2019, eq. 4, 7. (out, in, kh, kw) -> (out,)
    """
    flat = weight.flatten(1)
    return torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").sum(1)


# statistics of one feature map before batch norm and ReLU (Li et al. 2017, §4.5, Fig. 9):
# (images, filters, pixels) -> (images, filters); over the images, the name's mean or variance
MAP_STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean_mean": lambda maps: maps.mean(2),
    "mean_std": lambda maps: maps.std(2, correction=0),
    "mean_l1": lambda maps: maps.abs().sum(2),
    "mean_l2": lambda maps: maps.square().sum(2).sqrt(),
    "var_l2": lambda maps: maps.square().sum(2).sqrt(),
}
WEIGHT_CRITERIA: dict[str, Callable[[Tensor], Tensor]] = {"l1": l1, "l2": l2, "fpgm": fpgm}
IMAGE_CRITERIA = (*MAP_STATISTICS, "taylor")
CRITERIA = (*WEIGHT_CRITERIA, "bn_scale", *IMAGE_CRITERIA)


def score_filters(
    graph: ChannelGraph,
    criterion: str = "l1",
    *,
    data: DataSplits | Split | FileSplit | None = None,
    images: int | None = None,
    layers: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """How much each filter matters, by a criterion: a small score says little.

    Args:
        graph: of `trace`.
        criterion: of weights, over all of a filter's kernels (independent scoring, Li et al. 2017,
            §3.3): `l1`, `l2`, `fpgm`; `bn_scale`, `|γ_j|` of the batch norm behind the conv (Liu et
            al. 2017); of images: `mean_mean`, `mean_std`, `mean_l1`, `mean_l2`, `var_l2` of the
            conv's maps before batch norm (Li et al. 2017, §4.5), and `taylor`, the mean over
            batches of (Σ g·w)² for the filter's weights w and the gradients g of the cross-entropy
            (Molchanov et al. 2019, eq. 8, 12).
        data: whose training images a criterion of images looks at, or a split.
        images: how many of them, picked by seed; None means all.
        layers: only these; None: every conv, and what else leads a group.
        seed: which images.

    Returns:
        ``{layer: scores (filters,)}``, in forward order.

    Raises:
        ValueError: an unknown criterion, or one that lacks data or a batch norm.
    """
    check_choice("criterion", criterion, CRITERIA)
    names = graph.scored if layers is None else [graph.find(layer) for layer in layers]
    if criterion in WEIGHT_CRITERIA:
        return {name: WEIGHT_CRITERIA[criterion](graph.filters(name)) for name in names}
    if criterion == "bn_scale":
        return {name: _find_scale(graph, name).detach().abs() for name in names}
    if data is None:
        raise ValueError(
            f"criterion {criterion!r} looks at images: pass data=, such as load_data('digits')"
        )
    split = getattr(data, "train", data)
    with _evaluating(graph.model):
        if criterion == "taylor":
            return _score_taylor(graph, names, split, images, seed)
        return _score_maps(graph, names, criterion, split, images, seed)


def _find_scale(graph: ChannelGraph, layer: str) -> Tensor:
    """The γ of the norm that reads this layer's maps, channel by channel."""
    channels, made = graph.channels, graph.channels.made[layer]
    for name, module in graph.model.named_modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.affine:
            labels = channels.slices.get(f"{name}.weight", {}).get(0)
            if labels is not None and torch.equal(labels, made):
                return module.weight
    raise ValueError(
        "criterion 'bn_scale' needs a batch norm with a scale behind each layer; "
        f"{layer} has none. l1 needs none"
    )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    try:
        yield model.eval()  # type: ignore[misc]
    finally:
        model.train(training)


def _pick_batches(split: Any, images: int | None, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, or the first `images` of an order drawn by the seed."""
    left = len(split) if images is None else images
    for batch, labels in split.batches(min(BATCH, left), seed=None if images is None else seed):
        yield batch[:left], labels[:left]
        left -= len(labels)
        if left <= 0:
            return


def _score_maps(
    graph: ChannelGraph,
    names: Sequence[str],
    criterion: str,
    split: Any,
    images: int | None,
    seed: int,
) -> dict[str, Tensor]:
    """Mean, or variance, over the images of a statistic of each map; in one pass, in float64."""
    statistic = MAP_STATISTICS[criterion]
    count = dict.fromkeys(names, 0)
    mean: dict[str, Tensor] = {}
    # Σ (x − mean)², updated batch by batch (Chan, Golub, LeVeque 1979)
    spread: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, out: Tensor) -> None:
            maps = out.movedim(-1, 1) if isinstance(module, nn.Linear) else out
            values = statistic(maps.flatten(2).double())  # (images, filters)
            n, more = len(values), values.mean(0)
            around = (values - more).square().sum(0)
            if name in mean:
                delta, before = more - mean[name], count[name]
                around = spread[name] + around + delta.square() * before * n / (before + n)
                more = mean[name] + delta * n / (before + n)
            mean[name], spread[name] = more, around
            count[name] += n

        return note

    handles = [graph.module_of(name).register_forward_hook(hook(name)) for name in names]
    try:
        with torch.inference_mode():
            device = next(graph.model.parameters()).device
            for batch, _ in _pick_batches(split, images, seed):
                graph.model(batch.to(device))
    finally:
        for handle in handles:
            handle.remove()
    if criterion == "var_l2":
        return {name: spread[name] / count[name] for name in names}
    return {name: mean[name].clone() for name in names}


def _score_taylor(
    graph: ChannelGraph, names: Sequence[str], split: Any, images: int | None, seed: int
) -> dict[str, Tensor]:
    weights: list[Tensor] = [graph.module_of(name).weight for name in names]  # type: ignore[misc]
    sums = [
        torch.zeros(graph.shapes[name].n_out, dtype=torch.double, device=weights[0].device)
        for name in names
    ]
    batches = 0
    for batch, labels in _pick_batches(split, images, seed):
        logits = graph.model(batch.to(weights[0].device))
        loss = F.cross_entropy(logits, labels.to(logits.device))
        for i, gradient in enumerate(torch.autograd.grad(loss, weights)):
            product = (gradient * weights[i]).detach()
            sums[i] += graph.as_filters(names[i], product).flatten(1).sum(1).double().square()
        batches += 1
    return {name: total / batches for name, total in zip(names, sums, strict=True)}
