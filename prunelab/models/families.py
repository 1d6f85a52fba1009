"""What a network's name means: ours, torchvision's, timm's, or a function of the user's."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from prunelab.data import Normalization
from prunelab.models.cifar import CIFAR_NAMES, build_cifar
from prunelab.models.own import build_own, build_trusted, is_own
from prunelab.utils.checks import did_you_mean

# heads that only take part in training with a loss of their own, which `train` does not have
AUXILIARY = {"googlenet": "aux", "inception_v3": "AuxLogits"}

OPTIONS = ("transform_input", "image_size")  # of torchvision's networks, which weights ask for


class Preprocessing(NamedTuple):
    """What images a network expects, as far as it is known."""

    normalization: Normalization | None = None
    image_size: int | None = None


UNKNOWN = Preprocessing()


def model_names() -> list[str]:
    """Every name that `load_model` takes, but for timm's and your own.

    Returns:
        The CIFAR models first, then torchvision's classifiers.
    """
    return [*CIFAR_NAMES, *(name for name in torchvision_names() if name != "vgg16")]


def torchvision_names() -> list[str]:
    """Those of torchvision's classifiers."""
    import torchvision.models

    return torchvision.models.list_models(module=torchvision.models)


def short_name(name: str) -> str:
    """The name of a network in its library."""
    return name.removeprefix("torchvision/").removeprefix("timm/")


def build_network(
    name: str,
    num_classes: int,
    options: Mapping[str, Any] | None = None,
    *,
    trusted_only: bool = False,
) -> nn.Module:
    """A network by name, with fresh weights and its architecture noted.

    options: further arguments of torchvision's, which weights may ask for. trusted_only: the name
    comes from a file, so a function of the user's is called only if the user named it before.
    ValueError for an unknown name.
    """
    if is_own(name):
        build = build_trusted if trusted_only else build_own
        model = build(name, num_classes)
        if model is None:
            raise ValueError(
                f"the network is what {name} gives, which is code of yours and not run because a "
                f"file names it: name it yourself, load_pruned(path, {name!r}) or --model {name}"
            )
    elif name in CIFAR_NAMES:
        model = build_cifar(name, num_classes)
    elif name.startswith("timm/"):
        model = import_timm().create_model(_check_timm(name), num_classes=num_classes)
    else:
        model = _build_torchvision(name, num_classes, options or {})
    model.architecture = {"name": name, "num_classes": num_classes}
    if options:
        model.architecture["options"] = dict(options)
    return model


def find_head(
    name: str, num_classes: int, options: Mapping[str, Any] | None = None
) -> dict[str, tuple[int, ...]]:
    """The tensors whose shape depends on the number of classes: those of the last layer."""
    with torch.random.fork_rng(devices=[]):
        shapes = [
            {key: tuple(tensor.shape) for key, tensor in build.state_dict().items()}
            for build in (build_network(name, n, options) for n in (num_classes, num_classes + 1))
        ]
    return {key: shape for key, shape in shapes[0].items() if shapes[1].get(key) != shape}


def known_preprocessing(name: str) -> Preprocessing:
    """What a name by itself says of the images: timm's data configuration does."""
    if not name.startswith("timm/"):
        return UNKNOWN
    config = import_timm().get_pretrained_cfg(_check_timm(name))
    if config is None:
        return UNKNOWN
    return Preprocessing(Normalization(config.mean, config.std), config.input_size[-1])


def import_timm() -> Any:
    """The package timm; ValueError where it is not installed."""
    try:
        import timm
    except ModuleNotFoundError:
        raise ValueError("networks named timm/… need timm: pip install timm") from None
    return timm


def _check_timm(name: str) -> str:
    timm, short = import_timm(), short_name(name)
    if not timm.is_model(short):
        hint = did_you_mean(short, timm.list_models())
        raise ValueError(f"timm has no network {short!r}{hint}timm.list_models() lists them")
    return short


def _build_torchvision(name: str, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    import torchvision.models

    short = short_name(name)
    if short not in torchvision_names():
        raise ValueError(
            f"unknown model {name!r}{did_you_mean(name, model_names())}Known: "
            f"{', '.join(CIFAR_NAMES)} (CIFAR) and torchvision's classifiers "
            "(prunelab.model_names() lists them), timm/NAME, and package.module:function of your "
            "own"
        )
    build: Callable[..., nn.Module] = torchvision.models.get_model_builder(short)
    if odd := set(options) - set(OPTIONS):  # of a file's header
        raise ValueError(f"unknown options of {name!r}: {', '.join(sorted(odd))}")
    own: dict[str, Any] = {}
    if short in AUXILIARY:  # init_weights: what torchvision does anyway; silences a warning
        own = {"aux_logits": False, "init_weights": True}
    return build(weights=None, num_classes=num_classes, **own, **options)


def torchvision_options(name: str, choice: Any) -> dict[str, Any]:
    """What torchvision builds a network with that takes these of its weights."""
    short = short_name(name)
    if short in AUXILIARY:
        return {"transform_input": True}
    return {"image_size": choice.meta["min_size"][0]} if short.startswith("vit_") else {}
