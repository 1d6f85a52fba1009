"""Random networks, random plans, twice in a row: removed equals silenced, and cost and files agree.

150 networks by default; `make fuzz N=10000` draws more. What it found is in test_operators.py, by
name.
"""

import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import torch
from fuzzing import fuzz
from hypothesis import assume, given
from hypothesis import strategies as st
from networks import BLOCKS, HEADS, Drawn
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from prunelab import (
    ChannelGraph,
    PruningPlan,
    load_pruned,
    make_plan,
    measure_cost,
    prune,
    save_pruned,
    silence,
    total_cost,
    trace,
)

RATIOS = st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.9])
NETWORKS = st.lists(st.tuples(st.sampled_from(BLOCKS), st.integers(0, 60)), min_size=1, max_size=5)
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.double)


@fuzz(150)
@given(NETWORKS, st.sampled_from(HEADS), st.data())
def test_random_networks(blocks, head, data):
    model = Drawn(blocks, head)
    assume(runs(model))
    plan, small, graph = check_round(model, trace(model, X), data)
    plan2, smaller, _ = check_round(small, graph, data)
    for name, kept in plan2.keep.items():
        assert set(kept) <= set(plan.keep[name])
    assert close(prune(model, plan2)(X), smaller(X))  # in one go as in two: plans compose
    with tempfile.TemporaryDirectory() as folder:
        path = save_pruned(Path(folder) / "smaller.safetensors", smaller, plan2)
        assert torch.equal(load_pruned(path, model)(X), smaller(X))


def runs(model: nn.Module) -> bool:
    with suppress(ValueError, RuntimeError):  # a norm over one pixel, say, which torch refuses
        model(X)
        return True
    return False


def check_round(
    model: nn.Module, graph: ChannelGraph, data: st.DataObject
) -> tuple[PruningPlan, nn.Module, ChannelGraph]:
    """Prune by a random plan, and hold the result against the oracle and the counters.

    Returned are the plan, the pruned model, and its trace.
    """
    ratios = {g.leader: data.draw(RATIOS, g.leader) for g in graph.groups if g.prunable}
    assert all(g.reason for g in graph.groups if not g.prunable)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "ratio .* would remove all")
        plan = make_plan(graph, ratios, order=data.draw(st.sampled_from(["smallest", "random"])))
    assert PruningPlan.from_json(plan.to_json()) == plan
    small = prune(model, plan, graph=graph)
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            ours = small(X)
        assert close(ours, silence(model, plan, graph=graph)(X))
    cost, traced = measure_cost(graph, plan), trace(small, X)
    assert counter.get_total_flops() == 2 * len(X) * cost["flops_after"].sum()
    weights = sum(p.numel() for p in small.parameters())
    assert total_cost(graph, plan).loc["after", "params_all"] == weights
    again = measure_cost(traced)
    assert again["flops"].tolist() == cost["flops_after"].tolist()
    assert again["params"].tolist() == cost["params_after"].tolist()
    return plan, small, traced


def close(ours: Tensor, truth: Tensor) -> bool:
    if ours.shape != truth.shape:
        return False
    ours, truth = ours.detach(), truth.detach()
    return bool((ours - truth).abs().max() <= 1e-9 * (1 + truth.abs().max()))
