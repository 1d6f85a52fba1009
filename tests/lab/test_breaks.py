"""What breaks, without a browser."""

import threading

import pandas as pd
import pytest
import torch

from prunelab import TrainSettings, find_flips, load_model
from prunelab.lab.state import State, Training, open_network
from prunelab.lab.tabs.breaks import HINT, Breaks


@pytest.fixture
def state(few_digits):
    torch.manual_seed(0)
    return State(open_network(load_model("resnet20"), few_digits), ratios={"*": 0.4})


@pytest.fixture
def view(state):
    made = Breaks(state, threading.Lock())
    made.look(True)
    return made


def note_trained(state, model):
    """As Retrain does."""
    history = pd.DataFrame({"epoch": [1], "val_accuracy": [0.5]})
    state.note("training", Training(model, TrainSettings(epochs=1), history))


def look(view):
    view.job.start()
    view.job.join(60)
    return view.job.message


def test_it_shows_what_the_plan_at_hand_breaks(view, state):
    assert view.text.value == HINT
    assert "60 validation images" in look(view)
    assert "Right on 60 validation images: whole" in view.text.value
    options = [label for label, _ in view.compared.options]
    assert options == ["whole → pruned", "whole", "pruned"]
    flips = find_flips(state.find("answers").predicted, "whole", "pruned")
    counts = flips["verdict"].value_counts()
    assert f"{counts['broke']} images broke" in view.told.value
    assert bool(view.sheet.value) == (counts["broke"] > 0)
    view.verdict.value = ""
    assert f"All {len(flips)} are below" in view.told.value or "Below: the 25" in view.told.value
    assert bytes(view.sheet.value).startswith(b"\x89PNG")
    before = view.map.chart.to_dict()["title"]
    view.compared.value = ("pruned",)
    assert view.map.chart.to_dict()["title"] != before


def test_what_was_found_belongs_to_its_plan(view, state):
    look(view)
    said, plan = view.told.value, dict(state.ratios)
    view.compared.value = ("whole",)
    state.choose(ratios={"*": 0.1})
    assert view.text.value == HINT
    assert len(view.children) == 2
    state.choose(ratios=plan)
    assert "Right on 60" in view.text.value
    assert view.told.value == said
    assert view.compared.value == ("whole",)  # as it was left


def test_a_retrained_network_is_asked_too(view, state):
    look(view)
    note_trained(state, state.small)
    assert "The retrained network was not asked yet" in view.text.value
    look(view)
    assert "retrained" in view.text.value
    assert "not asked" not in view.text.value
    assert [label for label, _ in view.pair.options] == [
        "whole → pruned",
        "whole → retrained",
        "pruned → retrained",
    ]
    view.pair.value = ("pruned", "retrained")
    assert "None to show." in view.told.value  # the same weights
    assert view.sheet.layout.display == "none"
    state.note("training", None)
    assert view.pair.value == ("whole", "pruned")
    note_trained(state, load_model("resnet20"))  # another one
    assert "not asked yet" in view.text.value


def test_the_images_are_as_many_as_asked_for(view):
    view.images.value = 7
    assert look(view) == "7 validation images; test images are for the end."
    assert "Right on 7 validation images" in view.text.value


def test_answers_for_a_plan_that_was_left_are_kept_for_it(view, state):
    plan = dict(state.ratios)
    view.job.observe(lambda at: at["new"][0] and state.choose(ratios={"*": 0.1}), "at")
    look(view)
    view.job.unobserve_all("at")
    assert view.text.value == HINT
    state.choose(ratios=plan)
    assert "Right on 60" in view.text.value


def test_another_network_begins_anew(view, few_digits, state):
    look(view)
    state.show(open_network(load_model("resnet20"), few_digits))
    assert view.text.value == HINT
