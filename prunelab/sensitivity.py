"""How much each layer can lose: prune it alone, at several ratios, and look at the accuracy."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.batches import FileSplit, Split, pick_batch_size
from prunelab.checkpoint import hash_tensors
from prunelab.criteria import IMAGE_CRITERIA, score_filters
from prunelab.data import DataSplits
from prunelab.forks import ForkedNetwork
from prunelab.graph import ChannelGraph, Group, trace
from prunelab.numbering import NORMS
from prunelab.plan import PruningPlan, check_ratio, make_plan
from prunelab.progress import watch
from prunelab.store import Place, Store
from prunelab.surgery import prune
from prunelab.symbolic import copy_with, like_model, trace_forward
from prunelab.training import TrainSettings, check_outputs, evaluate, train

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # Li et al. 2017, Fig. 2(b)
STACK = 9  # plans whose unchanged rest runs as one batch on a GPU
WHOLE = ""  # what a store calls the network that loses nothing


class Curve(NamedTuple):
    """What is measured of one layer or stage."""

    layer: str  # as asked for
    key: str  # what the store calls it
    groups: list[Group]
    removed: dict[float, int]  # ratio -> filters that go
    plans: dict[int, PruningPlan]  # filters that go -> which


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
) -> pd.DataFrame:
    """The accuracy of the network that results when one layer alone loses filters, without retraining (§3.2).

    data: a data set, of which the validation split is looked at (and the training split, by criteria of images);
        or a split. images: only so many of its images, picked by `seed`: first a few, then all.
    layers: layers, or stages (`stage1`, pruned as one); None means every group that can be pruned, by its
        leader. Those that cannot are in `.attrs["refused"]`, {leader: reason}.
    criterion, order, seed: which filters go, as in `make_plan`.
    store: a file that takes each count as it comes. Stopped and called again with it, only what is missing is
        measured; it may hold other networks and data, and be shared by several processes.
    batch_size: images at once, which bounds the memory; None picks it by their size and the device. Counts are
        kept by batches: with another batch size, all is measured again.
    progress: show how far it is. on_progress: called with (done, total) after each network has seen a batch.

    Columns: layer, ratio (asked), removed, filters, correct, total, accuracy, loss (mean cross-entropy),
    accuracy_low, accuracy_high (Wilson's 95 % interval), paper_name, stage. A row with ratio 0 for each layer is
    the whole network.
    The filters are really taken out, and the predictions are those of `prune` and `evaluate`; but what comes
    before the layer runs once for all ratios, and ratios that remove equally many filters are measured once.

    Raises ValueError for an unknown layer or one that cannot be pruned, or a model whose outputs are no logits.

    >>> measure_sensitivity(model, data, images=500, store="sensitivity.jsonl")
    """
    split = data.val if isinstance(data, DataSplits) else data
    total = _check_images(images, split)
    _check_batches(model, batch_size)
    graph = trace(model, torch.zeros(1, 3, split.image_size, split.image_size))
    curves = _make_curves(graph, layers, ratios, criterion, order, data, seed)
    device = next(model.parameters()).device
    step = batch_size or pick_batch_size(split.image_size, device)
    blocks = [(start, min(start + step, total)) for start in range(0, total, step)]
    known = Store(store, _describe(model, data, split, criterion, order, seed))
    places = dict.fromkeys([(WHOLE, 0), *((c.key, removed) for c in curves for removed in c.plans)])
    missing = [(*place, *block) for block in blocks for place in places if (*place, *block) not in known.found]
    if missing:
        if progress and len(missing) < len(places) * len(blocks):
            print(f"  {len(places) * len(blocks) - len(missing)} of {len(places) * len(blocks)} were measured before")
        network = ForkedNetwork(model, graph, stack=STACK if device.type == "cuda" else 1)
        counts = _count(network, split, seed, curves, blocks, missing)
        done = 0
        try:
            for place, correct, loss in watch(counts, "sensitivity", len(missing), "networks × batches", show=progress):
                known.add(place, correct, loss)
                done += 1
                if on_progress:
                    on_progress(done, len(missing))
        except KeyboardInterrupt:
            kept = f"{store} holds them; the same call goes on from there" if store else "without store= they are lost"
            raise KeyboardInterrupt(f"stopped after {done} of {len(missing)} counts; {kept}") from None
    found = _tabulate(graph, curves, known, blocks)
    found.attrs["refused"] = {g.leader: g.reason for g in graph.groups if not g.prunable}
    return found


def measure_retrained(
    model: nn.Module,
    data: DataSplits,
    settings: TrainSettings,
    *,
    layers: Sequence[str] | None = None,
    ratios: Sequence[float] = RATIOS,
    criterion: str = "l1",
    order: str = "smallest",
    seed: int = 0,
    checkpoints: str | Path | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """The accuracy on validation when one layer alone loses filters and the network is retrained (§3.2, Fig. 2(c)).

    settings: of each retraining; there is one for each layer and number of filters.
    layers, ratios, criterion, order, seed: as in `measure_sensitivity`, whose columns come back. The rows with
        ratio 0 are the whole network as it was given.
    checkpoints: a folder for one file a retraining. Stopped and called again with it, it goes on from there.

    Raises ValueError for an unknown layer or one that cannot be pruned; what `train` raises.

    >>> measure_retrained(model, data, TrainSettings(epochs=20, lr=0.001, milestones=()), checkpoints="fig2c")
    """
    if not isinstance(data, DataSplits):
        raise ValueError(f"measure_retrained takes a data set, as load_data gives one, not {type(data).__name__}")
    graph = trace(model, torch.zeros(data.image_shape))
    curves = _make_curves(graph, layers, ratios, criterion, order, data, seed)
    found = Store(None, {})
    blocks = [(0, len(data.val))]
    whole = evaluate(model, data.val)
    found.add((WHOLE, 0, *blocks[0]), whole.correct, whole.loss * whole.total)
    tasks = [(curve.key, removed, plan) for curve in curves for removed, plan in curve.plans.items()]
    for key, removed, plan in watch(tasks, "retraining", len(tasks), "networks", show=progress):
        small = prune(model, plan, graph=graph)
        start = hash_tensors(small.state_dict())[:8]
        file = None if checkpoints is None else Path(checkpoints) / f"{key}-{removed}-{start}.safetensors"
        train(small, data, settings, checkpoint=file)
        counted = evaluate(small, data.val, precision=settings.precision)
        found.add((key, removed, *blocks[0]), counted.correct, counted.loss * counted.total)
    return _tabulate(graph, curves, found, blocks)


def _check_images(images: int | None, split: Split | FileSplit) -> int:
    """How many images to look at."""
    if not isinstance(split, Split | FileSplit):
        raise ValueError(f"measure_sensitivity takes a data set or a split, not {type(split).__name__}")
    if images is None:
        return len(split)
    if isinstance(images, bool) or not isinstance(images, int) or not 1 <= images <= len(split):
        raise ValueError(f"images must be a whole number from 1 to {len(split)}, what the split has; got {images!r}")
    return images


def _check_batches(model: nn.Module, batch_size: object) -> None:
    """ValueError for a batch size that is none, or a model for which an image's answer depends on the others."""
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"batch_size must be a whole number, 1 or more; got {batch_size!r}")
    for name, module in model.named_modules():
        if isinstance(module, NORMS) and module.running_mean is None:
            raise ValueError(
                f"{name} is a batch norm without running statistics: what it makes of an image depends on the others of "
                "its batch, so the accuracy is no property of the network. Train it with track_running_stats=True"
            )


