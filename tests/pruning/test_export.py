"""A pruned model is a plain one: it goes wherever torch's models go.

No trace of the pruning is left in it.
"""

import copy

import pytest
import torch
from torch import nn

from prunelab import export_network, load_model, make_plan, prune, trace

X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
NAMES = ["resnet18", "mobilenet_v2", "resnext50_32x4d", "shufflenet_v2_x0_5", "convnext_tiny"]


@pytest.fixture(params=NAMES)
def small(request, make_model) -> nn.Module:
    model = make_model(request.param).eval()
    return prune(model, make_plan(trace(model, X), {"*": 0.5}))


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-4 * b.abs().max())


@torch.no_grad()
def test_export_and_onnx(small, tmp_path):
    program = torch.export.export(small, (X,))
    assert same(program.module()(X), small(X))
    text = str(program.graph)
    assert not any(word in text for word in ("mask", "index_select", "prun"))
    exported = export_network(small, tmp_path / "small", example_input=X)  # it checks the answers
    assert exported.same_answers == 1


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compile_jit_and_copies(small):
    torch.compiler.reset()
    assert same(torch.compile(small, backend="aot_eager")(X), small(X))
    assert same(torch.jit.trace(small, X)(X), small(X))
    twin = copy.deepcopy(small)
    assert torch.equal(twin(X), small(X))
    assert twin.pruning_plan == small.pruning_plan
    plain = type(small)
    assert plain is type(load_model("resnet18")) or plain.__module__.startswith("torchvision")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in small.modules())


def test_distributed(make_model, tmp_path):
    if not torch.distributed.is_available():
        pytest.skip("torch without torch.distributed")
    model = make_model("resnet20")
    small = prune(model, make_plan(trace(model, torch.zeros(1, 3, 32, 32)), {"*": 0.5}))
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(small).train())
        wrapped(X[:, :, :32, :32]).sum().backward()
        assert all(p.grad is not None for p in wrapped.parameters())
        plan = make_plan(trace(wrapped.module, X[:1, :, :32, :32]), {"*": 0.5})
        again = prune(wrapped.module, plan)
        weights, before = (sum(p.numel() for p in m.parameters()) for m in (again, small))
        assert weights < before
    finally:
        torch.distributed.destroy_process_group()
