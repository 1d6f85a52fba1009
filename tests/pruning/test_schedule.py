import pytest
import torch

from prunelab import load_model, make_plan, prune, trace
from prunelab.pruning.schedule import find_ratios, make_steps

X = torch.zeros(1, 3, 32, 32)
RATIOS = {"stage1": 0.3, "conv_16": 0.1}


@pytest.fixture(scope="module")
def graph():
    return trace(load_model("resnet20"), X)


def test_steps(graph):
    stays = {"layer1.0.conv1": 11, "layer1.1.conv1": 11, "layer1.2.conv1": 11, "layer3.1.conv1": 57}
    assert make_steps(graph, RATIOS, "once") == [stays]
    layers = make_steps(graph, RATIOS, "layer by layer")
    assert layers == [{leader: stay} for leader, stay in stays.items()]
    each = make_steps(graph, RATIOS, "filter by filter")
    assert len(each) == 3 * 5 + 7
    assert each[:5] == [{"layer1.0.conv1": stay} for stay in (15, 14, 13, 12, 11)]
    assert each[5] == {"layer1.1.conv1": 15}
    rounds = make_steps(graph, RATIOS, "rounds", rounds=3)
    assert [step["layer1.0.conv1"] for step in rounds] == [14, 12, 11]
    assert rounds[-1] == stays
    words = "unknown schedule 'layer-by-layer'; did you mean 'layer by layer'"
    with pytest.raises(ValueError, match=words):
        make_steps(graph, RATIOS, "layer-by-layer")


@pytest.mark.parametrize("rounding", ["ceil", "floor", "round"])
@pytest.mark.parametrize("align", [1, 8])
@pytest.mark.parametrize("schedule", ["layer by layer", "filter by filter", "rounds"])
def test_without_retraining_every_schedule_ends_in_the_plan_made_at_once(schedule, align, rounding):
    model = load_model("resnet20")
    whole = trace(model, X)
    # the l2 norm of a filter is its own: what goes before it does not change it
    options = {"criterion": "l2", "rounding": rounding, "align": align}
    ratios = {"stage2": 0.4, "conv_16": 0.15}
    for step in make_steps(whole, ratios, schedule, rounds=3, rounding=rounding):
        graph = trace(model, X)
        model = prune(model, make_plan(graph, find_ratios(graph, step), **options), graph=graph)
    assert model.pruning_plan.keep == make_plan(whole, ratios, **options).keep
