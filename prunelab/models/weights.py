"""Weights that one has: files of ours and of others, runs' folders, and those of the libraries."""

import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prunelab.data import find_normalization
from prunelab.models.families import (
    UNKNOWN,
    Preprocessing,
    import_timm,
    known_preprocessing,
    short_name,
    torchvision_options,
)
from prunelab.pruning import PruningPlan
from prunelab.utils.checks import check_choice
from prunelab.utils.tensors import is_ours, read_state, read_tensors, write_tensors

WEIGHT_FILES = (".pt", ".pth", ".th", ".safetensors")


@dataclass(frozen=True)
class Weights:
    """A network's tensors, and what is known of where they come from.

    Attributes:
        source: the file or the name, for messages.
        fetch: gives its tensors by name; those of a library are downloaded by it.
        plan: of a pruned network.
        architecture: name, number of classes and options, as far as they are known.
        info: what else a file says: normalization, classes, image_size, recipe, ….
        known: what the network's name or the weights' says of the images.
    """

    source: str
    fetch: Callable[[], Mapping[str, Tensor]]
    plan: PruningPlan | None = None
    architecture: dict[str, Any] | None = None
    info: dict[str, Any] = field(default_factory=dict)
    known: Preprocessing = UNKNOWN

    @property
    def options(self) -> dict[str, Any]:
        """What else the network is built with."""
        return dict((self.architecture or {}).get("options", {}))

    @property
    def preprocessing(self) -> Preprocessing:
        """The images that the network learned from: what the file says, else what its name says."""
        return Preprocessing(
            find_normalization(self.info.get("normalization")) or self.known.normalization,
            self.info.get("image_size") or self.known.image_size,
        )


def open_weights(name: str, weights: str | Path) -> Weights:
    """What is meant by weights of a network: a file, a run's folder, or a name of its library."""
    text = str(weights)
    if Path(text).suffix in WEIGHT_FILES or os.sep in text or Path(text).exists():
        return read_weights(find_file(text), known_preprocessing(name))
    if name.startswith("timm/"):
        return _timm_weights(name, text)
    return _torchvision_weights(name, text)


def find_file(path: str | Path) -> Path:
    """The file of weights that a path means: itself, or the whole network of a run's folder."""
    path = Path(path)
    if not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"there is no weights file or run's folder {path}")
        return path
    if (own := path / "baseline.safetensors").is_file():
        return own
    if not (about := path / "run.json").is_file():
        raise ValueError(
            f"{path} is no folder of a run: it holds neither baseline.safetensors nor run.json; "
            f"give a file ({', '.join(WEIGHT_FILES)})"
        )
    try:
        run = json.loads(about.read_text(encoding="utf-8"))
        weights, shared = run["recipe"]["model"]["weights"], run["recipe"]["baseline_from"]
        home = f"{shared}-{run['seed']}"
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no folder of a run: its run.json is none of ours") from None
    if weights:
        return find_file(weights)
    if shared:
        return find_file(path.parent / home / "baseline.safetensors")
    raise FileNotFoundError(f"{path} is a run that has not begun to train its baseline")


def read_weights(path: Path, known: Preprocessing = UNKNOWN) -> Weights:
    """The weights in a file, checked where it is one of ours, with what it says of itself."""
    if not is_ours(path):
        state = read_state(path)
        return Weights(str(path), lambda: state, known=known)
    tensors, header = read_tensors(path)
    info, plan = dict(header.get("info") or {}), header.get("plan")
    if "training" in header:
        tensors = _take_trained(path, tensors, header)
        info.setdefault("normalization", header["training"]["normalization"])
    return Weights(
        str(path),
        lambda: tensors,
        PruningPlan.from_json(json.dumps(plan)) if plan else None,
        header.get("architecture"),
        info,
        known,
    )


def _take_trained(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The network's tensors of a training's checkpoint; a warning where it is not at its end."""
    done, epochs = len(header["rows"]), header["training"]["epochs"]
    best = any(name.startswith("best.") for name in tensors)
    if done < epochs and not best:
        warnings.warn(
            f"{path} is a training that is not finished ({done} of {epochs} epochs): the weights "
            "are those so far",
            stacklevel=4,
        )
    prefix = "best." if best else "model."
    own = (name for name in tensors if name.startswith(prefix))
    return {name.removeprefix(prefix): tensors[name] for name in own}


def _torchvision_weights(name: str, choice: str) -> Weights:
    import torchvision.models

    try:
        known = torchvision.models.get_model_weights(short_name(name))
    except ValueError:
        raise ValueError(
            f"{name!r} has no weights named {choice!r}; give a file ({', '.join(WEIGHT_FILES)}) or "
            "a run's folder"
        ) from None
    choices = [each.name for each in known]
    if choice not in [*choices, "DEFAULT"]:
        raise ValueError(
            f"{name!r} has no weights named {choice!r}; known: {', '.join(choices)}, or a file "
            f"({', '.join(WEIGHT_FILES)})"
        )
    chosen: Any = known[choice]
    crop = chosen.transforms()
    (size,) = crop.crop_size
    normalization = find_normalization((crop.mean, crop.std))
    return Weights(
        f"{chosen.name} of {name}",
        lambda: chosen.get_state_dict(progress=True, check_hash=True),
        architecture={
            "name": name,
            "num_classes": len(chosen.meta["categories"]),
            "options": torchvision_options(name, chosen),
        },
        info={"classes": list(chosen.meta["categories"])},
        known=Preprocessing(normalization, size),
    )


def _timm_weights(name: str, choice: str) -> Weights:
    timm = import_timm()
    check_choice(f"weights of {name}", choice, ["DEFAULT"])
    known, config = known_preprocessing(name), timm.get_pretrained_cfg(short_name(name))
    classes = config.num_classes if config else None
    return Weights(
        f"DEFAULT of {name}",
        lambda: timm.create_model(short_name(name), pretrained=True).state_dict(),
        architecture={"name": name, "num_classes": classes},
        known=known,
    )


def describe_network(model: nn.Module) -> dict[str, Any]:
    """What a file says of a network: its architecture's name and, of a pruned one, its plan."""
    plan = getattr(model, "pruning_plan", None)
    about: dict[str, Any] = {"architecture": getattr(model, "architecture", None)}
    return about | ({"plan": json.loads(plan.to_json())} if plan is not None else {})


def save_weights(
    path: str | Path, model: nn.Module, *, half: bool = False, info: Mapping[str, Any] | None = None
) -> Path:
    """Write an unpruned model's tensors as one file, for `load_model(..., weights=path)`.

    Args:
        path: where; the file is written whole or not at all, as safetensors.
        model: the network.
        half: in float16, half as large; loading turns them back to float32.
        info: what else to note in the file's header, as plain JSON values; `normalization` (mean
            and deviation of the colours), `classes` and `image_size` are looked at when the
            weights are used.

    Returns:
        The path.

    Raises:
        OSError: the file could not be written.

    Example:
        >>> save_weights("mine.safetensors", model, half=True)
    """
    state = model.state_dict()
    if half:
        state = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    header = {"architecture": getattr(model, "architecture", None), "info": dict(info or {})}
    return write_tensors(path, state, header)
