"""How filters are scored: a small score says that the filter matters little."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.data import DataSplits, FileSplit, Split, pick_batch_size
from prunelab.graph import ChannelGraph, check_graph
from prunelab.utils.checks import check_choice, check_seed
from prunelab.utils.modules import find_place, widen
from prunelab.utils.progress import Report

BATCH = 250  # images that are summed up at once; the number changes no score but Taylor's
PIECE = 2**16  # numbers of maps that are float64 at once: large ones would scatter the heap


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


def _norm(maps: Tensor) -> Tensor:
    return maps.square().sum(2).sqrt()


# statistics of one feature map before batch norm and ReLU (Li et al. 2017, §4.5, Fig. 9):
# (images, filters, pixels) -> (images, filters); over the images, the name's mean or variance
MAP_STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean_mean": lambda maps: maps.mean(2),
    "mean_std": lambda maps: maps.std(2, correction=0),
    "mean_l1": lambda maps: maps.abs().sum(2),
    "mean_l2": _norm,
    "var_l2": _norm,
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
    on_progress: Report | None = None,
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
        on_progress: called with (images done, images in all) after each batch of images.

    Returns:
        ``{layer: scores (filters,)}``, in forward order.

    Raises:
        ValueError: an unknown criterion, or one that lacks data or a batch norm; weights that are
            not finite.
    """
    check_graph(graph, "score_filters")
    check_choice("criterion", criterion, CRITERIA)
    check_seed(seed)
    names = graph.scored if layers is None else [graph.find(layer) for layer in layers]
    scores = _score(graph, criterion, names, data, images, seed, on_progress)
    for name, own in scores.items():
        if not own.is_meta and not bool(own.isfinite().all()):
            raise ValueError(
                f"filters of {name} have no finite score by {criterion}: look for NaN or huge "
                "numbers in the network's weights"
            )
    return scores


def _score(
    graph: ChannelGraph,
    criterion: str,
    names: Sequence[str],
    data: DataSplits | Split | FileSplit | None,
    images: int | None,
    seed: int,
    on_progress: Report | None,
) -> dict[str, Tensor]:
    if criterion in WEIGHT_CRITERIA:
        return {name: WEIGHT_CRITERIA[criterion](widen(graph.filters(name))) for name in names}
    if criterion == "bn_scale":
        return {name: widen(_find_scale(graph, name).detach()).abs() for name in names}
    if data is None:
        raise ValueError(
            f"criterion {criterion!r} looks at images: pass data=, such as load_data('digits')"
        )
    split = getattr(data, "train", data)
    with _evaluating(graph.model):
        batches = _pick_batches(split, images, seed, on_progress)
        if criterion == "taylor":
            return _score_taylor(graph, names, batches)
        return _score_maps(graph, names, [criterion], batches)[criterion]


def score_statistics(
    graph: ChannelGraph,
    data: DataSplits | Split | FileSplit,
    *,
    images: int | None = None,
    seed: int = 0,
    on_progress: Report | None = None,
) -> dict[str, dict[str, Tensor]]:
    """The scores of all criteria of maps, `mean_mean` … `var_l2`, in one pass over the images.

    Args:
        graph: of `trace`.
        data: as in `score_filters`.
        images: likewise.
        seed: likewise.
        on_progress: likewise.

    Returns:
        ``{criterion: {layer: scores (filters,)}}``: what `score_filters` gives for each.

    Example:
        >>> score_statistics(graph, data, images=1000)["mean_std"]["layer1.0.conv1"]
    """
    check_graph(graph, "score_statistics")
    check_seed(seed)
    split = getattr(data, "train", data)
    with _evaluating(graph.model):
        batches = _pick_batches(split, images, seed, on_progress)
        return _score_maps(graph, graph.scored, list(MAP_STATISTICS), batches)


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


