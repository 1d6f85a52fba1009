"""What a layer makes of images, against a hook of one's own."""

import pytest
import torch
from torch import nn

from prunelab import trace
from prunelab.measure import feature_maps


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1)

    def forward(self, x):
        return self.last(self.norm(nn.functional.relu(self.conv(x), inplace=True))).mean((2, 3))


def test_maps_before_what_follows():
    torch.manual_seed(0)
    model = Small()
    model.norm.eval()
    graph, images = trace(model, torch.zeros(1, 3, 8, 8)), torch.randn(2, 3, 8, 8)
    maps = feature_maps(graph, "conv_1", images)
    assert torch.equal(maps, model.conv(images))  # negative ones, too
    assert not maps.requires_grad
    assert feature_maps(graph, "last", images).shape == (2, 5, 6, 6)
    assert (model.training, model.norm.training) == (True, False)
    assert not model.conv._forward_hooks
    with pytest.raises(ValueError, match="unknown layer 'conv_7'"):
        feature_maps(graph, "conv_7", images)
