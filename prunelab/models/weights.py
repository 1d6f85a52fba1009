"""Weights that one has: files of ours and of others, runs' folders, and those of the libraries."""

import json
import os
import reprlib
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator
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
from prunelab.models.own import is_own
from prunelab.pruning import PruningPlan
from prunelab.utils.checks import Claims, check_choice, check_claims
from prunelab.utils.tensors import (
    is_ours,
    parse_json,
    read_state,
    read_tensors,
    write_json,
    write_tensors,
)

WEIGHT_FILES = (".pt", ".pth", ".th", ".ckpt", ".safetensors")
MOST_CLASSES = 10**6

Size = Annotated[int, Field(ge=1, le=2**13)]  # of an image's side


class Options(Claims):
    """What else a network of torchvision may be built with."""

    model_config = ConfigDict(extra="forbid")
    transform_input: bool = False
    image_size: Size | None = None


class Architecture(Claims):
    """What a file says of its network."""

    name: Annotated[str, Field(pattern=r"^[\w./:-]+$", max_length=200)]
    num_classes: Annotated[int, Field(ge=1, le=MOST_CLASSES)] = 10
    options: Options | None = None


class Info(Claims):
    """Of what else it says, that which is computed with."""

    normalization: Any = None

    @field_validator("normalization")
    @classmethod
    def _is_known(cls, given: Any) -> Any:
        return given and find_normalization(given)


# of what else it says, that which is looked at where it is such: others may mean another thing
NOTES: dict[str, TypeAdapter[Any]] = {
    "classes": TypeAdapter(list[str]),
    "image_size": TypeAdapter(Size),
}


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
        return dict((self.architecture or {}).get("options") or {})

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
    if not text:
        raise ValueError(
            f"no weights are named (weights is empty): give a file ({', '.join(WEIGHT_FILES)}), a "
            "run's folder, or a name such as DEFAULT"
        )
    if Path(text).suffix in WEIGHT_FILES or os.sep in text or Path(text).exists():
        return read_weights(find_file(text), known_preprocessing(name))
    if name.startswith("timm/"):
        return _timm_weights(name, text)
    return _torchvision_weights(name, text)


def find_file(path: str | Path, asked: tuple[Path, ...] = ()) -> Path:
    """The file of weights that a path means: itself, or the whole network of a run's folder.

    asked: folders whose runs began from this one.
    """
    path = Path(path)
    if path in asked:
        raise ValueError(f"{path} is a run that began from itself: it holds no weights")
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
        run = parse_json(about.read_text(encoding="utf-8"), str(about))
        weights, shared = run["recipe"]["model"]["weights"], run["recipe"]["baseline_from"]
        home = Path(f"{shared}-{run['seed']}")
        given = Path(weights) if weights else None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no folder of a run: its run.json is none of ours") from None
    if given:
        return find_file(given, (*asked, path))
    if shared and home.name != str(home):
        raise ValueError(f"{path} is no folder of a run: it takes its baseline from {str(home)!r}")
    if shared:
        return find_file(path.parent / home / "baseline.safetensors")
    raise FileNotFoundError(f"{path} is a run that has not begun to train its baseline")


def read_weights(path: Path, known: Preprocessing = UNKNOWN) -> Weights:
    """The weights in a file, checked where it is one of ours, with what it says of itself."""
    if not is_ours(path):
        state = read_state(path)
        return Weights(str(path), lambda: state, known=known)
    tensors, header = read_tensors(path)
    info = dict(header.get("info") or {})
    plan = read_plan(path, header["plan"]) if "plan" in header else None
    if "training" in header:
        tensors = _take_trained(path, tensors, header)
        info.setdefault("normalization", header["training"].get("normalization"))
    check_claims(Info, info, f"{path} lies of its images")
    _forget_odd_notes(path, info)
    about = read_architecture(path, tensors, header)
    return Weights(str(path), lambda: tensors, plan, about, info, known)


def _forget_odd_notes(path: Path, info: dict[str, Any]) -> None:
    """Leave out, with a warning, notes of the images that are not what is looked at."""
    for name in NOTES.keys() & info.keys():
        try:
            NOTES[name].validate_python(info[name], strict=True)
        except ValidationError:
            odd = reprlib.repr(info.pop(name))
            warnings.warn(f"{path} notes {name} {odd}, which is not looked at", stacklevel=4)


def read_plan(path: str | Path, plan: Mapping[str, Any]) -> PruningPlan:
    """The plan in a file's header; ValueError says what is wrong with it."""
    try:
        return PruningPlan.from_json(json.dumps(plan))
    except ValueError as error:
        raise ValueError(f"{path} lies of its plan: {error}") from error


