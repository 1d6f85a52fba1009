"""What the norms of filters say: how steeply they fall, and why those of digits hardly do."""

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from prunelab.data import DataSplits
from prunelab.findings.networks import load_trained
from prunelab.findings.words import percent
from prunelab.graph import ChannelGraph, trace
from prunelab.models import load_model
from prunelab.pruning import rank_filters
from prunelab.utils.tensors import hash_tensors

FRESH = "not trained"


def norms_of_photographs() -> pd.DataFrame:
    """The sorted filter norms of networks that learned photographs (Li et al. 2017, Fig. 2(a)).

    Returns:
        The rows of `rank_filters`, and model, data, weights and network, of the networks in
        `data/checkpoints`; norms need no image, so they are computed now.

    Example:
        >>> charts.norm_lines(findings.norms_of_photographs().query("model == 'resnet20'"))
    """
    frames = []
    for (model, data), network in load_trained().items():
        ranked = rank_filters(trace(network, torch.zeros(1, 3, 32, 32)))
        about = {"model": model, "data": data, "weights": hash_tensors(network.state_dict())}
        frames.append(ranked.assign(**about, network=f"{model}, {data}"))
    columns = ["network", "model", "data", "weights", "layer", "paper_name", "rank", "share"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def pick_norms(photographs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The networks whose norms are drawn: a VGG-16, as in Fig. 2(a) of the paper, and a ResNet-20.

    Args:
        photographs: of `norms_of_photographs`.

    Returns:
        {network: its rows, thinned}; of VGG-16 that of all widths, or, where there is none, of a
        quarter of them.

    Example:
        >>> for name, rows in findings.pick_norms(findings.norms_of_photographs()).items():
        ...     display(charts.norm_lines(rows))
    """
    picked: dict[str, pd.DataFrame] = {}
    found = {str(name): rows for name, rows in photographs.groupby("network", sort=False)}
    for models in (("vgg16", "vgg16_x0_25"), ("resnet20",)):
        names = [name for model in models for name in found if name.startswith(f"{model},")]
        picked |= {name: thin_norms(found[name]) for name in names[:1]}
    return picked


def thin_norms(ranked: pd.DataFrame, points: int = 12) -> pd.DataFrame:
    """As many rows of each layer as a line needs that is stored in a page.

    Args:
        ranked: of `rank_filters`.
        points: of each layer, about; the largest and the smallest norm are among them.

    Returns:
        These rows, their layers by paper names.

    Example:
        >>> charts.norm_lines(findings.thin_norms(rank_filters(graph)))
    """
    layers = ranked.groupby("layer")["rank"]
    step = (layers.transform("size") / points).clip(lower=1).round()
    drawn = (layers.cumcount() % step == 0) | (ranked["rank"] == 1)
    frame = ranked[drawn]
    # float32 would be written with the digits that it does not have
    return frame.assign(layer=frame["paper_name"], share=frame["share"].astype(float).round(3))


def norms_before_training(model: str, data: DataSplits, seed: int = 0) -> pd.DataFrame:
    """The sorted norms of a network with fresh weights: the control of what training did.

    Args:
        model: its name, as `load_model` takes it.
        data: what it would be trained on.
        seed: of the weights.

    Returns:
        As `rank_filters`, and network: `resnet20, not trained`.

    Example:
        >>> findings.norms_before_training("resnet20", splits)
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = load_model(model, num_classes=len(data.classes))
    ranked = rank_filters(trace(fresh, torch.zeros(data.image_shape)))
    return ranked.assign(network=f"{model}, {FRESH}")


def measure_steepness(ranked: pd.DataFrame) -> pd.DataFrame:
    """How steeply the norms of each layer fall.

    Args:
        ranked: of `rank_filters`, with a column network where there are several.

    Returns:
        A row for each layer of each network; columns network, paper_name, smallest (the smallest
        norm over the largest), mean (the mean norm over the largest). Flat is 1.

    Example:
        >>> findings.measure_steepness(rank_filters(graph)).sort_values("smallest")
    """
    if "network" not in ranked:
        ranked = ranked.assign(network="")
    shares = ranked.groupby(["network", "paper_name"], sort=False)["share"]
    return shares.agg(smallest="min", mean="mean").reset_index()


def lay_beside(steepness: pd.DataFrame, value: str = "smallest") -> pd.DataFrame:
    """Networks side by side, layer by layer.

    Args:
        steepness: of `measure_steepness`.
        value: which of its columns.

    Returns:
        A row for each layer, a column for each network, to two digits; empty where a network has
        no such layer.

    Example:
        >>> findings.lay_beside(findings.measure_steepness(ranked))
    """
    wide = steepness.pivot_table(value, "paper_name", "network")
    order = steepness.drop_duplicates("paper_name")["paper_name"]
    names = steepness.drop_duplicates("network")["network"]
    wide = wide.loc[sorted(order, key=_place), list(names)]
    return wide.map(lambda share: "" if pd.isna(share) else f"{share:.2f}")


def _place(paper_name: str) -> tuple[str, int]:
    kind, _, number = paper_name.rpartition("_")
    return kind, int(number)


def describe_steepness(steepness: pd.DataFrame) -> str:
    """A sentence for each network: its steepest and its flattest layer, and the mean of all.

    Args:
        steepness: of `measure_steepness`.

    Example:
        >>> findings.say(findings.describe_steepness(findings.measure_steepness(ranked)))
    """
    lines = []
    for network, own in steepness.groupby("network", sort=False):
        order = own.sort_values("smallest")
        first, last = order.iloc[0], order.iloc[-1]
        lines.append(
            f"**{network}**: the smallest norm is {percent(own['smallest'].mean(), 0)} of the "
            f"largest, the mean norm {percent(own['mean'].mean(), 0)} (means of {len(own)} convs); "
            f"steepest is {first['paper_name']} with {percent(first['smallest'], 0)}, flattest "
            f"{last['paper_name']} with {percent(last['smallest'], 0)}."
        )
    return "\n".join(lines)


def explain_flat_norms(steepness: pd.DataFrame, network: str, data: DataSplits) -> str:
    """Why norms of digits are flat, beside fresh weights and photographs.

    Args:
        steepness: of `measure_steepness`: `network`, the same model not trained, and the same
            model on photographs.
        network: which of them learned the digits.
        data: what it learned.

    Returns:
        A sentence; empty where the data are no digits, or where its norms are not nearer to those
        of fresh weights.

    Example:
        >>> findings.say(findings.explain_flat_norms(steepness, "resnet20, digits", splits))
    """
    model = network.partition(",")[0]
    means = steepness.groupby("network", sort=False)["smallest"].mean()
    fresh = f"{model}, {FRESH}"
    others = [name for name in means.index if name.startswith(f"{model},")]
    photographs = means[[name for name in others if name not in (network, fresh)]]
    if not data.name.startswith("digits") or photographs.empty or fresh not in means:
        return ""
    gap, usual = abs(means[network] - means[fresh]), abs(photographs.mean() - means[fresh])
    if gap >= usual:
        return ""
    return (
        f"Why digits differ: {len(data.train):,} grey scans of 8×8 pixels are soon learned, and "
        f"leave the norms where chance put them. The smallest is {percent(means[network], 0)} of "
        f"the largest, and was {percent(means[fresh], 0)} in weights that learned nothing; "
        f"photographs bring it to {percent(photographs.mean(), 0)}."
    )


def explain_grey_filters(
    graph: ChannelGraph, data: DataSplits, trained: dict[Any, torch.nn.Module]
) -> str:
    """Why the first layer's filters show little where images are grey.

    Args:
        graph: of the network that learned them.
        data: the images.
        trained: of `load_trained`, to compare.

    Returns:
        A sentence; empty where images have colours, or the first layer does not read three.

    Example:
        >>> findings.say(findings.explain_grey_filters(graph, splits, findings.load_trained()))
    """
    weight = graph.filters(graph.layers[0])
    if weight.shape[1] != 3 or not _is_grey(data):
        return ""
    share = percent(_share_of_colour(weight), 0)
    said = (
        "These images are grey: red, green and blue hold the same, so a filter acts by the sum of "
        f"its three kernels alone. What differs between them, {share} of the squared weights here, "
        "no answer depends on: the colours that are drawn are what chance put there."
    )
    first = {}
    for (model, _), network in trained.items():
        learned = trace(network, torch.zeros(1, 3, 32, 32))
        first[model] = _share_of_colour(learned.filters(learned.layers[0]))
    told = ", ".join(f"{percent(own, 0)} in {model}" for model, own in first.items())
    return f"{said} On photographs that part ({told}) tells colours apart." if told else said


def _is_grey(data: DataSplits) -> bool:
    images, _ = next(iter(data.val.batches(min(64, len(data.val)))))
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in data.normalization)
    colours = images.cpu().float() * std + mean
    return bool((colours - colours.mean(1, keepdim=True)).abs().max() < 1e-3)


def _share_of_colour(weight: Tensor) -> float:
    """What part of the squared weights is difference between a filter's kernels."""
    grey = weight.mean(1, keepdim=True)
    return float(((weight - grey) ** 2).sum() / (weight**2).sum())
