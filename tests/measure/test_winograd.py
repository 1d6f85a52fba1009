"""Convolutions with fewer multiplications: the same sums."""

import pytest
import torch
from torch import nn

from prunelab import load_model, trace
from prunelab.measure.prefix import PrefixSharing
from prunelab.measure.prefix.winograd import WinogradConv, suits_winograd


@pytest.mark.parametrize("size", [2, 4, 8])
@pytest.mark.parametrize("bias", [True, False])
def test_sums_are_those_of_the_convolution(size, bias):
    torch.manual_seed(size)
    conv = nn.Conv2d(5, 7, 3, padding=1, bias=bias)
    for n in (1, 3, 300):  # fewer and more tiles than go at once
        maps = torch.randn(n, 5, size, size).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            ours, truth = WinogradConv(conv, size)(maps), conv.double()(maps.double())
        conv.float()
        assert ours.shape == truth.shape
        assert float((ours - truth).abs().max() / truth.abs().max()) < 2e-5


def test_maps_of_another_size_go_the_direct_way():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    maps = torch.randn(2, 4, 6, 6)
    assert torch.equal(WinogradConv(conv, 8)(maps), conv(maps))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(64, 128, 3, padding=1),
        nn.Conv2d(128, 128, 3),
        nn.Conv2d(128, 128, 3, padding=1, stride=2),
        nn.Conv2d(128, 128, 3, padding=1, groups=2),
        nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(128, 128, 3, padding=2, dilation=2),
        nn.Conv2d(128, 128, 1, padding=1),
        nn.Conv2d(128, 128, 3, padding="same"),
        nn.Conv2d(128, 128, 3, padding=1).double(),
        nn.ConvTranspose2d(128, 128, 3, padding=1),
        nn.Linear(128, 128),
    ],
)
def test_other_layers_do_not_suit(conv):
    assert not suits_winograd(conv, (8, 8))


def test_maps_that_are_large_or_odd_do_not_suit():
    conv = nn.Conv2d(128, 128, 3, padding=1)
    assert suits_winograd(conv, (8, 8))
    assert not any(suits_winograd(conv, size) for size in [(16, 16), (7, 7), (8, 4), (4,), ()])


def test_vgg_runs_its_small_maps_this_way():
    model = load_model("vgg16")
    network = PrefixSharing(model, trace(model, torch.zeros(1, 3, 32, 32)))
    assert len(network.run.faster) == 9  # conv_5 to conv_13
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        truth = model.eval()(images)
        (_, _, ours) = next(network.logits(images, []))
    assert float((ours - truth).abs().max() / truth.abs().max()) < 1e-4
