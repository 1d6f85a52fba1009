"""The paper's networks for CIFAR: VGG-16 and the ResNets with shortcuts that have no weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# the filters of each stage's convolutions; after a stage, maps are halved
VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
CIFAR_RESNETS = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}
CIFAR_VGGS = {"vgg16": 1.0, "vgg16_x0_25": 0.25}  # of the paper's widths
CIFAR_NAMES = (*CIFAR_VGGS, *CIFAR_RESNETS)


class VGG16(nn.Module):
    """VGG-16 for 32×32 images, as Li et al. 2017 use it (§4.1).

    Batch norm after each conv and the first linear layer, no dropout, convs without bias.
    Images (n, 3, 32, 32) in, logits (n, num_classes) out. `share`: of the paper's widths; a
    quarter has a sixteenth of the multiply-adds, and can be trained on a CPU.
    """

    def __init__(self, num_classes: int = 10, share: float = 1.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = 3
        for stage in VGG16_STAGES:
            for width in (round(share * full) for full in stage):
                conv = nn.Conv2d(n_in, width, 3, padding=1, bias=False)
                layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
                n_in = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(n_in, n_in), nn.BatchNorm1d(n_in), nn.ReLU(), nn.Linear(n_in, num_classes)
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


def build_cifar(name: str, num_classes: int) -> nn.Module:
    """One of `CIFAR_NAMES`, with fresh weights."""
    if name in CIFAR_VGGS:
        return VGG16(num_classes, CIFAR_VGGS[name])
    return CifarResNet(CIFAR_RESNETS[name], num_classes)


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