def _make_curves(
    graph: ChannelGraph,
    layers: Sequence[str] | None,
    ratios: Sequence[float],
    criterion: str,
    order: str,
    data: Any,
    seed: int,
) -> list[Curve]:
    layers = [layers] if isinstance(layers, str) else layers
    if layers is not None and not layers:
        raise ValueError("layers is empty: name some, or leave it out for all")
    for ratio in (ratios := list(ratios) if isinstance(ratios, Iterable) else [ratios]):
        check_ratio("ratios", ratio)
    names: Iterable[str] = [g.leader for g in graph.groups if g.prunable] if layers is None else layers
    groups = {name: graph.select(name) for name in names}  # all names are checked before anything is measured
    if not any(groups.values()):
        raise ValueError(f"nothing of {type(graph.model).__name__} can be pruned; print(trace(model, x)) says why")
    leaders = [group.leader for members in groups.values() for group in members]
    scores = score_filters(graph, criterion, data=data, layers=leaders, seed=seed)
    curves = []
    for name, members in groups.items():
        curve = Curve(name, name if name in (*graph.stages, "*") else members[0].leader, members, {}, {})
        for ratio in sorted({0.0, *ratios}):
            plan = make_plan(graph, {name: ratio}, criterion=criterion, order=order, scores=scores, seed=seed)
            curve.removed[ratio] = sum(len(graph.numbers[g.leader]) - len(plan.keep[g.leader]) for g in members)
            if curve.removed[ratio]:
                curve.plans.setdefault(curve.removed[ratio], plan)
        curves.append(curve)
    return curves