def read_architecture(
    path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What a file's header says of its network, before one is built by it.

    ValueError for more classes than there can be: a library's network has a row for each in its
    last layer, and a function of the user's is trusted with `MOST_CLASSES` at most.
    """
    about: dict[str, Any] | None = header.get("architecture")
    if about is None:
        return None
    check_claims(Architecture, about, f"{path} lies of its network")
    rows = max((len(t) for t in tensors.values() if t.ndim and t.numel()), default=0)
    classes = about.get("num_classes", 10)
    if classes > rows and not is_own(about["name"]):
        raise ValueError(
            f"{path} lies of its network: it has {classes} classes, and no tensor of the file more "
            f"than {rows} rows"
        )
    return about


def take_named(
    own: Collection[str], given: Mapping[str, Tensor], source: str
) -> Mapping[str, Tensor]:
    """The network's tensors of a checkpoint in which it is a part, as `model.` in Lightning's.

    own: the names that the network needs. A warning says what is left out; ValueError where several
    parts have these names. Where none has, the tensors are as they were.
    """
    first = next(iter(own), "")
    if first in given or not first:
        return given
    parts = [name.removesuffix(first) for name in given if name.endswith(f".{first}")]
    parts = [part for part in parts if all(f"{part}{name}" in given for name in own)]
    if len(parts) > 1:
        raise ValueError(
            f"{source} holds several networks with these names, under {', '.join(parts)}: save the "
            "state_dict() of the one that is meant"
        )
    if not parts:
        return given
    rest = [name for name in given if not name.startswith(parts[0])]
    if rest:
        left = say_problems({"left out": rest})
        warnings.warn(f"of {source}, what is under {parts[0]} is taken; {left}", stacklevel=4)
    return {
        name.removeprefix(parts[0]): tensor
        for name, tensor in given.items()
        if name.startswith(parts[0])
    }


def compare_tensors(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], *, but: Collection[str] = ()
) -> dict[str, list[str]]:
    """What keeps tensors from being those of a network, {what is wrong: names}.

    but: names that it may lack.
    """
    both = [key for key in own if key in given]
    problems = {
        "missing": [key for key in own if key not in given and key not in but],
        "not in the model": [key for key in given if key not in own],
        "of another shape": [key for key in both if own[key].shape != given[key].shape],
        "of another kind of numbers": [key for key in both if not _can_be(own[key], given[key])],
    }
    return {what: names for what, names in problems.items() if names}


def _can_be(own: Tensor, given: Tensor) -> bool:
    """Whether a tensor's numbers can become those of another without losing what they are."""
    if own.is_complex() or given.is_complex():
        return own.is_complex() and (given.is_complex() or given.is_floating_point())
    return given.is_floating_point() or not own.is_floating_point()


def say_problems(problems: Mapping[str, list[str]]) -> str:
    """`missing: a, b, c … (7); not in the model: d (1)`."""
    details = []
    for what, names in problems.items():
        more = " …" if len(names) > 3 else ""
        first = ", ".join(reprlib.repr(name)[1:-1] for name in names[:3])
        details.append(f"{what}: {first}{more} ({len(names)})")
    return "; ".join(details)


def warn_of_infinite(source: str, model: nn.Module) -> None:
    """A warning where a network's tensors, filled by now, hold NaN or infinity."""
    tensors = {name: t for name, t in model.state_dict().items() if t.is_floating_point()}
    odd = [
        name
        for name, tensor in tensors.items()
        if not torch.isfinite(tensor.float() if tensor.itemsize < 4 else tensor).all()
    ]
    if odd:
        warnings.warn(
            f"{source} has numbers that are not finite, as of a training that failed: "
            f"{', '.join(odd[:3])}{' …' if len(odd) > 3 else ''} ({len(odd)})",
            stacklevel=4,
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
    about = {"architecture": _find_architecture(model)}
    return about | ({"plan": json.loads(plan.to_json())} if plan is not None else {})


def _find_architecture(model: nn.Module) -> dict[str, Any] | None:
    """What `build_network` noted; not what else a model may call its architecture."""
    about = getattr(model, "architecture", None)
    return about if isinstance(about, dict) and about.keys() >= {"name", "num_classes"} else None


def plain_info(info: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is to be noted in a file, as JSON gives it back; ValueError for what could not be."""
    if not isinstance(info, Mapping | None):
        raise ValueError(f"info maps names to plain JSON values; got {info!r}")
    plain: dict[str, Any] = parse_json(write_json(info or {}, "info"), "info")
    check_claims(Info, plain, "info")
    return plain


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
        ValueError: a tensor that has no plain numbers (of the device meta, sparse, quantised);
            `info` that is no plain JSON.
        OSError: the file could not be written.

    Example:
        >>> save_weights("mine.safetensors", model, half=True)
    """
    state = model.state_dict()
    if half:
        state = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    header = {"architecture": _find_architecture(model), "info": plain_info(info)}
    return write_tensors(path, state, header)
