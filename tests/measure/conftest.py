"""Our ResNet-20 on digits, which measuring leaves as it is."""

import pytest
import torch

from prunelab import find_weights, load_model, trace


@pytest.fixture(scope="module")
def model():
    return load_model("resnet20", weights=find_weights("resnet20-digits"))


@pytest.fixture(scope="module")
def graph(model):
    return trace(model, torch.zeros(1, 3, 32, 32))
