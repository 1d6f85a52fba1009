"""Several processes of one run, as torchrun starts them: each takes its share of every batch, and the first one writes.

A process alone is the case of one: nothing is sent, and every share is the whole.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Thing = TypeVar("Thing")


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is; 0 is the first, which alone writes and prints."""
    return dist.get_rank() if count() > 1 else 0


def join(device: str) -> str:
    """Join the processes that torchrun started, and return the device of this one: a GPU each, or the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    return device


def started_by_torchrun() -> bool:
    """Whether this process is one of several of a run."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def share(items: Tensor) -> Tensor:
    """This process's part of a batch's rows: every `count()`-th one."""
    return items[rank() :: count()]


def add_up(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in place."""
    if count() > 1:
        dist.all_reduce(tensor)
    return tensor


def add_up_gradients(model: nn.Module) -> None:
    """Sum the gradients over all processes: of a loss that each divides by the images of the whole batch.

    So a batch that does not divide evenly, or leaves a process with nothing, still gives the gradient of its mean
    loss, which DistributedDataParallel (a mean of means) would not.
    """
    if count() == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = add_up(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def from_first(make: Callable[[], Thing]) -> Thing:
    """What the first process makes, for all of them: what is read from files that it writes."""
    if count() == 1:
        return make()
    box: list[Any] = [make() if rank() == 0 else None]
    dist.broadcast_object_list(box, device=torch.device("cpu"))
    return box[0]


def first_goes_ahead(make: Callable[[], Thing]) -> Thing:
    """What `make` makes in each process, after the first one made it: a download, a cache."""
    if count() == 1:
        return make()
    if rank() == 0:
        made = make()
        dist.barrier()
        return made
    dist.barrier()
    return make()


@contextmanager
def synced_norms(model: nn.Module) -> Iterator[None]:
    """Batch norms learn from the whole batch, not from each process's share of it (as SyncBatchNorm, on CPUs too)."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)] if count() > 1 else []
    for norm in norms:
        norm.forward = partial(_norm_forward, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is the gradient, as every process's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return add_up(tensor.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return add_up(gradient.clone())


def _norm_forward(norm: Any, x: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, x)
    dims = [d for d in range(x.ndim) if d != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    values = x.to(torch.promote_types(x.dtype, torch.float32))
    n = add_up(torch.tensor(float(values.numel() // values.shape[1]), device=x.device))
    mean = _Sum.apply(values.sum(dims)) / n
    centred = values - mean.view(shape)
    variance = _Sum.apply(centred.square().sum(dims)) / n
    if norm.track_running_stats:
        with torch.no_grad():
            norm.num_batches_tracked += 1
            weight = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean, weight)
            norm.running_var.lerp_(variance * n / (n - 1), weight)
    normed = centred * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.affine:
        normed = normed * norm.weight.view(shape) + norm.bias.view(shape)
    return normed.to(x.dtype)
