"""Weights that a module's code computes: they are pruned where each filter is treated by itself."""

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune as masks
from test_operators import Net, X, holds
from torch import nn
from torch.nn.utils import parametrizations

from prunelab import load_pruned, make_plan, measure_cost, prune, save_pruned, trace

SAME = dict(kernel_size=3, padding=1)


class Standardised(nn.Conv2d):
    """Each filter has mean 0 and deviation 1."""

    def forward(self, x):
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        spread = self.weight.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / (spread + 1e-5), self.bias)


class StandardisedAtOnce(nn.Conv2d):
    def forward(self, x):
        spread, mean = torch.var_mean(self.weight, dim=[1, 2, 3], keepdim=True, unbiased=False)
        weight = (self.weight - mean) / torch.sqrt(spread + 1e-10)
        about = self.stride, self.padding, self.dilation, self.groups
        return F.conv2d(x, weight, self.bias, *about)


class Scaled(nn.Conv2d):
    """As networks without norms have them: a batch norm of the weights, and a gain."""

    def __init__(self, *sizes, **how):
        super().__init__(*sizes, **how)
        self.gain, self.scale = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1) + 0.5), 0.3

    def forward(self, x):
        flat = self.weight.reshape(1, self.out_channels, -1)
        gain = (self.gain * self.scale).view(-1)
        how = dict(weight=gain, training=True, momentum=0.0, eps=1e-5)
        weight = F.batch_norm(flat, None, None, **how).reshape_as(self.weight)
        about = self.stride, self.padding, self.dilation, self.groups
        return F.conv2d(x, weight, self.bias, *about)


class Equalised(nn.Conv2d):
    """A learning rate for each layer: the weight times a number."""

    def forward(self, x):
        return self._conv_forward(x, self.weight * 0.4, self.bias)


