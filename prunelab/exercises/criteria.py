"""Exercises of notebook 06: a criterion of maps by hand, chance, and a criterion of one's own."""

from typing import Any

import torch
from torch import Tensor, nn

from prunelab.data import DataSplits
from prunelab.exercises.verdict import Wrong, call, exercise, take_number, take_tensor
from prunelab.findings import differ, join, percent
from prunelab.graph import ChannelGraph, trace
from prunelab.pruning import PruningPlan, make_plan, prune, score_filters
from prunelab.training import evaluate

SHAPE = (6, 5, 4, 3)  # images, filters, height, width: all different, so that none can be mixed up


@exercise
def check_mean_std(answer: Any) -> str:
    """A function is asked for: maps (n, channels, h, w) to one number for each filter.

    Args:
        answer: the function; `mean_std` of Li et al. 2017, §4.5.

    Returns:
        A verdict.

    Example:
        >>> exercises.check_mean_std(mean_std)
    """
    maps = _draw_maps()
    given = call(answer, maps.clone())
    if isinstance(given, Tensor) and given.shape == (1, SHAPE[1]):
        given = given[0]
    if isinstance(given, Tensor) and given.shape == SHAPE[:2]:
        raise Wrong("That is one number for each map of each image; its mean over images is left.")
    if isinstance(given, Tensor) and given.shape == SHAPE[:1]:
        raise Wrong("That is one number for each image; the filters are along the second axis.")
    found = take_tensor(given, SHAPE[1:2])
    flat = maps.flatten(2)  # (images, filters, pixels)
    right = [flat.std(2, correction=correction).mean(0) for correction in (0, 1)]
    if any(_same(found, one) for one in right):
        return (
            "The spread within each map, then the mean over images: a map that is the same "
            "everywhere says nothing, however large its mean is."
        )
    pooled = maps.transpose(0, 1).flatten(1)  # (filters, images · pixels)
    known = {
        "That is the mean of all: `mean_mean`. The spread of each map is asked for.": [
            pooled.mean(1)
        ],
        "These are maps after ReLU; the criterion looks at them before, where negative values "
        "count.": [flat.relu().std(2, correction=c).mean(0) for c in (0, 1)],
        "That is the spread over all images and pixels at once. How bright an image is counts in "
        "it; take the spread of each map first.": [pooled.std(1, correction=c) for c in (0, 1)],
        "That is the mean of the variances: the root comes before the mean over images.": [
            flat.var(2, correction=c).mean(0) for c in (0, 1)
        ],
        "That is the spread from image to image of a map's mean.": [
            flat.mean(2).std(0, correction=c) for c in (0, 1)
        ],
        "That is the spread over images at each pixel; the spread within a map is asked for.": [
            maps.std(0, correction=c).mean((1, 2)) for c in (0, 1)
        ],
        "That is the mean of the ℓ2-norms, `mean_l2`: the mean of the map is not taken off.": [
            flat.square().sum(2).sqrt().mean(0)
        ],
    }
    for what, wrong in known.items():
        if any(_same(found, one) for one in wrong):
            raise Wrong(what)
    raise Wrong(
        f"The first filter should have {right[0][0]:.4f} for the maps that were tried, and has "
        f"{found[0]:.4f}. Which axes does the standard deviation go over, and which the mean?"
    )


@exercise
def check_chance(answer: Any, ratio: float) -> str:
    """A number is asked for: the share that two unrelated choices have in common.

    Args:
        answer: of what one choice removes, the share that the other removes, too, on average.
        ratio: of the filters that each removes.

    Returns:
        A verdict.

    Example:
        >>> exercises.check_chance(share, 0.3)
    """
    share = take_number(answer)
    if abs(share - ratio) < 0.02:
        return (
            "Each filter of one choice is in the other with that probability. So at 50 % an "
            "overlap of a half says nothing, and the higher the ratio, the more any two criteria "
            "seem to agree."
        )
    if abs(share - 100 * ratio) < 2:
        raise Wrong("That looks like per cent; a fraction in [0, 1] is asked for.")
    if abs(share - ratio**2) < 0.02:
        raise Wrong(
            f"{share:g} of all filters are in both. Asked for is the share of those that one "
            f"choice removes, which are {ratio:g} of all."
        )
    if abs(share - (1 - ratio)) < 0.02:
        raise Wrong("That is the share of one choice that the other keeps.")
    if not 0 <= share <= 1:
        raise Wrong(f"{share:g} is no share: it must be in [0, 1].")
    raise Wrong(
        f"With 100 filters each choice removes {100 * ratio:.0f}. Take one of them: how likely is "
        "it that the other choice, which knows nothing of the first, removes it, too?"
    )


