"""The networks: the paper's CIFAR models, and any torchvision classifier by name."""

import difflib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.checkpoint import load_tensors, read_state

VGG16_WIDTHS = (
    64,
    64,
    "pool",
    128,
    128,
    "pool",
    256,
    256,
    256,
    "pool",
    512,
    512,
    512,
    "pool",
    512,
    512,
    512,
    "pool",
)
WEIGHT_FILES = (".pt", ".pth", ".th", ".safetensors")


class VGG16(nn.Module):
    """VGG-16 for 32×32 images as Li et al. use it (§4.1): batch norm after each conv and the first linear
    layer, no dropout, convs without bias. Images (n, 3, 32, 32) in, logits (n, num_classes) out."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = 3
        for width in VGG16_WIDTHS:
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(n_in, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                n_in = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, num_classes)
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class ZeroPadShortcut(nn.Module):
    """The shortcut without parameters of He et al. 2016 (option A): every second pixel, zero maps around."""

    def __init__(self, new_maps: int) -> None:
        super().__init__()
        self.pad = new_maps // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


class BasicBlock(nn.Module):
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
    """ResNet-(6n+2) for 32×32 images (He et al. 2016, §4.2): three stages of n blocks, 16, 32 and 64 maps.

    The modules are named as in the widely used public checkpoints (conv1, bn1, layer1.0.conv1 … linear).
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
    """Fresh weights, in place, for convs and linear layers: He et al. 2015, as the CIFAR ResNets have them."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)


CIFAR_RESNETS = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}


def model_names() -> list[str]:
    """Every name that `load_model` takes: the CIFAR models first, then torchvision's classifiers."""
    import torchvision.models

    others = [n for n in torchvision.models.list_models(module=torchvision.models) if n != "vgg16"]
    return ["vgg16", *CIFAR_RESNETS, *others]


def load_model(name: str, *, num_classes: int = 10, weights: str | Path | None = None) -> nn.Module:
    """A network by name, in evaluation mode on the CPU.

    name: `vgg16`, `resnet20/32/44/56/110` (the paper's CIFAR models) or any torchvision classifier
        (`resnet34`, `mobilenet_v2`, …; torchvision's own VGG-16 is `torchvision/vgg16`).
    num_classes: outputs of the last layer. Torchvision's ImageNet weights have 1000.
    weights: a torchvision weight name (`"IMAGENET1K_V1"`) or a local `.pt`, `.pth`, `.th` or `.safetensors`
        file. Public files may wrap the tensors in `state_dict` and prefix them with `module.`; a file that
        holds code is refused. None: random weights from torch's global generator.

    Raises ValueError for an unknown name, a file that is torn or of another model; FileNotFoundError.

    >>> model = load_model("resnet56")
    >>> model(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes must be a whole number of at least 1, not {num_classes!r}")
    from_file = weights is not None and (Path(weights).suffix in WEIGHT_FILES or Path(weights).exists())
    named = None if from_file or weights is None else str(weights)
    if name == "vgg16" or name in CIFAR_RESNETS:
        if named:
            raise ValueError(f"{name!r} has no weights named {named!r}; give a file ({', '.join(WEIGHT_FILES)})")
        model: nn.Module = VGG16(num_classes) if name == "vgg16" else CifarResNet(CIFAR_RESNETS[name], num_classes)
    else:
        model = _torchvision_model(name, num_classes, named)
    if weights is not None and from_file:
        load_weights(model, weights, name)
    model.architecture = {"name": name, "num_classes": num_classes}  # type: ignore[assignment]
    return model.eval()


def _torchvision_model(name: str, num_classes: int, weights: str | None) -> nn.Module:
    import torchvision.models

    known = torchvision.models.list_models(module=torchvision.models)
    short = name.removeprefix("torchvision/")
    if short not in known:
        near = difflib.get_close_matches(name, model_names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"unknown model {name!r}; {hint}Known: vgg16, {', '.join(CIFAR_RESNETS)} (CIFAR) "
            "and torchvision's classifiers (prunelab.models.model_names() lists them)"
        )
    if weights is not None:
        choices = [w.name for w in torchvision.models.get_model_weights(short)]
        if weights not in [*choices, "DEFAULT"]:
            raise ValueError(
                f"{name!r} has no weights named {weights!r}; known: {', '.join(choices)}, or a file "
                f"({', '.join(WEIGHT_FILES)})"
            )
        needed = len(torchvision.models.get_model_weights(short)[weights].meta["categories"])
        if needed != num_classes:
            raise ValueError(f"weights {weights!r} of {name!r} have {needed} classes; pass num_classes={needed}")
    extra = {"init_weights": True} if short in ("googlenet", "inception_v3") else {}  # silences a warning
    if weights is None and short in ("googlenet", "inception_v3"):
        extra["aux_logits"] = False
    try:
        return torchvision.models.get_model(short, weights=weights, num_classes=num_classes, **extra)
    except OSError as error:  # urllib's URLError among them
        raise OSError(
            f"weights {weights!r} of {name!r} could not be downloaded ({error}); "
            "download the file elsewhere and pass its path as weights="
        ) from error


def load_weights(model: nn.Module, path: str | Path, name: str = "the model") -> None:
    """Fill `model` with the tensors of a local file; a file of another model changes nothing."""
    state = read_state(path)
    own = model.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unknown = [k for k in state if k not in own]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    if missing or unknown or shapes:
        details = [
            f"{what}: {', '.join(keys[:3])}{' …' if len(keys) > 3 else ''} ({len(keys)})"
            for what, keys in (
                ("missing", missing),
                ("not in the model", unknown),
                ("of another shape", shapes),
            )
            if keys
        ]
        raise ValueError(f"{path} does not hold weights of {name}; {'; '.join(details)}")
    load_tensors(model, state, strict=False)
