"""A network and images whose names leave a mark in a page that takes them for more than text."""

import torch
from torch import nn

from prunelab import DataSplits, data_from

# names of modules have no dots, and are traced without quotation marks
LAYERS = [
    "<img src=x onerror=window['__marked']=1>",
    "</script><script>window['__marked']=1</script>",
    "' + datum['x'] + '",
    "a[0]",
    "it's \\\\ 100%",
]
MARK = '<img src=x onerror="window.__marked=1">'
CLASSES = [
    MARK,
    "</script><script>window.__marked=1</script>",
    "' + datum.x + '",
    "a[0].b",
    'it\'s a "quote" \\',
    "$1 & $2",
]


def make_network() -> nn.Module:
    torch.manual_seed(0)
    model, n_in = nn.Sequential(), 3
    for i, name in enumerate(LAYERS):
        model.add_module(name, nn.Conv2d(n_in, 8, 3, 1 + i % 2, padding=1, bias=False))
        model.add_module(f"{MARK} {i}".replace(".", "").replace('"', ""), nn.BatchNorm2d(8))
        model.add_module(f"relu {i}", nn.ReLU())
        n_in = 8
    model.add_module("pool", nn.AdaptiveAvgPool2d(2))
    model.add_module("flat", nn.Flatten())
    model.add_module("<b>linear</b>", nn.Linear(32, len(CLASSES)))
    return model


class Noise(torch.utils.data.Dataset):
    """Images of nothing, of all classes alike."""

    def __init__(self, count: int, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.images = torch.rand(count, 3, 16, 16, generator=draw)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return self.images[place], place % len(CLASSES)


def make_data() -> DataSplits:
    parts = {"train": Noise(96, 0), "val": Noise(48, 1), "test": Noise(24, 2)}
    return data_from(**parts, classes=CLASSES, name=MARK, device="cpu")
