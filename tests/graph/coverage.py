"""Every convolutional network of torchvision, pruned and held against other people's truths.

`make coverage` runs all 74 and writes data/coverage.csv; `python tests/graph/coverage.py resnet18
fcn_resnet50` runs some. For each network and each of two ratios, every group that can be pruned is:
see `examine`. The meta device stands in where weights are too large.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch
import torchvision
from couplings import compare
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model, list_models
from torchvision.ops import StochasticDepth
from tqdm import tqdm

from prunelab import (
    load_pruned,
    make_plan,
    measure_cost,
    prune,
    save_pruned,
    silence,
    total_cost,
    trace,
)
from prunelab.utils.modules import copy_with

ATTENTION = ("vit_", "swin_", "maxvit")
SEGMENTERS = list_models(module=torchvision.models.segmentation)
CLASSIFIERS = [
    name for name in list_models(module=torchvision.models) if not name.startswith(ATTENTION)
]
LARGE = {"regnet_y_128gf": "meta"}  # 645 million weights: structure only
SIZES = {"inception_v3": 299, "googlenet": 96}  # the least at which their auxiliary heads run
INITS = [
    "kaiming_uniform_",
    "kaiming_normal_",
    "xavier_uniform_",
    "trunc_normal_",
    "normal_",
    "uniform_",
    "ones_",
    "zeros_",
    "constant_",
]
HEADS = [
    "network",
    "convs",
    "groups pruned",
    "multiply-adds of a small image",
    "at 30 %",
    "at 70 %",
    "oracle",
    "Δ",
    "Torch-Pruning",
]


def build(name: str, device: str = "cpu") -> nn.Module:
    """A torchvision network in float64, weights as if trained, without chance in its forward."""
    extra: dict[str, Any] = {"weights_backbone": None} if name in SEGMENTERS else {}
    no_init = mock.patch.multiple("torch.nn.init", **dict.fromkeys(INITS, lambda t, *a, **k: t))
    with warnings.catch_warnings(), no_init:
        warnings.simplefilter("ignore")
        model = get_model(name, weights=None, **extra)
    model = model.to(device).double().eval()
    if device != "meta":
        draw(model)
        calibrate(model, SIZES.get(name, 224 if name.startswith(ATTENTION) else 96))
    for module in model.modules():
        if isinstance(module, StochasticDepth | nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    return model


def draw(model: nn.Module) -> None:
    """Weights and norms as if trained."""
    generator = torch.Generator().manual_seed(0)
    statistics = [pair for pair in model.named_buffers() if "running_" in pair[0]]
    for key, tensor in (*model.named_parameters(), *statistics):
        with torch.no_grad():
            if tensor.ndim > 1 and tensor.shape.count(1) < tensor.ndim - 1:
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
            elif key.endswith(("bias", "mean")):
                tensor.normal_(0, 0.3, generator=generator)
            else:
                tensor.uniform_(0.5, 1.5, generator=generator)


def calibrate(model: nn.Module, size: int) -> None:
    """Batch norms get the statistics of maps that really come.

    With others, deep networks blow rounding errors up.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches seen, which is one
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        model.train()(torch.randn(4, 3, size, size, generator=generator, dtype=torch.double))
    model.eval()
    for norm in norms:
        norm.momentum = 0.1


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    """All that a network returns, in one row."""
    return torch.cat([part.flatten() for part in leaves(model(x))])


