"""What is said of a chart: computed, plain text, beside the picture and in the file."""

import base64
import re

import pandas as pd
import pytest
import torch
from test_charts import CHANGES, COMPARED, HISTORY, LAYERS, MEASURED, ROWS, TIMED
from test_odd_names import DRAWN, MARK, ODD, PLAIN

from prunelab import charts
from prunelab.findings import alt


@pytest.mark.parametrize("name", DRAWN)
def test_every_chart_says_what_is_seen(name):
    spec = DRAWN[name](PLAIN).to_dict()
    said = spec["description"]
    assert re.search(r"\d", said)
    assert said.endswith(".")
    assert "nan" not in said
    assert len(said) < 700


def test_names_in_it_are_plain_text():
    assert f"{MARK} 70.0 %" not in alt.sensitivity(MEASURED)
    said = DRAWN["choices"]([MARK]).to_dict()["description"]
    assert f"Most accurate is {MARK}: 80.0 %" in said
    bundle, told = charts.style.render_bundle(DRAWN["choices"](ODD).to_dict())
    assert bundle["text/plain"] == f"<chart: {told['image/png']['alt']}>"


def test_what_is_said_is_in_the_frame():
    assert alt.sensitivity(MEASURED) == (
        "Accuracy without retraining against filters removed, 1 curve, 100 images. Near half, "
        "stage1 goes from 90.0 % to 40.0 % with 8 of 16 filters removed."
    )
    lost = LAYERS.copy()
    lost.loc[(lost["layer"] == "layer2.0.conv1") & (lost["removed"] == 8), "accuracy"] = 0.1
    assert "Near half, conv_20 goes from 90.0 % to 10.0 %" in alt.sensitivity(lost)
    ways = alt.compare_sensitivity({"smallest": LAYERS, "largest": lost})
    assert ways.endswith("the mean over the panels is smallest 40.0 % and largest 32.5 %.")
    ends = "The test error ends at: baseline 40.0 %."
    assert alt.learning_curves(HISTORY).endswith(ends)
    assert alt.tradeoff(ROWS).endswith("Errors: baseline 10.0 %, pruned 60.0 %.")
    told = "r, −30.0 %, d retrained +0.40. The intervals of 0 leave out 0."
    assert alt.changes(CHANGES).endswith(told)
    assert "Most accurate is chosen: 70.0 % at 69.0 %" in alt.choices(COMPARED)
    assert "pruned takes 66.0 % of the time at 70.0 %" in alt.latency(TIMED)


def test_what_is_seen_changes_with_the_frame():
    for say, frame, column in (
        (alt.sensitivity, MEASURED, "accuracy"),
        (alt.tradeoff, ROWS, "test_accuracy"),
        (alt.changes, CHANGES, "change"),
        (alt.choices, COMPARED, "accuracy"),
        (alt.latency, TIMED, "time_left"),
        (alt.learning_curves, HISTORY, "test_accuracy"),
    ):
        assert say(frame) != say(frame.assign(**{column: frame[column] * 0.9}))


def test_pictures_carry_their_alt_text():
    made = charts.filter_images(torch.randn(8, 3, 3, 3), [0, 5])
    assert made.alt == (
        "8 filters of a first layer as small pictures, largest norm first. "
        "6 stay, framed in blue; below them 2 go, framed in orange."
    )
    shown, told = made._repr_mimebundle_()
    assert base64.b64decode(shown["image/png"]) == made
    assert told == {"image/png": {"alt": made.alt}}
    assert shown["text/plain"] == f"<picture: {made.alt}>"
    assert bytes(charts.picture(b"png", "two dots")) == b"png"


def test_jupyter_stores_it():
    from IPython.core.formatters import DisplayFormatter

    shown, told = DisplayFormatter().format(charts.picture(b"png", 'a "b"'))
    assert shown["image/png"] == base64.b64encode(b"png").decode()
    assert told["image/png"]["alt"] == 'a "b"'


def test_cards_say_what_flipped():
    row = {"image": 1, "label": "cat", "before": "cat", "after": "dog", "verdict": "broke"}
    said = alt.flip_images(pd.DataFrame([row, {**row, "verdict": "mended"}]), 25)
    assert said == (
        "2 of 2 images that two networks answer differently: 1 broke and 1 mended. "
        "The first is cat: cat, then dog."
    )


@pytest.mark.parametrize("whole", [None, float("nan"), 0.9])
def test_plans_that_are_not_counted(whole):
    plan = {"name": "a", "flops_left": 0.5, "retrained": False, "correct": None, "total": None}
    plans = pd.DataFrame([plan | dict.fromkeys(["accuracy", "accuracy_low", "accuracy_high"])])
    spec = charts.kept_plans(plans, whole).to_dict()
    assert spec["description"] == "Accuracy against multiply-adds left, 0 plans."
    assert charts.render_png(spec)
