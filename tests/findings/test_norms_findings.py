"""What norms say: held against loops and networks whose norms are known."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from small import make_folder

from prunelab import charts, find_weights, findings, load_data, load_model, rank_filters, trace


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", device="cpu")


@pytest.fixture(scope="module")
def graph():
    network = load_model("resnet20", weights=find_weights("resnet20-digits"))
    return trace(network, torch.zeros(1, 3, 32, 32))


def steepness(**means: float) -> pd.DataFrame:
    """Of one conv for each network."""
    rows = [(name.replace("_", ", "), "conv_1", own, own) for name, own in means.items()]
    return pd.DataFrame(rows, columns=["network", "paper_name", "smallest", "mean"])


def test_norms_of_photographs():
    ranked = findings.norms_of_photographs()
    own = ranked[ranked["network"] == "resnet20, CIFAR-10 (JPEG)"]
    weights = load_model("resnet20", weights=find_weights("resnet20-cifar10-jpeg")).state_dict()
    norms = weights["layer1.0.conv1.weight"].abs().sum((1, 2, 3)).sort(descending=True)[0]
    conv_2 = own[own["paper_name"] == "conv_2"]
    assert torch.allclose(torch.tensor(conv_2["score"].to_numpy()).float(), norms)
    assert len(ranked) == len(ranked.drop_duplicates(["weights", "layer", "filter"]))
    assert "Stored: resnet20 on CIFAR-10 (JPEG)" in findings.describe_evidence(ranked)


def test_without_stored_weights_there_are_no_norms(monkeypatch):
    monkeypatch.setattr("prunelab.findings.norms.load_trained", dict)
    ranked = findings.norms_of_photographs()
    assert findings.pick_norms(ranked) == {}
    assert findings.describe_evidence(ranked) == "Nothing is stored of this figure yet."


def test_what_is_drawn():
    ranked = findings.norms_of_photographs().query("model == 'resnet20'")
    named = [
        ranked.assign(network=name)
        for name in ("vgg16_x0_25, a", "resnet20, a", "vgg16, a", "resnet56, a")
    ]
    assert [*findings.pick_norms(pd.concat(named))] == ["vgg16, a", "resnet20, a"]
    assert [*findings.pick_norms(pd.concat(named[:2]))] == ["vgg16_x0_25, a", "resnet20, a"]


def test_thinned_lines_keep_their_ends(graph):
    ranked = rank_filters(graph)
    thin = findings.thin_norms(ranked)
    assert thin.groupby("layer").size().max() <= 17
    for name, own in ranked.groupby("paper_name"):
        drawn = thin[thin["layer"] == name]["share"]
        assert drawn.max() == 1
        assert drawn.min() == pytest.approx(own["share"].min(), abs=5e-4)
    charts.norm_lines(thin).to_dict()


def test_steepness_by_a_loop(graph):
    measured = findings.measure_steepness(rank_filters(graph)).set_index("paper_name")
    for name in graph.layers:
        norms = graph.filters(name).abs().sum((1, 2, 3))
        own = measured.loc[graph.shapes[name].paper_name]
        assert own["smallest"] == pytest.approx(float(norms.min() / norms.max()), rel=1e-5)
        assert own["mean"] == pytest.approx(float(norms.mean() / norms.max()), rel=1e-5)


def test_networks_side_by_side(graph):
    one = rank_filters(graph).assign(network="one")
    other = one[one["paper_name"] != "conv_10"].assign(network="other")
    wide = findings.lay_beside(findings.measure_steepness(pd.concat([other, one])))
    assert list(wide.index) == [f"conv_{i}" for i in range(1, 20)]
    assert list(wide.columns) == ["other", "one"]
    assert wide.loc["conv_10", "other"] == ""
    assert wide.loc["conv_10", "one"] == "0.86"


def test_it_names_the_steepest_and_the_flattest(graph):
    told = findings.describe_steepness(findings.measure_steepness(rank_filters(graph)))
    assert "steepest is conv_1 with 55 %, flattest conv_19 with 89 %" in told


def test_fresh_weights_come_from_the_seed_alone(digits):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = findings.norms_before_training("resnet20", digits, seed=1)
    assert torch.rand(1) == expected
    assert one.equals(findings.norms_before_training("resnet20", digits, seed=1))
    assert not one.equals(findings.norms_before_training("resnet20", digits, seed=2))


def test_flat_norms_are_explained_only_of_digits(digits):
    flat = steepness(net_digits=0.8, **{"net_not trained": 0.81, "net_photographs": 0.5})
    told = findings.explain_flat_norms(flat, "net, digits", digits)
    assert "80 % of the largest, and was 81 % in weights that learned nothing" in told
    assert "bring it to 50 %" in told
    other = replace(digits, name="CIFAR-10")
    assert findings.explain_flat_norms(flat, "net, digits", other) == ""


@pytest.mark.parametrize(
    "frame",
    [
        steepness(net_digits=0.4, **{"net_not trained": 0.81, "net_photographs": 0.5}),
        steepness(net_digits=0.8, **{"net_not trained": 0.81}),
        steepness(net_digits=0.8, **{"net_not trained": 0.81, "other_photographs": 0.5}),
        steepness(net_digits=0.8, net_photographs=0.5),
    ],
)
def test_flat_norms_are_not_explained_where_they_are_not(digits, frame):
    assert findings.explain_flat_norms(frame, "net, digits", digits) == ""


def test_grey_images(graph, digits):
    trained = findings.load_trained()
    told = findings.explain_grey_filters(graph, digits, trained)
    assert "58 % of the squared weights" in told
    assert "40 % in resnet20" in told
    assert "On photographs" not in findings.explain_grey_filters(graph, digits, {})


def test_what_grey_images_leave_out_changes_no_answer(graph, digits):
    """The claim itself: without the differences between colours the answers are the same."""
    images, _ = next(iter(digits.val.batches(32)))
    weight = graph.model.conv1.weight
    before = weight.detach().clone()
    with torch.no_grad():
        truth = graph.model.eval()(images)
        weight.copy_(before.mean(1, keepdim=True).expand_as(before))
        found = graph.model(images)
        weight.copy_(before)
    assert torch.allclose(found, truth, atol=1e-4)


def test_coloured_images(graph, tmp_path):
    coloured = load_data(make_folder(tmp_path / "images"), device="cpu")
    assert findings.explain_grey_filters(graph, coloured, {}) == ""