def _pick_batches(
    split: Any, images: int | None, seed: int, on_progress: Report | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, or the first `images` of an order drawn by the seed."""
    done, total = 0, len(split) if images is None else min(images, len(split))
    for batch, labels in split.batches(min(BATCH, total), seed=None if images is None else seed):
        yield batch[: total - done], labels[: total - done]
        done = min(done + len(labels), total)
        if on_progress:
            on_progress(done, total)
        if done == total:
            return


def _images_at_once(batch: Tensor, device: torch.device) -> int:
    """Fewer than where nothing else is kept of an image: this bounds the memory."""
    return max(1, pick_batch_size(batch.shape[-1], device) // 4)


class _Moments:
    """Mean and Σ (x − mean)² of a statistic over images (Chan, Golub, LeVeque 1979)."""

    def __init__(self) -> None:
        self.noted: list[Tensor] = []  # of one batch: (images, filters) each
        self.count = 0
        self.mean = self.spread = torch.zeros(())

    def add_up(self) -> None:
        """Take in what was noted of a batch."""
        values = torch.cat(self.noted)
        self.noted.clear()
        n, mean = len(values), values.mean(0)
        spread = (values - mean).square().sum(0)
        if self.count:
            delta, total = mean - self.mean, self.count + n
            spread = self.spread + spread + delta.square() * self.count * n / total
            mean = self.mean + delta * n / total
        self.mean, self.spread, self.count = mean, spread, self.count + n


def _score_maps(
    graph: ChannelGraph,
    names: Sequence[str],
    criteria: Sequence[str],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> dict[str, dict[str, Tensor]]:
    """Means, or variances, over the images of statistics of each map; in one pass, in float64."""
    statistics = dict.fromkeys(MAP_STATISTICS[criterion] for criterion in criteria)
    moments = {name: {statistic: _Moments() for statistic in statistics} for name in names}

    def hook(name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, out: Tensor) -> None:
            maps = out.movedim(-1, 1) if isinstance(module, nn.Linear) else out
            for piece in maps.split(max(1, PIECE * len(maps) // maps.numel())):
                exact = piece.flatten(2).double()
                for statistic, own in moments[name].items():
                    own.noted.append(statistic(exact))

        return note

    handles = [graph.module_of(name).register_forward_hook(hook(name)) for name in names]
    try:
        with torch.inference_mode():
            device, kind = find_place(graph.model)
            for batch, _ in batches:
                for part in batch.split(_images_at_once(batch, device)):
                    graph.model(part.to(device, kind))
                for of_layer in moments.values():
                    for own in of_layer.values():
                        own.add_up()
    finally:
        for handle in handles:
            handle.remove()
    scores: dict[str, dict[str, Tensor]] = {}
    for criterion in criteria:
        found = {name: moments[name][MAP_STATISTICS[criterion]] for name in names}
        if criterion == "var_l2":
            scores[criterion] = {name: own.spread / own.count for name, own in found.items()}
        else:
            scores[criterion] = {name: own.mean.clone() for name, own in found.items()}
    return scores


def _score_taylor(
    graph: ChannelGraph, names: Sequence[str], batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    weights: list[Tensor] = [graph.module_of(name).weight for name in names]  # type: ignore[misc]
    (device, kind), count = find_place(graph.model), 0
    sums = [
        torch.zeros(graph.shapes[name].n_out, dtype=torch.double, device=device) for name in names
    ]
    for batch, labels in batches:
        products = [torch.zeros_like(total) for total in sums]  # Σ g·w, part by part
        step = _images_at_once(batch, device)
        for images, own in zip(batch.split(step), labels.split(step), strict=True):
            logits = graph.model(images.to(device, kind))
            loss = F.cross_entropy(widen(logits), own.to(device), reduction="sum") / len(labels)
            for i, gradient in enumerate(torch.autograd.grad(loss, weights)):
                product = graph.as_filters(names[i], (widen(gradient) * weights[i]).detach())
                products[i] += product.flatten(1).sum(1).double()
        for total, product in zip(sums, products, strict=True):
            total += product.square()
        count += 1
    return {name: total / count for name, total in zip(names, sums, strict=True)}
