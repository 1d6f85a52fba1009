"""Networks by name, with weights: the paper's CIFAR models and any torchvision classifier."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.utils.checks import check_whole, did_you_mean
from prunelab.utils.tensors import load_tensors, read_state, write_tensors

# the filters of each stage's convolutions; after a stage, maps are halved
VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
CIFAR_RESNETS = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}
WEIGHT_FILES = (".pt", ".pth", ".th", ".safetensors")


class VGG16(nn.Module):
    """VGG-16 for 32×32 images, as Li et al. 2017 use it (§4.1).

    Batch norm after each conv and the first linear layer, no dropout, convs without bias.
    Images (n, 3, 32, 32) in, logits (n, num_classes) out.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = 3
        for stage in VGG16_STAGES:
            for width in stage:
                conv = nn.Conv2d(n_in, width, 3, padding=1, bias=False)
                layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
                n_in = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, num_classes)
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class ZeroPadShortcut(nn.Module):
    """The shortcut without parameters of He et al. 2016 (option A).

    Every second pixel, and maps of zeros before and after the others.
    """

    def __init__(self, new_maps: int) -> None:
        super().__init__()
        self.pad = new_maps // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut (He et al. 2016, §3.3)."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.shortcut = nn.Identity() if n_in == n_out else ZeroPadShortcut(n_out - n_in)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet-(6n+2) for 32×32 images (He et al. 2016, §4.2).

    Three stages of n blocks, with 16, 32 and 64 maps. The modules are named as in the widely used
    public checkpoints (conv1, bn1, layer1.0.conv1 … linear).
    Images (n, 3, h, w) in, logits (n, num_classes) out.
    """

    def __init__(self, depth: int, num_classes: int = 10) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def _stage(n_in: int, n_out: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(n_in, n_out, stride)
    return nn.Sequential(first, *(BasicBlock(n_out, n_out, 1) for _ in range(blocks - 1)))


def initialise(model: nn.Module) -> None:
    """Give a model's convs and linear layers fresh weights, in place.

    Normal ones with the deviation of He et al. 2015, as the CIFAR ResNets have them, from torch's
    global generator. Biases and batch norms stay as they are.

    Args:
        model: any network.

    Example:
        >>> initialise(prune(model, plan))
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)


def model_names() -> list[str]:
    """Every name that `load_model` takes.

    Returns:
        The CIFAR models first, then torchvision's classifiers.
    """
    return ["vgg16", *CIFAR_RESNETS, *(name for name in _torchvision_names() if name != "vgg16")]


def _torchvision_names() -> list[str]:
    import torchvision.models

    return torchvision.models.list_models(module=torchvision.models)


def load_model(name: str, *, num_classes: int = 10, weights: str | Path | None = None) -> nn.Module:
    """A network by name, in evaluation mode on the CPU.

    Args:
        name: `vgg16`, `resnet20/32/44/56/110` (the paper's CIFAR models) or any torchvision
            classifier (`resnet34`, `mobilenet_v2`, …; torchvision's own VGG-16 is
            `torchvision/vgg16`).
        num_classes: outputs of the last layer. Torchvision's ImageNet weights have 1000.
        weights: a torchvision weight name (`"IMAGENET1K_V1"`) or a local `.pt`, `.pth`, `.th` or
            `.safetensors` file. Public files may wrap the tensors in `state_dict` and prefix them
            with `module.`; a file that holds code is refused. None: random weights from torch's
            global generator.

    Returns:
        Images (n, 3, h, w) in, logits (n, num_classes) out.

    Raises:
        ValueError: an unknown name, a file that is torn or of another model.
        FileNotFoundError: there is no such file.
        OSError: torchvision's weights could not be downloaded.

    Example:
        >>> model = load_model("resnet56")
        >>> model(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 10])
    """
    check_whole("num_classes", num_classes)
    file = None
    if weights is not None and (Path(weights).suffix in WEIGHT_FILES or Path(weights).exists()):
        file, weights = weights, None
    if name == "vgg16" or name in CIFAR_RESNETS:
        model = _cifar_model(name, num_classes, weights)
    else:
        model = _torchvision_model(name, num_classes, weights)
    if file is not None:
        load_weights(model, file, name)
    model.architecture = {"name": name, "num_classes": num_classes}  # type: ignore[assignment]
    return model.eval()


def _cifar_model(name: str, num_classes: int, weights: str | Path | None) -> nn.Module:
    if weights:
        files = ", ".join(WEIGHT_FILES)
        raise ValueError(f"{name!r} has no weights named {str(weights)!r}; give a file ({files})")
    return VGG16(num_classes) if name == "vgg16" else CifarResNet(CIFAR_RESNETS[name], num_classes)


def _torchvision_model(name: str, num_classes: int, weights: str | Path | None) -> nn.Module:
    import torchvision.models

    short = name.removeprefix("torchvision/")
    if short not in _torchvision_names():
        raise ValueError(
            f"unknown model {name!r}{did_you_mean(name, model_names())}Known: vgg16, "
            f"{', '.join(CIFAR_RESNETS)} (CIFAR) and torchvision's classifiers "
            "(prunelab.model_names() lists them)"
        )
    options: dict[str, Any] = {}
    if weights is not None:
        weights = str(weights)
        _check_weights(name, torchvision.models.get_model_weights(short), weights, num_classes)
    if short in ("googlenet", "inception_v3"):
        options["init_weights"] = True  # what torchvision does anyway; silences a warning
        if weights is None:
            options["aux_logits"] = False
    try:
        return torchvision.models.get_model(
            short, weights=weights, num_classes=num_classes, **options
        )
    except OSError as error:  # urllib's URLError among them
        raise OSError(
            f"weights {weights!r} of {name!r} could not be downloaded ({error}); "
            "download the file elsewhere and pass its path as weights="
        ) from error


def _check_weights(name: str, known: Any, weights: str, num_classes: int) -> None:
    """ValueError unless torchvision has such weights of a model, with so many classes."""
    choices = [choice.name for choice in known]
    if weights not in [*choices, "DEFAULT"]:
        raise ValueError(
            f"{name!r} has no weights named {weights!r}; known: {', '.join(choices)}, or a file "
            f"({', '.join(WEIGHT_FILES)})"
        )
    needed = len(known[weights].meta["categories"])
    if needed != num_classes:
        raise ValueError(
            f"weights {weights!r} of {name!r} have {needed} classes; pass num_classes={needed}"
        )


def load_weights(model: nn.Module, path: str | Path, name: str = "the model") -> None:
    """Fill `model` with the tensors of a local file; a file of another model changes nothing."""
    state = read_state(path)
    own = model.state_dict()
    problems = {
        "missing": [k for k in own if k not in state and not k.endswith("num_batches_tracked")],
        "not in the model": [k for k in state if k not in own],
        "of another shape": [k for k in own if k in state and own[k].shape != state[k].shape],
    }
    details = []
    for what, keys in problems.items():
        if keys:
            more = " …" if len(keys) > 3 else ""
            details.append(f"{what}: {', '.join(keys[:3])}{more} ({len(keys)})")
    if details:
        raise ValueError(f"{path} does not hold weights of {name}; {'; '.join(details)}")
    load_tensors(model, state, strict=False)


def save_weights(
    path: str | Path, model: nn.Module, *, half: bool = False, info: Mapping[str, Any] | None = None
) -> Path:
    """Write an unpruned model's tensors as one file, for `load_model(..., weights=path)`.

    Args:
        path: where; the file is written whole or not at all, as safetensors.
        model: the network.
        half: in float16, half as large; loading turns them back to float32.
        info: what else to note in the file's header, as plain JSON values.

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