@exercise
def check_own_criterion(
    answer: Any,
    network: nn.Module,
    data: DataSplits,
    layer: str,
    ratio: float = 0.5,
    *,
    draws: int = 3,
    seed: int = 0,
) -> str:
    """A function is asked for: a weight (n_out, n_in, k, k) to one score for each filter.

    Args:
        answer: the function; filters of small scores go.
        network: which is pruned.
        data: whose validation images are counted.
        layer: the only one that loses filters.
        ratio: of them.
        draws: of random filters, beside which it is set.
        seed: of the draws.

    Returns:
        A verdict, with the counts.

    Example:
        >>> exercises.check_own_criterion(my_scores, network, splits, "conv_2")
    """
    graph = trace(network, torch.zeros(data.image_shape))
    name = graph.find(layer)
    weight = graph.filters(name).detach().float().cpu()  # (out, in, kh, kw)
    given = call(answer, weight.clone())
    n_out, n_in = weight.shape[:2]
    if isinstance(given, Tensor) and given.shape == (n_in,) and n_in != n_out:
        raise Wrong(
            f"That is one number for each of the {n_in} input maps; the {n_out} filters are along "
            "the first axis."
        )
    scores = take_tensor(given, (n_out,))
    if not bool(scores.isfinite().all()):
        raise Wrong("Some scores are not finite: is something divided by 0?")
    if len(scores.unique()) == 1:
        raise Wrong("All scores are equal, so the filters would go in the order of their numbers.")
    plan = _plan(graph, name, ratio, scores)
    l1 = score_filters(graph, "l1", layers=[name])[name]
    if plan.keep[name] == _plan(graph, name, ratio, l1).keep[name] and _ranks_alike(scores, l1):
        raise Wrong("It ranks the filters as ℓ1 does. Ask something else of the weights.")
    own = _count(network, graph, plan, data)
    random = []
    for draw in range(draws):
        drawn = make_plan(graph, {name: ratio}, order="random", seed=seed + draw)
        random.append(_count(network, graph, drawn, data))
    total = len(data.val)
    said = (
        f"At {percent(ratio, 0)} of {layer}, yours leaves {own} of {total:,} validation images "
        f"right, {draws} random choices {join(map(str, random))}"
    )
    if all(own > one and differ((own, total), (one, total)) for one in random):
        return (
            f"{said}: more than chance explains for each of them. On another layer it may be "
            "otherwise; a criterion is judged on all of them."
        )
    turned = _count(network, graph, _plan(graph, name, ratio, -scores), data)
    if all(turned > one and differ((turned, total), (one, total)) for one in random):
        raise Wrong(
            f"{said}. Turned round it would leave {turned}: small scores go first, and yours are "
            "small where the filters matter."
        )
    if all(own > one for one in random):
        raise Wrong(
            f"{said}. That is ahead of all, but not by more than chance explains with {total:,} "
            "images."
        )
    raise Wrong(f"{said}. It is not ahead of all of them.")


def _draw_maps() -> Tensor:
    """Maps whose means, spreads and brightness from image to image differ. Of shape SHAPE."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(SHAPE, generator=generator)
    maps = maps * torch.linspace(0.5, 2, SHAPE[1])[:, None, None]
    shift = torch.randn(SHAPE[:2], generator=generator)[:, :, None, None]
    return maps + shift + torch.linspace(1, -1, SHAPE[1])[:, None, None]


def _same(one: Tensor, other: Tensor) -> bool:
    return bool(torch.allclose(one, other.float(), rtol=1e-3, atol=1e-5))


def _plan(graph: ChannelGraph, layer: str, ratio: float, scores: Tensor) -> PruningPlan:
    return make_plan(graph, {layer: ratio}, scores={layer: scores})


def _ranks_alike(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.argsort(stable=True), other.cpu().argsort(stable=True))


def _count(network: nn.Module, graph: ChannelGraph, plan: PruningPlan, data: DataSplits) -> int:
    return evaluate(prune(network, plan, graph=graph), data.val).correct
