"""A slider's move in the lab, beside making the plan, the totals and the chart anew."""

import itertools
import warnings

import torch
from turns import compare

from prunelab import load_model, make_plan, measure_cost, rank_filters, trace
from prunelab.charts.filters import filter_norms
from prunelab.lab import Lab


def rows(pairs: int, device: str = "cpu") -> list[dict[str, object]]:
    warnings.simplefilter("ignore")
    model = load_model("resnet110")
    lab, graph = Lab(model), trace(model, torch.zeros(1, 3, 32, 32))
    values = itertools.cycle([30, 40])

    def ours(value: int) -> float:
        lab.knobs.stages["stage1"].slider.value = value
        return float(lab.state.cost["flops_after"].sum())

    def theirs(value: int) -> float:
        plan = make_plan(graph, {"stage1": value / 100})
        filter_norms(rank_filters(graph, plan)).to_dict()
        return float(measure_cost(graph, plan)["flops_after"].sum())

    assert ours(50) == theirs(50)
    what = "lab, resnet110: a slider's move to totals and cuts, in Python; theirs: all made anew"
    return [compare(what, ours, theirs, lambda: next(values), pairs)]
