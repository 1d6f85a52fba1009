"""How near a training step is to what the hardware allows.

    python tests/benchmarks/floor.py [--device cuda] [--compiled] [--networks resnet56 ...]

Operations and bytes are counted, and held against two measured ceilings. Rows go into
data/results/speed.csv, in place of those of the same network, processor and settings.

operations, bytes: of one step (forward, backward, optimiser) at the paper's batch of 128, counted
    operator by operator as torch runs it; a multiply-add is two operations, and an operator reads
    each input and writes each output once.
matrix_bytes: those of convolutions and linear layers alone, as if all between them were fused into
    them.
floor: for each operator the longer of operations / peak and bytes / bandwidth, summed.
fused_floor: of convolutions and linear layers alone.
plain_step: of a DataLoader loop (float32, eager).
peak: of a large matrix product or a 3×3 convolution of 256 channels, in the same precision.
bandwidth: of copying a large tensor.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from bench_training import load, noise, theirs
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from prunelab import TrainSettings, load_model, make_optimizer, train
from prunelab.utils.seals import read_table, write_table

SPEED = Path(__file__).parents[2] / "data" / "results" / "speed.csv"
KEY = ["network", "processor", "threads", "precision", "compiled"]
EPOCH = 45_000  # images of CIFAR-10 without the validation split
SIZES = {  # of a matrix, floats copied, images trained on
    "cpu": (2048, 2**26, 512),
    "cuda": (8192, 2**30, 45_000),
}


class Counted(NamedTuple):
    """What one operator does."""

    matrix: bool  # whether it is a matrix product
    operations: int
    bytes: int


class Counter(TorchDispatchMode):
    """What each operator does that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Counted] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view and "empty" not in str(func) and "detach" not in str(func):
            read = tree_leaves((args, kwargs or {}))
            changed = []
            for given, argument in zip(args, func._schema.arguments, strict=False):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    changed.append(given)
            written = tree_leaves(changed or out)
            count = flop_registry.get(func.overloadpacket)
            operations = int(count(*args, **(kwargs or {}), out_val=out)) if count else 0
            size = _bytes(read) + _bytes(written)
            self.found.append(Counted(count is not None, operations, size))
        return out


def _bytes(leaves: list[object]) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))


def count_step(model: nn.Module, settings: TrainSettings, device: str) -> list[Counted]:
    optimizer = make_optimizer(model, settings)
    images = torch.randn(settings.batch_size, 3, 32, 32, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (settings.batch_size,), device=device)
    for _ in range(2):  # momentum is made in the first step
        with Counter() as counter:
            with torch.autocast(device, torch.bfloat16, enabled=settings.precision == "bfloat16"):
                logits = model(images)
            F.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
        optimizer.zero_grad()
    return counter.found


def time_it(do: Callable[[], object], device: str) -> float:
    """Seconds: the least of ten."""
    times = []
    for _ in range(11):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        do()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def measure_ceilings(device: str) -> dict[str, float]:
    """Operations a second in each precision, and bytes a second."""
    n, floats, _ = SIZES[device]
    found = {}
    for precision in ("float32", "bfloat16"):
        dtype = getattr(torch, precision)
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        conv = nn.Conv2d(256, 256, 3, padding=1, bias=False)
        conv = conv.to(device, dtype, memory_format=torch.channels_last)
        maps = torch.randn(n // 16, 256, 8, 8, device=device, dtype=dtype)
        maps = maps.to(memory_format=torch.channels_last)
        with torch.inference_mode():
            product = 2 * n**3 / time_it(lambda a=a, b=b: a @ b, device)
            convolution = 2 * maps.numel() * 9 * 256 / time_it(lambda c=conv, x=maps: c(x), device)
        found[precision] = max(product, convolution)
    source = torch.zeros(floats, device=device)
    target = torch.ones_like(source)
    found["bytes"] = 2 * floats * 4 / time_it(lambda: target.copy_(source), device)
    return found


def rows(device: str, names: list[str], compiled: bool) -> Iterator[dict[str, object]]:
    ceilings = measure_ceilings(device)
    data = noise(SIZES[device][2], device)
    fast = TrainSettings(epochs=3, lr=0.01, milestones=(), channels_last=True, compile=False)
    ways = [fast, replace(fast, precision="bfloat16")]
    if compiled:
        ways.append(replace(ways[1], compile=True))
    loader = load(data, fast.batch_size, device)
    for name in names:
        plain = load_model(name).to(device)
        theirs(plain, loader, fast, device)  # warms up
        start = time.perf_counter()
        theirs(plain, loader, fast, device)
        plain_step = (time.perf_counter() - start) / len(loader)
        for settings in ways:
            model = load_model(name).to(device, memory_format=torch.channels_last)
            peak, bandwidth = ceilings[settings.precision], ceilings["bytes"]
            found = count_step(model, settings, device)
            floor = fused = 0.0
            for operator in found:
                least = max(operator.operations / peak, operator.bytes / bandwidth)
                floor += least
                fused += least if operator.matrix else 0
            history = train(load_model(name), data, settings)
            seconds = float(history["seconds"].iloc[1:].min())  # the first epoch warms up
            step = seconds / -(-len(data.train) // settings.batch_size)
            yield {
                "network": name,
                "processor": torch.cuda.get_device_name() if device == "cuda" else "cpu",
                "threads": torch.get_num_threads(),
                "precision": settings.precision,
                "compiled": bool(settings.compile),
                "torch": torch.__version__,
                "operations": sum(operator.operations for operator in found),
                "bytes": sum(operator.bytes for operator in found),
                "matrix_bytes": sum(operator.bytes for operator in found if operator.matrix),
                "peak_per_s": round(peak),
                "bandwidth_per_s": round(bandwidth),
                "floor_ms": round(1000 * floor, 3),
                "fused_floor_ms": round(1000 * fused, 3),
                "step_ms": round(1000 * step, 3),
                "plain_step_ms": round(1000 * plain_step, 3),
                "over_floor": round(step / floor, 2),
                "over_fused_floor": round(step / fused, 2),
                "plain_over_ours": round(plain_step / step, 2),
                "epoch_s": round(step * EPOCH / settings.batch_size, 2),
            }


if __name__ == "__main__":
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--networks", nargs="+", default=["resnet56", "resnet110", "vgg16"])
    compiled = "also by torch.compile, which takes minutes to begin"
    parser.add_argument("--compiled", action="store_true", help=compiled)
    given = parser.parse_args()
    before = read_table(SPEED) if SPEED.exists() else pd.DataFrame(columns=KEY)
    for row in rows(given.device, given.networks, given.compiled):
        print(row, flush=True)
        both = pd.concat([before, pd.DataFrame([row])], ignore_index=True)
        before = both.drop_duplicates(KEY, keep="last")
        write_table(SPEED, before)  # as they come: the whole takes a while
