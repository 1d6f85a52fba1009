"""Networks in other kinds of float, without weights, or whose outputs are no numbers."""

from dataclasses import replace

import pytest
import torch
from small import QUICK, few, tiny_network
from torch import nn

from prunelab import (
    compare_with_silenced,
    evaluate,
    load_data,
    load_pruned,
    make_plan,
    measure_sensitivity,
    predict,
    prune,
    save_pruned,
    score_filters,
    trace,
    train,
)


@pytest.fixture(scope="module")
def data():
    return few(load_data("digits", device="cpu"))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return tiny_network()


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_a_network_is_looked_at_in_its_own_kind_of_float(data, model, kind):
    found = evaluate(model, data.test)
    scores = score_filters(trace(model, torch.zeros(data.image_shape)))
    model.to(kind)
    assert evaluate(model, data.test).loss == pytest.approx(found.loss, rel=1e-3)
    assert len(predict({"it": model}, data.test)) == len(data.test)
    measured = measure_sensitivity(model, data, layers=["0"], ratios=[0.5], images=20)
    assert measured["loss"].notna().all()
    graph = trace(model, torch.zeros(data.image_shape, dtype=kind))
    for criterion in ("l1", "bn_scale", "mean_std", "taylor"):
        own = score_filters(graph, criterion, data=data, images=20)
        assert all(each.dtype != kind or kind == torch.float64 for each in own.values())
    images, plan = torch.zeros(data.image_shape), make_plan(graph, {"0": 0.5})
    assert compare_with_silenced(model, plan, images)["max_difference"].max() < 0.05
    for layer, each in score_filters(graph).items():
        torch.testing.assert_close(each.float(), scores[layer], rtol=0.01, atol=0)


def test_norms_of_float16_do_not_overflow(data, model):
    model.half()
    with torch.no_grad():  # 27 weights a filter: the sum is far above 65,504
        model[0].weight.copy_(torch.linspace(6e4, 5e4, 8).reshape(8, 1, 1, 1).expand(8, 3, 3, 3))
    graph = trace(model, torch.zeros(data.image_shape).half())
    assert score_filters(graph)["0"].argsort().tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert make_plan(graph, {"0": 0.5}).keep["0"] == [0, 1, 2, 3]


def test_outputs_whose_sum_overflows_in_float16_are_finite(data, model):
    with torch.no_grad():
        model[-1].bias.fill_(300)
    model.half()
    measured = measure_sensitivity(model, data, layers=["0"], ratios=[0.5], images=60)
    assert measured["loss"].notna().all()


def test_a_buffer_of_complex_numbers_stays_complex(data, model, tmp_path):
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = model
            self.register_buffer("turn", torch.tensor([1 + 2j]), persistent=False)

        def forward(self, x):
            return self.layers(x)

    plan = make_plan(trace(Turned().eval(), torch.zeros(data.image_shape)), {"*": 0.5})
    small = prune(Turned(), plan)
    small.layers.bfloat16()
    path = save_pruned(tmp_path / "t", small, plan)
    again = load_pruned(path, Turned())
    assert next(again.parameters()).dtype == torch.bfloat16
    assert again.turn.item() == 1 + 2j


def test_no_weights_are_no_result(data, model):
    for do in (evaluate, lambda m, d: train(m, data, QUICK), lambda m, d: predict({"it": m}, d)):
        with pytest.raises(ValueError, match="on the meta device, which has shapes and no weights"):
            do(model.to("meta"), data.test)


def test_what_is_not_finite_is_said(data, model):
    graph = trace(model, torch.zeros(data.image_shape))
    with torch.no_grad():
        model[0].weight[3] = float("nan")
    for do in (
        lambda: evaluate(model, data.test),
        lambda: predict({"it": model}, data.test),
        lambda: measure_sensitivity(model, data, layers=["3"], ratios=[0.5], images=20),
    ):
        with pytest.raises(ValueError, match=r"not finite|no finite score"):
            do()
    for criterion in ("l1", "l2", "fpgm"):
        with pytest.raises(ValueError, match=rf"filters of 0 have no finite score by {criterion}"):
            score_filters(graph, criterion)


def test_training_keeps_weights_in_float32(data, model):
    with pytest.raises(ValueError, match=r"this Sequential has torch.bfloat16: give model.float()"):
        train(model.bfloat16(), data, QUICK)
    history = train(model.double(), data, replace(QUICK, epochs=1))
    assert history["train_loss"].notna().all()
    assert next(model.parameters()).dtype == torch.float64


def test_labels_that_are_no_class(data, model):
    test = data.test
    with pytest.raises(ValueError, match="the split has the label -1; labels count from 0"):
        evaluate(model, replace(test, labels=test.labels - 1))
    with pytest.raises(ValueError, match="and the data 11 classes"):
        evaluate(model, replace(test, labels=test.labels + 1))
    with pytest.raises(ValueError, match="evaluate takes a split with images; this one has none"):
        evaluate(nn.Identity(), replace(test, labels=test.labels[:0], images=test.images[:0]))
