"""Several processes of one run, as torchrun starts them: each takes its shard of every batch.

A process alone is the case of one: nothing is sent, and every shard is the whole. The first process
(rank 0) alone writes and prints.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Thing = TypeVar("Thing")


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is; 0 is the first."""
    return dist.get_rank() if world_size() > 1 else 0


def join(device: str) -> str:
    """Join the processes that torchrun started.

    Args:
        device: as a user names it; `auto` and `cuda` mean a GPU for each process.

    Returns:
        The device of this process.
    """
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


def shard(items: Tensor) -> Tensor:
    """This process's part of a batch's rows: every `world_size()`-th one; perhaps none."""
    return items[rank() :: world_size()]


def all_reduce(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def broadcast(make: Callable[[], Thing]) -> Thing:
    """What the first process makes, for all of them: what is read from files that it writes."""
    if world_size() == 1:
        return make()
    box: list[Any] = [make() if rank() == 0 else None]
    dist.broadcast_object_list(box, device=torch.device("cpu"))
    return box[0]


def rank_zero_first(make: Callable[[], Thing]) -> Thing:
    """What `make` makes in each process, after the first one made it: a download, a cache."""
    if world_size() == 1:
        return make()
    if rank() == 0:
        made = make()
        dist.barrier()
        return made
    dist.barrier()
    return make()


@contextmanager
def distributed(model: nn.Module) -> Iterator[nn.Module]:
    """The model as it is called in training: alone itself, else DistributedDataParallel.

    Parameters and buffers become those of the first process. Gradients are means over the
    processes: of a loss summed over a shard, times `world_size()` over the images of the whole
    batch, that is the gradient of the batch's mean loss, also when shards are uneven or empty.
    Batch norms learn from the whole batch.
    """
    if world_size() == 1:
        yield model
        return
    device = next(model.parameters()).device
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
    # once is enough: norms see the whole batch; torch renamed the option in 2.15
    known = signature(DistributedDataParallel).parameters
    once = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {once: False, "static_graph": True}  # unused parameters stay so
    if device.type == "cuda":
        options["device_ids"] = [device]
    with _synced_norms(model, device):
        yield DistributedDataParallel(model, **options)


@contextmanager
def _synced_norms(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Each batch norm is a synchronised one meanwhile: the same module, so that its hooks stay."""
    norms: list[Any] = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and not isinstance(module, nn.SyncBatchNorm)
    ]
    kinds = [type(norm) for norm in norms]
    for norm in norms:
        norm.__class__ = nn.SyncBatchNorm if device.type == "cuda" else _CpuSyncBatchNorm
        norm.process_group = None  # all processes
    try:
        yield
    finally:
        for norm, kind in zip(norms, kinds, strict=True):
            norm.__class__ = kind
            del norm.process_group


class _CpuSyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """What nn.SyncBatchNorm computes: torch has it for GPUs only."""

    def _check_input_dim(self, input: Tensor) -> None:
        """As many as there are."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        dims = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        n = all_reduce(torch.tensor(float(values.numel() // values.shape[1])))
        mean = _Sum.apply(values.sum(dims)) / n
        centred = values - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(dims)) / n
        if self.running_mean is not None and self.running_var is not None:
            self._note(mean.detach(), variance.detach() * n / (n - 1))
        normed = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normed = normed * self.weight.view(shape) + self.bias.view(shape)
        return normed.to(x.dtype)

    @torch.no_grad()
    def _note(self, mean: Tensor, variance: Tensor) -> None:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = self.momentum
        weight = 1 / float(self.num_batches_tracked) if momentum is None else momentum
        self.running_mean.lerp_(mean, weight)  # type: ignore[union-attr]
        self.running_var.lerp_(variance, weight)  # type: ignore[union-attr]


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is the gradient, as every process's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return all_reduce(tensor.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return all_reduce(gradient.clone())