class Padded(nn.Conv2d):
    """Reads the kernel's size from the weight, as TensorFlow's padding does."""

    def forward(self, x):
        height, width = x.size()[-2:]
        tall, wide = self.weight.size()[-2:]
        down = max((-(height // -self.stride[0]) - 1) * self.stride[0] + tall - height, 0)
        right = max((-(width // -self.stride[1]) - 1) * self.stride[1] + wide - width, 0)
        x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        about = self.stride, 0, self.dilation, self.groups
        return F.conv2d(x, self.weight, self.bias, *about)


class Blur(nn.Module):
    """A depthwise conv by numbers that are not trained, one kernel for all maps."""

    def __init__(self, do):
        super().__init__()
        self.do = do
        self.register_buffer("kernel", torch.rand(1, 1, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.do(self.kernel, x), padding=1, groups=x.shape[1])


def masked(conv):
    masks.random_unstructured(conv, "weight", 0.3)
    masks.random_unstructured(conv, "bias", 0.3)
    return conv


@pytest.mark.filterwarnings("ignore::FutureWarning")
def weight_norm_of_old(conv):
    return nn.utils.weight_norm(conv)


WEIGHTS = {
    "standardised": lambda: Standardised(8, 8, **SAME),
    "standardised, grouped": lambda: Standardised(8, 8, groups=2, **SAME),
    "standardised, depthwise": lambda: Standardised(8, 8, groups=8, **SAME),
    "standardised at once": lambda: StandardisedAtOnce(8, 8, **SAME),
    "scaled": lambda: Scaled(8, 8, **SAME),
    "scaled, grouped": lambda: Scaled(8, 8, groups=4, **SAME),
    "equalised": lambda: Equalised(8, 8, **SAME),
    "padded": lambda: Padded(8, 8, 3),
    "weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(8, 8, **SAME)),
    "weight norm, transposed": lambda: parametrizations.weight_norm(
        nn.ConvTranspose2d(8, 8, **SAME)
    ),
    "weight norm, depthwise": lambda: parametrizations.weight_norm(
        nn.Conv2d(8, 8, groups=8, **SAME)
    ),
    "weight norm of old": lambda: weight_norm_of_old(nn.Conv2d(8, 8, **SAME)),
    "masked": lambda: masked(nn.Conv2d(8, 8, **SAME)),
    "a kernel repeated": lambda: Blur(lambda kernel, x: kernel.repeat(x.shape[1], 1, 1, 1)),
    "a kernel expanded": lambda: Blur(lambda kernel, x: kernel.expand(x.shape[1], 1, 3, 3)),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_are_computed(name, tmp_path):
    torch.manual_seed(1)
    model = Net(lambda m, x: m.g(x), g=WEIGHTS[name]())
    plan = holds(model, {"*": 0.5})
    assert {"a", "b"} <= plan.removed.keys()
    graph = trace(model, X)
    small = prune(model, plan, graph=graph)
    layer = next(name for name in graph.shapes if name.startswith(("g", "conv2d")))
    cost = measure_cost(graph, plan).set_index("layer").loc[layer]
    assert cost["flops_after"] in (cost["flops"] / 2, cost["flops"] / 4)
    path = save_pruned(tmp_path / "small.safetensors", small, plan)
    with torch.no_grad():
        assert torch.equal(load_pruned(path, model)(X), small(X))
    again = make_plan(trace(small, X), {"*": 0.5})  # twice in a row
    with torch.no_grad():
        assert torch.allclose(prune(small, again)(X), prune(model, again)(X), rtol=1e-9)


def test_what_weight_norm_keeps_are_the_numbers():
    model = Net(lambda m, x: m.g(x), g=parametrizations.weight_norm(nn.Conv2d(8, 8, **SAME)))
    plan = make_plan(trace(model, X), {"a": 0.5, "g": 0.25})
    kept = model.g.weight[plan.keep["g"]][:, plan.keep["a"]]
    assert torch.allclose(prune(model, plan).g.weight, kept, rtol=1e-12)


def test_a_weight_that_mixes_filters_stays_and_can_be_saved(tmp_path):
    model = Net(lambda m, x: m.g(x), g=parametrizations.spectral_norm(nn.Conv2d(8, 8, 1))).eval()
    graph = trace(model, X)
    assert not graph.group_of("g").prunable
    plan = holds(model, {"*": 0.5})
    path = save_pruned(tmp_path / "small.safetensors", prune(model, plan), plan)
    assert torch.equal(load_pruned(path, model)(X), prune(model, plan)(X))


def test_a_kernel_that_is_not_trained_has_a_cost_but_no_parameters():
    model = Net(lambda m, x: m.g(x), g=Blur(lambda kernel, x: kernel.expand(x.shape[1], 1, 3, 3)))
    graph = trace(model, X)
    assert graph.layers == ["a", "b"]
    cost = measure_cost(graph, make_plan(graph, {"a": 0.25})).set_index("layer")
    assert cost.loc["conv2d"].to_dict() == {
        "paper_name": "filter_1",
        "maps": 8,
        "flops": 8 * 9 * 64,
        "params": 0,
        "maps_after": 6,
        "flops_after": 6 * 9 * 64,
        "params_after": 0,
    }


def test_a_network_of_kernels_that_are_not_trained_says_so():
    with pytest.raises(ValueError, match="only convolutions by weights that its code computes"):
        trace(Blur(lambda kernel, x: kernel.expand(x.shape[1], 1, 3, 3)).double(), X)


class HalfBias(nn.Conv2d):
    """Counts a copy of its bias and takes a part of it away, as Swin V2 does with that of keys."""

    def forward(self, x):
        bias = self.bias.clone()
        bias[bias.numel() // 2 :].zero_()
        return self._conv_forward(x, self.weight, bias[: bias.shape[0]])


def test_a_bias_whose_numbers_are_counted():
    model = Net(lambda m, x: m.g(x), g=HalfBias(8, 8, **SAME))
    plan = holds(model, {"*": 0.5})
    assert {"a", "b"} <= plan.removed.keys()
    assert "numel" in trace(model, X).group_of("g").reason


def test_one_weight_in_two_operators():
    class TiedDecoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)

        def forward(self, x):
            return F.conv_transpose2d(F.relu(self.b(self.a(x))), self.b.weight, padding=1)

    model = TiedDecoder().double()
    graph = trace(model, X)
    assert "the model returns its maps" in graph.group_of("a").reason
    assert holds(model, {"b": 0.5}).removed.keys() == {"b"}
