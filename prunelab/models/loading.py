"""A network by name, filled with whatever weights one has."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.models.families import (
    AUXILIARY,
    build_network,
    find_head,
    known_preprocessing,
    short_name,
)
from prunelab.models.weights import (
    Weights,
    compare_tensors,
    find_file,
    open_weights,
    read_weights,
    say_problems,
    take_named,
    warn_of_infinite,
)
from prunelab.pruning import prune
from prunelab.utils.checks import check_whole
from prunelab.utils.tensors import load_tensors


def load_model(
    name: str,
    *,
    num_classes: int = 10,
    weights: str | Path | None = None,
    new_head: bool = False,
) -> nn.Module:
    """A network by name, in evaluation mode on the CPU.

    Args:
        name: `vgg16`, `resnet20/32/44/56/110` (the paper's CIFAR models); any torchvision
            classifier (`resnet34`, `mobilenet_v2`, …; torchvision's own VGG-16 is
            `torchvision/vgg16`); `timm/NAME`, where timm is installed; or `package.module:function`
            of your own, imported from where the command runs, which gives the network (with
            `num_classes`, if it takes that).
        num_classes: outputs of the last layer. ImageNet weights have 1000.
        weights: a local `.pt`, `.pth`, `.th`, `.ckpt` or `.safetensors` file, also one of
            `save_pruned` (then the network is the pruned one); the folder of a run, for its whole
            network; or a name of torchvision's (`"IMAGENET1K_V1"`), or `"DEFAULT"` for
            torchvision's and timm's newest. Public files may wrap the tensors in `state_dict`, and
            their names may begin with `module.`, `model.` or what else a trainer puts there; a file
            that holds code is refused. None: random weights from torch's global generator.
        new_head: take all but the last layer from the weights, to learn other classes; the last
            layer is fresh.

    Returns:
        Images (n, 3, h, w) in, logits (n, num_classes) out.

    Raises:
        ValueError: an unknown name; a file that is torn, altered or of another model; weights of
            another number of classes, without `new_head`.
        FileNotFoundError: there is no such file.
        OSError: the library's weights could not be downloaded.

    Example:
        >>> model = load_model("resnet56")
        >>> model(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 10])
    """
    check_whole("num_classes", num_classes)
    if weights is None:
        if new_head:
            raise ValueError("new_head=True leaves out the last layer of weights: give weights=")
        return build_network(name, num_classes).eval()
    return fill_network(name, num_classes, open_weights(name, weights), new_head)


def fill_network(
    name: str,
    num_classes: int,
    weights: Weights,
    new_head: bool = False,
    *,
    trusted_only: bool = False,
) -> nn.Module:
    """The network of a name with these weights, pruned where they are.

    trusted_only: as in `build_network`.
    """
    _check_name(name, weights)
    known = (weights.architecture or {}).get("num_classes")
    if known not in (None, num_classes) and not new_head:
        raise ValueError(_say_classes(weights.source, known, num_classes))
    with torch.random.fork_rng(devices=[], enabled=not new_head):  # a fresh last layer is drawn
        model = build_network(name, num_classes, weights.options, trusted_only=trusted_only)
    if weights.plan is not None:
        model = prune(model, weights.plan)
    state = dict(_fetch(name, weights))
    if extra := AUXILIARY.get(short_name(name)):
        state = {key: tensor for key, tensor in state.items() if not key.startswith(extra)}
    _fill(model, weights, state, new_head)
    return model.cpu().eval()


def check_start(name: str, weights: str | Path | None) -> None:
    """ValueError, or FileNotFoundError, for a name that is none, or weights that cannot be read."""
    build_network(name, 10)
    if weights is not None:
        open_weights(name, weights)


def open_saved(path: str | Path, name: str = "") -> Weights:
    """The weights of a file or of a run's folder: of a folder the pruned ones, where there are any.

    name: of the network. ValueError for a file that does not say which it holds, without one.
    """
    path = Path(path)
    if (pruned := path / "pruned.safetensors").is_file():
        path = pruned
    weights = read_weights(find_file(path))
    name = name or (weights.architecture or {}).get("name", "")
    if not name:
        raise ValueError(
            f"{weights.source} does not say which network it holds: name it, --model resnet18"
        )
    architecture = {**(weights.architecture or {}), "name": name}
    return replace(weights, architecture=architecture, known=known_preprocessing(name))


def _fetch(name: str, weights: Weights) -> Mapping[str, Tensor]:
    try:
        return weights.fetch()
    except (OSError, RuntimeError) as error:  # urllib's URLError, and what a hub's client raises
        raise OSError(
            f"weights {weights.source} could not be downloaded ({error}); download the file "
            f"elsewhere and pass its path as weights="
        ) from error


def _check_name(name: str, weights: Weights) -> None:
    """ValueError where a pruned file says that it is of another network."""
    made = (weights.architecture or {}).get("name")
    if weights.plan is not None and made and short_name(made) != short_name(name):
        raise ValueError(f"{weights.source} holds a pruned {made}, not a {name}")


def _fill(model: nn.Module, weights: Weights, state: Mapping[str, Tensor], new_head: bool) -> None:
    """Fill a network with tensors; those of another network change nothing."""
    about: dict[str, Any] = model.architecture  # type: ignore[assignment]
    name, num_classes, source = about["name"], about["num_classes"], weights.source
    own = model.state_dict()
    head = find_head(name, num_classes, weights.options) if new_head else {}
    lacks = {key for key in own if key.endswith("num_batches_tracked") or key in head}
    state = take_named([key for key in own if key not in lacks], state, source)
    state = {key: tensor for key, tensor in state.items() if key not in head}
    problems = compare_tensors(own, state, but=lacks)
    odd = problems.get("of another shape", [])
    last = set(find_head(name, num_classes, weights.options)) if odd else set()
    if odd and len(problems) == 1 and last >= set(odd) and state[odd[-1]].ndim:
        raise ValueError(_say_classes(source, len(state[odd[-1]]), num_classes))
    if problems:
        raise ValueError(f"{source} does not hold weights of {name}; {say_problems(problems)}")
    load_tensors(model, state, strict=False)
    warn_of_infinite(source, model)


def _say_classes(source: str, theirs: int, asked: int) -> str:
    return (
        f"weights {source} have {theirs} classes, not {asked}: ask for {theirs} (num_classes), or "
        "take all but the last layer (new_head=True; in commands --new-head, and --fine-tune 10)"
    )