def _describe(model: nn.Module, data: Any, split: Any, criterion: str, order: str, seed: int) -> dict[str, Any]:
    """What the counts of a store must agree with to be taken for this network and these images."""
    inputs = (torch.zeros(1, 3, split.image_size, split.image_size),)
    skeleton = copy_with(model, lambda tensor: tensor).eval()
    forward = f"{skeleton!r} {trace_forward(skeleton, tuple(like_model(model, x) for x in inputs)).code}"
    about = {
        "weights": hash_tensors(model.state_dict()),
        "forward": hashlib.blake2b(forward.encode(), digest_size=8).hexdigest(),
        "data": _hash_split(split),
    }
    if criterion in IMAGE_CRITERIA and isinstance(data, DataSplits):
        about["scored_on"] = _hash_split(data.train)
    return {**about, "criterion": criterion, "order": order, "seed": seed}


def _hash_split(split: Split | FileSplit) -> str:
    if isinstance(split, Split):
        pictures = hash_tensors({"images": split.images, "labels": split.labels})
    else:
        pictures = f"{hash_tensors({'labels': split.labels})} {split.files} {split.image_size}"
    return hashlib.blake2b(f"{pictures} {split.normalization}".encode(), digest_size=16).hexdigest()


def _count(
    network: ForkedNetwork,
    split: Split | FileSplit,
    seed: int,
    curves: Sequence[Curve],
    blocks: Sequence[tuple[int, int]],
    missing: Sequence[Place],
) -> Iterator[tuple[Place, int, float]]:
    """(place, right answers, summed loss) for what is missing, block by block."""
    forks = {c.key: (network.fork(c.groups, list(c.plans.values())), list(c.plans)) for c in curves}
    wanted: dict[tuple[int, int], dict[str, list[int]]] = {}  # block -> layer -> filters that go
    for key, removed, start, stop in missing:
        wanted.setdefault((start, stop), {}).setdefault(key, []).append(removed)
    todo = [block for block in blocks if block >= min(wanted)]
    shuffled = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    batches = _take(split, shuffled[todo[0][0] : todo[-1][1]]).batches(todo[0][1] - todo[0][0])
    for block, (images, labels) in zip(todo, batches, strict=True):
        if block not in wanted:
            continue
        images, labels = images.to(network.device), labels.to(network.device)
        if block == todo[0]:
            check_outputs(network.check(images), split)
        whole, due = wanted[block].pop(WHOLE, None), wanted[block]
        names = list(due)
        asked = [forks[key][0].only([forks[key][1].index(removed) for removed in due[key]]) for key in names]
        for fork, plan, logits in network.logits(images, asked):
            if fork < 0 and whole is None:
                continue
            place: Place = (WHOLE, 0, *block) if fork < 0 else (names[fork], due[names[fork]][plan], *block)
            loss = F.cross_entropy(logits.float(), labels, reduction="none").double().sum()
            yield place, int((logits.argmax(1) == labels).sum()), float(loss)


def _take(split: Split | FileSplit, indices: Tensor) -> Split | FileSplit:
    if isinstance(split, FileSplit):
        return replace(split, files=[split.files[i] for i in indices], labels=split.labels[indices])
    own = indices.to(split.labels.device)
    return replace(split, images=split.images[own], labels=split.labels[own])


def _tabulate(
    graph: ChannelGraph, curves: Sequence[Curve], known: Store, blocks: Sequence[tuple[int, int]]
) -> pd.DataFrame:
    rows = []
    total = blocks[-1][1]
    for curve in curves:
        single = curve.key in graph.shapes
        for ratio, removed in curve.removed.items():
            counts = [known.found[curve.key if removed else WHOLE, removed, *block] for block in blocks]
            correct, loss = sum(c for c, _ in counts), math.fsum(value for _, value in counts)
            low, high = wilson(correct, total)
            rows.append(
                {"layer": curve.layer, "ratio": ratio, "removed": removed, "filters": sum(g.size for g in curve.groups),
                 "correct": correct, "total": total, "accuracy": correct / total, "loss": loss / total,
                 "accuracy_low": low, "accuracy_high": high,
                 "paper_name": graph.shapes[curve.key].paper_name if single else curve.layer,
                 "stage": curve.groups[0].stage if single else curve.layer}
            )  # fmt: skip
    return pd.DataFrame(rows)


def wilson(correct: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a fraction of right answers (Wilson 1927): never outside [0, 1], right for few images."""
    z = 1.959964  # a normal variable stays within ± z, 95 times in 100
    share, spread = correct / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)
