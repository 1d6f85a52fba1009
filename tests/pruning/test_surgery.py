"""Removed equals silenced: the oracle, on every kind of coupling."""

import copy
from itertools import product

import pytest
import torch
from torch import nn

from prunelab import make_plan, mask, prune, silence, trace

SIZES = {
    "vgg16": 32,
    "resnet20": 32,
    "resnet56": 32,
    "resnet110": 32,
    "resnet18": 64,
    "resnet50": 64,
    "mobilenet_v2": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "squeezenet1_1": 64,
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.filterwarnings("ignore:ratio .* would remove all")
def test_removed_equals_silenced(make_model, name):
    model, size = make_model(name), SIZES[name]
    graph = trace(model, torch.zeros(1, 3, size, size))
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    for ratio, strategy in product([0.1, 0.5, 0.9], ["independent", "greedy"]):
        plan = make_plan(graph, {"*": ratio}, strategy=strategy)
        small, quiet = prune(model, plan, graph=graph), silence(model, plan, graph=graph)
        with torch.inference_mode():
            assert relative(small(images), quiet(images)) <= 1e-4
            exact = images.double()
            assert relative(small.double()(exact), quiet.double()(exact)) <= 1e-10


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def test_the_oracle_can_fail(make_model):
    """Zeroing the filters themselves is another network: batch norm's shift leaks through."""
    model, images = make_model("resnet20"), torch.randn(2, 3, 32, 32)
    graph = trace(model, images)
    plan = make_plan(graph, {"*": 0.5})
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for name, gone in plan.removed.items():
            masked.get_submodule(name).weight[gone] = 0
        assert relative(masked(images), silence(model, plan)(images)) > 0.01
        assert torch.equal(mask(model, plan)(images), masked(images))


def test_masking_zeroes_the_filters_and_their_biases(make_model):
    model = make_model("mobilenet_v2")
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.ones(module.out_channels))
    graph = trace(model, torch.zeros(1, 3, 32, 32))
    plan = make_plan(graph, {"*": 0.3})
    masked = mask(model, plan, graph=graph)
    for name, gone in plan.removed.items():
        conv = masked.get_submodule(name)
        assert not conv.weight[gone].any()
        assert not conv.bias[gone].any()
        assert conv.weight[plan.keep[name]].equal(model.get_submodule(name).weight[plan.keep[name]])


def test_attributes_agree_with_tensors_and_the_model_given_is_untouched(make_model):
    model = make_model("mobilenet_v2")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small = prune(model, make_plan(trace(model, torch.zeros(1, 3, 32, 32)), {"*": 0.3}))
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            shape = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
            assert module.weight.shape == shape
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean.shape == module.weight.shape == (module.num_features,)
        if isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not hasattr(model, "pruning_plan")


def test_pruned_model_learns(make_model):
    model = make_model("resnet20")
    small = prune(model, make_plan(trace(model, torch.zeros(1, 3, 32, 32)), {"*": 0.5})).train()
    before = [p.detach().clone() for p in small.parameters()]
    optimizer = torch.optim.SGD(small.parameters(), 0.1)
    nn.functional.cross_entropy(small(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
    optimizer.step()
    pairs = zip(before, small.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in pairs)


def test_a_plan_for_another_network_is_refused(make_model):
    plan = make_plan(trace(make_model("resnet20"), torch.zeros(1, 3, 32, 32)), {"*": 0.3})
    with pytest.raises(ValueError, match="this plan was made for another network"):
        prune(make_model("resnet32"), plan)


def test_gpu(make_model):
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    model = make_model("resnet20").cuda()
    plan = make_plan(trace(model, torch.zeros(1, 3, 32, 32)), {"*": 0.5})
    images = torch.randn(2, 3, 32, 32, device="cuda")
    with torch.inference_mode():
        assert relative(prune(model, plan)(images), silence(model, plan)(images)) <= 1e-4
