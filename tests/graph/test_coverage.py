"""One network of each kind by the checks of coverage.py, and what attention lets be pruned.

`make coverage` runs those checks on all networks.
"""

from pathlib import Path

import pandas as pd
import pytest
import torch
from coverage import CLASSIFIERS, SEGMENTERS, build, examine, outputs

from prunelab import make_plan, measure_cost, prune, silence, trace

TABLE = Path(__file__).parents[2] / "data" / "coverage.csv"
COLUMNS = ["convs", "groups", "prunable", "stays", "multiply_adds", "oracle", "torch_pruning"]
KINDS = [
    "densenet121",
    "resnext50_32x4d",
    "regnet_y_400mf",
    "shufflenet_v2_x0_5",
    "mobilenet_v3_small",
    "convnext_tiny",
    "googlenet",
    "lraspp_mobilenet_v3_large",
]


@pytest.mark.parametrize("name", KINDS)
def test_examined(name):
    row = examine(name)
    stored = pd.read_csv(TABLE, keep_default_na=False).set_index("model").loc[name]
    for column in COLUMNS:
        assert row[column] == stored[column], f"{column}: make coverage writes the table anew"


def test_the_table_has_every_convolutional_network():
    assert (len(CLASSIFIERS), len(SEGMENTERS)) == (68, 6)
    table = pd.read_csv(TABLE, keep_default_na=False).set_index("model")
    assert set(table.index) == {*CLASSIFIERS, *SEGMENTERS}
    assert (table["largest_difference"] < 1e-9).all()
    assert (table["prunable"] > 0).all()
    whole = ~table.index.str.startswith(("shufflenet", "squeezenet", "fcn", "deeplab", "lraspp"))
    assert (table["prunable"] == table["groups"])[whole].all()  # the others say what stays, and why
    assert (table["stays"] != "")[~whole].all()


ATTENTION = {  # a layer that can be pruned, and words of a reason why another cannot
    "vit_b_32": (
        "encoder.layers.encoder_layer_3.mlp.0",
        "MultiheadAttention (encoder.layers.encoder_layer_0.self_attention)",
    ),
    "swin_t": (
        "features.3.1.mlp.0",
        "works with the number of its maps (pow in features.1.0.attn)",
    ),
    "maxvit_t": (
        "blocks.0.layers.0.layers.MBconv.layers.conv_a.0",
        "reshapes them to fixed sizes (2, 64, 49, 2, 32)",
    ),
}


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.filterwarnings("ignore:not counted in the cost")
def test_attention_is_refused_and_the_rest_offered(name):
    free, words = ATTENTION[name]
    model, x = build(name), torch.randn(2, 3, 224, 224, dtype=torch.double)
    graph = trace(model, x)
    assert all(group.reason for group in graph.groups if not group.prunable)
    assert any(words in group.reason for group in graph.groups)
    plan = make_plan(graph, {free: 0.5})
    small = prune(model, plan, graph=graph)
    cost = measure_cost(graph, plan)
    assert cost["flops_after"].sum() < cost["flops"].sum()
    with torch.inference_mode():
        ours, truth = outputs(small, x), outputs(silence(model, plan, graph=graph), x)
    assert (ours - truth).abs().max() <= 1e-9 * truth.abs().max()
