"""How much each layer can lose: prune it alone, at several ratios, and look at the accuracy."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from prunelab.data import DataSplits, FileSplit, Split, pick_batch_size, take
from prunelab.graph import ChannelGraph, trace, trace_forward
from prunelab.measure.curves import RATIOS, UNPRUNED, Curve, make_curves, tabulate
from prunelab.measure.prefix import PrefixSharing
from prunelab.measure.store import Place, Store
from prunelab.pruning import IMAGE_CRITERIA
from prunelab.training import check_finite, check_outputs
from prunelab.utils.checks import check_whole
from prunelab.utils.modules import NORMS, copy_with, find_place, like_model, widen
from prunelab.utils.progress import track
from prunelab.utils.tensors import hash_tensors, hash_text

STACK = 9  # plans whose unchanged rest runs as one batch on a GPU


def measure_sensitivity(
    model: nn.Module,
    data: DataSplits | Split | FileSplit,
    *,
    layers: Sequence[str] | None = None,
    ratios: Sequence[float] = RATIOS,
    criterion: str = "l1",
    order: str = "smallest",
    images: int | None = None,
    seed: int = 0,
    store: str | Path | None = None,
    batch_size: int | None = None,
    progress: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    on_curves: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """The accuracy when one layer alone loses filters, without retraining.

    As in Li et al. 2017, §3.2. The filters are really taken out, and the predictions are those of
    `prune` and `evaluate`; but what comes before the layer runs once for all ratios, and ratios
    that remove equally many filters are measured once.

    Args:
        model: the network; it is left untouched.
        data: a data set, of which the validation split is looked at (and the training split, by
            criteria of images); or a split.
        layers: layers, or stages (`stage1`, pruned as one); None means every group that can be
            pruned, by its leader.
        ratios: of filters that go, in [0, 1).
        criterion: how filters are scored, as in `make_plan`.
        order: which of them go, as there.
        images: only so many of the split's images, picked by `seed`: first a few, then all.
        seed: of that pick, of random orders and of criteria of images.
        store: a file that takes each count as it comes. Stopped and called again with it, only what
            is missing is measured; it may hold other networks and data, and be shared by several
            processes.
        batch_size: images at once, which bounds the memory; None picks it by their size and the
            device. Counts are kept by batches: with another batch size, all is measured again.
        progress: show how far it is.
        on_progress: called with (done, total) after each network has seen a batch.
        on_curves: called with what would be returned for the images so far, after each batch of
            images.

    Returns:
        A row for each layer and ratio, and one with ratio 0 for each layer, which is the whole
        network. Columns: layer, ratio (asked), removed, filters, correct, total, accuracy, loss
        (mean cross-entropy), accuracy_low, accuracy_high (Wilson's 95 % interval), paper_name,
        stage. What cannot be pruned is in `.attrs["refused"]`, {leader: reason}, and
        whose curves they are in `.attrs["weights"]`, a hash.

    Raises:
        ValueError: an unknown layer or one that cannot be pruned, or a model whose outputs are no
            logits.

    Example:
        >>> measure_sensitivity(model, data, images=500, store="sensitivity.jsonl")
    """
    split = data.val if isinstance(data, DataSplits) else data
    total = count_images(images, split)
    _check_batches(model, batch_size)
    graph = trace(model, torch.zeros(1, 3, split.image_size, split.image_size))
    curves = make_curves(graph, layers, ratios, criterion, order, data, seed)
    device, _ = find_place(model)
    step = batch_size or pick_batch_size(split.image_size, device)
    blocks = [(start, min(start + step, total)) for start in range(0, total, step)]
    known = Store(store, identify(model, data, split, criterion, order, seed))
    networks = [(UNPRUNED, 0), *((c.key, removed) for c in curves for removed in c.plans)]
    places = [(*network, *block) for block in blocks for network in dict.fromkeys(networks)]
    missing = [place for place in places if place not in known.found]
    if missing:
        if progress and len(missing) < len(places):
            print(f"  {len(places) - len(missing)} of {len(places)} were measured before")
        network = PrefixSharing(model, graph, stack=STACK if device.type == "cuda" else 1)
        counts = _count_batches(network, split, seed, curves, blocks, missing)
        steps = track(counts, "sensitivity", len(missing), "networks × batches", show=progress)
        done, left = 0, Counter(place[2:] for place in missing)
        try:
            for place, correct, loss in steps:
                known.add(place, correct, loss)
                done += 1
                left[place[2:]] -= 1
                if on_curves and not left[place[2:]]:
                    seen = blocks[: blocks.index(place[2:]) + 1]
                    on_curves(_tabulate(graph, curves, known, seen))
                if on_progress:
                    on_progress(done, len(missing))
        except KeyboardInterrupt:
            said = f"stopped after {done} of {len(missing)} counts; "
            if store:
                said += f"{store} holds them; the same call goes on from there"
            else:
                said += "without store= they are lost"
            raise KeyboardInterrupt(said) from None
    return _tabulate(graph, curves, known, blocks)


def _tabulate(
    graph: ChannelGraph, curves: Sequence[Curve], known: Store, blocks: Sequence[tuple[int, int]]
) -> pd.DataFrame:
    """What was counted over blocks of images, and what cannot be pruned."""
    found = tabulate(graph, curves, known, blocks)
    found.attrs["refused"] = {g.leader: g.reason for g in graph.groups if not g.prunable}
    found.attrs["weights"] = hash_tensors(graph.model.state_dict())
    return found


def count_images(images: int | None, split: Split | FileSplit) -> int:
    """How many images to look at."""
    if not isinstance(split, Split | FileSplit):
        raise ValueError(
            f"measure_sensitivity takes a data set or a split, not {type(split).__name__}"
        )
    if images is None:
        return len(split)
    check_whole("images", images, most=len(split), why="what the split has")
    return images


def _check_batches(model: nn.Module, batch_size: int | None) -> None:
    """ValueError for a wrong batch size, or a model whose predictions depend on the batch."""
    if batch_size is not None:
        check_whole("batch_size", batch_size)
    for name, module in model.named_modules():
        if isinstance(module, NORMS) and module.running_mean is None:
            raise ValueError(
                f"{name} is a batch norm without running statistics: what it makes of an image "
                "depends on the others of its batch, so the accuracy is no property of the "
                "network. Train it with track_running_stats=True"
            )


def identify(
    model: nn.Module, data: Any, split: Any, criterion: str, order: str, seed: int
) -> dict[str, Any]:
    """What the counts of a store must agree with to be taken for this network and these images."""
    example = torch.zeros(1, 3, split.image_size, split.image_size)
    skeleton = copy_with(model, lambda tensor: tensor).eval()
    code = trace_forward(skeleton, (like_model(model, example),)).code
    forward = f"{skeleton!r} {code}"
    about = {
        "weights": hash_tensors(model.state_dict()),
        "forward": hash_text(forward, 16),
        "data": _hash_split(split),
    }
    if criterion in IMAGE_CRITERIA and isinstance(data, DataSplits):
        about["scored_on"] = _hash_split(data.train)
    return {**about, "criterion": criterion, "order": order, "seed": seed}


def _hash_split(split: Split | FileSplit) -> str:
    if isinstance(split, Split):
        images = hash_tensors({"images": split.images, "labels": split.labels})
    else:
        images = f"{hash_tensors({'labels': split.labels})} {split.files} {split.image_size}"
    return hash_text(f"{images} {split.normalization}")


def _count_batches(
    network: PrefixSharing,
    split: Split | FileSplit,
    seed: int,
    curves: Sequence[Curve],
    blocks: Sequence[tuple[int, int]],
    missing: Sequence[Place],
) -> Iterator[tuple[Place, int, float]]:
    """(place, correct predictions, summed loss) for what is missing, block by block."""
    branches = {c.key: network.branch(c.groups, list(c.plans.values())) for c in curves}
    numbers = {c.key: list(c.plans) for c in curves}  # filters that go, in the order of plans
    wanted: dict[tuple[int, int], dict[str, list[int]]] = {}  # block -> layer -> filters that go
    for key, removed, start, stop in missing:
        wanted.setdefault((start, stop), {}).setdefault(key, []).append(removed)
    todo = [block for block in blocks if block >= min(wanted)]
    shuffled = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    batches = take(split, shuffled[todo[0][0] : todo[-1][1]]).batches(todo[0][1] - todo[0][0])
    for block, (images, labels) in zip(todo, batches, strict=True):
        if block not in wanted:
            continue
        images, labels = images.to(network.device, network.kind), labels.to(network.device)
        if block == todo[0]:
            check_outputs(network.check(images), split)
        whole, due = wanted[block].pop(UNPRUNED, None), wanted[block]
        names = list(due)
        asked = []
        for key in names:
            plans = [numbers[key].index(removed) for removed in due[key]]
            asked.append(branches[key].only(plans))
        for branch, plan, logits in network.logits(images, asked):
            if branch >= 0:
                name = names[branch]
                place: Place = (name, due[name][plan], *block)
            elif whole is not None:
                place = (UNPRUNED, 0, *block)
            else:
                continue
            correct = int((logits.argmax(1) == labels).sum())
            loss = F.cross_entropy(widen(logits), labels, reduction="none").double().sum()
            check_finite(float(loss), f"the network with {place[1]} filters less in {place[0]}")
            yield place, correct, float(loss)
