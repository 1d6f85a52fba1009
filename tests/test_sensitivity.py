import pytest

from prunelab import evaluate, load_model, make_plan, measure_sensitivity, prune, trace
from prunelab.data import data_dir


@pytest.fixture(scope="module")
def model():
    return load_model("resnet20", weights=data_dir() / "checkpoints" / "resnet20-digits.safetensors")


def test_equals_the_plain_loop(model, digits):
    found = measure_sensitivity(model, digits, layers=["conv_2", "stage3"], ratios=[0.3, 0.6]).set_index(
        ["layer", "ratio"]
    )
    graph = trace(model, next(digits.val.batches(1))[0])
    for (layer, ratio), row in found.iterrows():
        small = prune(model, make_plan(graph, {layer: ratio}))
        expected = evaluate(small, digits.val)
        assert (row["correct"], row["total"]) == (expected.correct, expected.total)
        assert row["loss"] == pytest.approx(expected.loss)
    assert found.loc[("stage3", 0.3), "filters"] == 3 * 64
    assert found.loc[("conv_2", 0.3), "removed"] == 5


def test_equal_counts_are_measured_once_and_refused_layers_left_out(model, digits, monkeypatch):
    calls = []
    monkeypatch.setattr("prunelab.sensitivity.evaluate", lambda m, s: calls.append(m) or evaluate(m, s))
    found = measure_sensitivity(model, digits, ratios=[0.02, 0.04])  # one filter of 16, 32; 2 or 3 of 64
    assert len(calls) == 1 + 3 + 2 * 3 + 2 * 3  # the whole; stage 1 once; the others twice
    assert set(found["layer"]) == {f"layer{s}.{i}.conv1" for s in (1, 2, 3) for i in range(3)}
    whole = found[found["ratio"] == 0]
    assert whole["correct"].nunique() == 1


def test_unknown_and_refused_layers(model, digits):
    with pytest.raises(ValueError, match="unknown layer 'conv_100'"):
        measure_sensitivity(model, digits, layers=["conv_2", "conv_100"])
    with pytest.raises(ValueError, match="'conv_3' cannot be pruned"):
        measure_sensitivity(model, digits, layers=["conv_3"])