def leaves(value: Any) -> list[Tensor]:
    """The tensors that nested containers and data classes hold, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [leaf for item in value for leaf in leaves(item)]
    return leaves(vars(value)) if hasattr(value, "__dict__") else []


class _Row(nn.Module):  # fvcore wants a tensor
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return outputs(self.model, x)


def examine(name: str, ratios: tuple[float, ...] = (0.3, 0.7)) -> dict[str, Any]:
    """One row of verdicts; AssertionError where a check fails.

    Pruned at each ratio: tensors as wide as the plan says; removed equals silenced (1e-9 of the
    largest output); multiply-adds equal fvcore's and torch's flop counter's; an optimiser step in
    training mode moves every parameter that it moves in the whole network; saved, loaded, the same
    logits to the bit; what goes with each conv's filter is what Torch-Pruning says.
    """
    device, start = LARGE.get(name, "cpu"), time.perf_counter()
    model, size = build(name, device), SIZES.get(name, 64)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, size, size, generator=generator, dtype=torch.double).to(device)
    graph = trace(model, x)
    free = [group for group in graph.groups if group.prunable]
    row = {
        "model": name,
        "convs": len(graph.layers),
        "groups": len(graph.groups),
        "prunable": len(free),
    }
    row["stays"] = "; ".join(f"{g.leader}: {g.reason}" for g in graph.groups if not g.prunable)
    row["multiply_adds"] = int(measure_cost(graph)["flops"].sum())
    moved = None if device == "meta" else step(model, x)
    worst = 0.0
    for ratio in ratios:
        if device == "meta":
            plan = plan_by_number(graph, ratio)
        else:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "ratio .* would remove all")
                plan = make_plan(graph, {"*": ratio})
        small = prune(model, plan, graph=graph)
        check_widths(graph, plan, small, ratio)
        row[f"multiply_adds_{ratio:.0%}"] = count(small, x)
        assert row[f"multiply_adds_{ratio:.0%}"] == measure_cost(graph, plan)["flops_after"].sum()
        weights = sum(p.numel() for p in small.parameters())
        assert total_cost(graph, plan).loc["after", "params_all"] == weights
        if device == "meta":
            continue
        with torch.inference_mode():
            ours, truth = outputs(small, x), outputs(silence(model, plan, graph=graph), x)
            worst = max(worst, float((ours - truth).abs().max() / truth.abs().max()))
        assert worst < 1e-9, worst
        if ratio == ratios[0]:
            check_file(model, small, plan, x)
        stuck = moved - step(small, x)
        assert not stuck, f"an optimiser step does not move {sorted(stuck)[:5]}"
    if device == "meta":
        row["torch_pruning"], row["oracle"] = "", "structure only"
    else:
        row["torch_pruning"] = compare(name, model.float(), graph, x.float())
        row["oracle"] = "over survivors" if graph.channels.mixes else "removed = silenced"
    row |= {"largest_difference": worst, "input": size}
    seconds = time.perf_counter() - start
    tqdm.write(f"{name}: {len(free)} of {len(graph.groups)} groups, {worst:.1e}, {seconds:.0f} s")
    return row


def plan_by_number(graph: Any, ratio: float) -> Any:
    """Without values there are no norms: the first filters stay."""
    scores = {name: -torch.arange(float(width)) for name, width in graph.widths.items()}
    return make_plan(graph, {"*": ratio}, scores=scores)


def check_widths(graph: Any, plan: Any, small: nn.Module, ratio: float) -> None:
    for group in graph.groups:
        units = len(group.units)
        gone = min(-int(-round(ratio * units, 9) // 1), units - 1) if group.prunable else 0
        assert len(plan.keep[group.leader]) == group.size - gone * group.size // units, group
    for name, kept in plan.keep.items():
        module = small.get_submodule(name)
        width = getattr(module, "out_channels", getattr(module, "out_features", None))
        assert width == len(kept), name
    device = next(small.parameters()).device
    again = trace(small, tuple(torch.zeros(shape, device=device) for shape in graph.input_shapes))
    traced = {name: layer.n_out for name, layer in again.shapes.items() if name in plan.keep}
    assert traced == {name: len(kept) for name, kept in plan.keep.items()}


def count(model: nn.Module, x: Tensor) -> int:
    """Multiply-adds of one image by two counters, which must agree."""
    with FlopCounterMode(display=False) as counter:
        model(x[:1])
    twice = counter.get_total_flops()  # torch counts a multiply-add twice
    if x.device.type == "meta":  # which fvcore cannot trace
        return twice // 2
    theirs = FlopCountAnalysis(_Row(model), x[:1])
    theirs.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_operator = theirs.by_operator()
    assert twice == 2 * (by_operator["conv"] + by_operator["linear"]), (twice, by_operator)
    return twice // 2


def step(model: nn.Module, x: Tensor) -> set[str]:
    """The parameters that one step of training moves, by more than rounding error.

    Activations that can be dead for all of two images are smoothed: what counts is what gradients
    reach.
    """
    model = copy_with(model, torch.clone).train()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6 | nn.Hardsigmoid | nn.Hardswish):
                setattr(module, name, nn.Softplus())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    outputs(model, x).square().mean().backward()
    optimizer.step()
    moved = {}
    for name, parameter in model.named_parameters():
        moved[name] = float((before[name] - parameter.detach()).abs().max())
    return {name for name, much in moved.items() if much > 1e-12 * max(moved.values())}


def check_file(model: nn.Module, small: nn.Module, plan: Any, x: Tensor) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.safetensors"
        save_pruned(path, small, plan)
        with torch.inference_mode():
            assert torch.equal(outputs(load_pruned(path, model), x), outputs(small, x))


def describe(table: pd.DataFrame) -> str:
    """The verdicts as a page."""
    lines = [
        "# What can be pruned: every convolutional network of torchvision",
        "",
        "Written by `make coverage`, with `coverage.csv`. A group is what goes together; each one",
        "that can be pruned was, at 30 % and at 70 %, and the result held against truths that are",
        "not ours: see `examine` in `tests/graph/coverage.py`. *Δ* is the largest difference from",
        "the silenced network, over its largest output, in float64. *Over survivors*: where a norm",
        "over channels reads a removed map, its mean is over those that stay, so it is held",
        "against a whole network whose norms do the same. *Torch-Pruning* says whether version 1.6",
        "couples the same channels with each conv's filters, place by place",
        "(`tests/graph/couplings.json` explains where not). *Structure only*: 645 million weights,",
        "checked on the meta device without values.",
        "",
        f"| {' | '.join(HEADS)} |",
        "|---" * len(HEADS) + "|",
    ]
    for name, row in table.iterrows():
        stays = "" if row["prunable"] == row["groups"] else f" of {row['groups']}"
        delta = "" if row["oracle"] == "structure only" else f"{row['largest_difference']:.0e}"
        less = [1 - row[f"multiply_adds_{r}%"] / row["multiply_adds"] for r in (30, 70)]
        peer = row["torch_pruning"] if isinstance(row["torch_pruning"], str) else ""
        cells = [
            name,
            row["convs"],
            f"{row['prunable']}{stays}",
            f"{row['multiply_adds'] / 1e6:,.0f} M",
            *(f"−{100 * part:.0f} %" for part in less),
            row["oracle"],
            delta,
            peer,
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "What stays, and why:", ""]
    for name, row in table.iterrows():
        if isinstance(row["stays"], str) and row["stays"]:
            lines.append(f"- **{name}**")
            lines += [f"  - {reason}" for reason in row["stays"].split("; ") if ": " in reason]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[*CLASSIFIERS, *SEGMENTERS])
    table = Path(__file__).parents[2] / "data" / "coverage.csv"
    parser.add_argument("--out", type=Path, default=table)
    given = parser.parse_args()
    rows = {} if not given.out.exists() else pd.read_csv(given.out).set_index("model").T.to_dict()
    failed = []
    for name in tqdm(given.names, unit="network"):
        try:
            row = examine(name)
        except Exception as error:
            failed.append(name)
            tqdm.write(f"{name}: {type(error).__name__}: {error}")
            continue
        rows[row.pop("model")] = row
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model").sort_index()
        table.to_csv(given.out)
        given.out.with_suffix(".md").write_text(describe(table))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
