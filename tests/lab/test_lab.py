"""The lab without a browser: its state, its knobs, its views, its threads, and what it keeps."""

import json
import re
import threading
import time

import pandas as pd
import pytest
import torch
from torch import nn

from prunelab import (
    TrainSettings,
    charts,
    load_model,
    load_pruned,
    load_recipe,
    make_plan,
    measure_sensitivity,
    replay,
    total_cost,
)
from prunelab.lab import Lab
from prunelab.lab.jobs import Job, JobBar, say_seconds
from prunelab.lab.live import live, move, table
from prunelab.lab.sliders import OWN
from prunelab.lab.state import (
    State,
    code_text,
    find_checkpoint,
    glance,
    open_network,
    recipe_text,
    save_recipe,
)
from prunelab.lab.tabs import sensitivity
from prunelab.lab.tabs.sensitivity import MAP, take_point
from prunelab.pruning import MAP_STATISTICS


@pytest.fixture(scope="module")
def network():
    """Our ResNet-20 on digits."""
    return open_network()


@pytest.fixture
def state(network):
    return State(network, ratios={"stage1": 0.3})


@pytest.fixture
def lab(few_digits):
    return Lab(load_model("resnet20"), few_digits, ratios={"stage1": 0.3, "stage3": 0.5}, images=0)


def turn(lab, title):
    """Look at a tab."""
    lab.tabs.selected_index = lab.tabs.titles.index(title)


# --- the state ---


def test_a_choice_gives_the_plan_of_make_plan(state):
    ratios = {"stage2": 0.4, "conv_10": 0}
    how = {"criterion": "l2", "order": "largest", "rounding": "floor", "align": 4}
    state.choose(ratios=ratios, **how)
    assert state.plan == make_plan(state.graph, ratios, **how)
    state.choose(strategy="greedy", criterion="l1", order="smallest", align=1)
    assert state.plan == make_plan(state.graph, state.ratios, strategy="greedy", rounding="floor")


def test_what_is_refused_changes_nothing(state):
    before = state.plan, dict(state.ratios), dict(state.choice)
    for wrong, message in [
        ({"ratios": {"stage1": 1.0}}, r"must be a number in \[0, 1\)"),
        ({"ratios": {"stage9": 0.1}}, "unknown layer 'stage9'"),
        ({"ratios": {"conv_1": 0.5}}, "cannot be pruned"),
        ({"criterion": "l3"}, "unknown criterion"),
        ({"align": 0}, "align must be"),
        ({"strategy": "greedy", "criterion": "taylor"}, "needs a criterion of weights"),
    ]:
        with pytest.raises(ValueError, match=message):
            state.choose(**wrong)
        assert (state.plan, state.ratios, state.choice) == before


def test_a_stage_moves_its_layers_but_those_with_ratios_of_their_own(state):
    state.set_ratio("layer1.0.conv1", 0.5)
    state.set_ratio("layer1.1.conv1", 0.0)
    assert state.ratio_of("layer1.0.conv1") == 0.5
    assert state.ratio_of("conv_6") == 0.3  # by the stage's key
    assert state.own_ratio("conv_4") == 0
    state.set_stage("stage1", 0.2)
    assert state.ratios == {"stage1": 0.2, "layer1.0.conv1": 0.5, "layer1.1.conv1": 0.0}
    names = ("stage1", "conv_2", "conv_4", "conv_6", "stage2")
    assert [state.ratio_of(name) for name in names] == [0.2, 0.5, 0.0, 0.2, 0.0]
    state.set_ratio("layer1.1.conv1", None)
    assert state.own_ratio("conv_4") is None
    assert state.ratio_of("conv_4") == 0.2


def test_a_stage_that_moves_shows_a_layer_of_it(state):
    state.set_stage("stage3", 0.1)
    assert state.graph.group_of(state.layer).stage == "stage3"


def test_undo_and_redo(state):
    assert state.steps == (0, 0)
    state.set_stage("stage1", 0.4)
    state.set_stage("stage1", 0.5)  # one movement of one slider
    state.choose(order="largest")
    state.undo()
    assert (state.choice["order"], state.ratios) == ("smallest", {"stage1": 0.5})
    state.undo()
    assert state.ratios == {"stage1": 0.3}
    assert state.plan == make_plan(state.graph, {"stage1": 0.3})
    state.undo()  # nothing is left to undo
    state.redo()
    state.redo()
    assert (state.choice["order"], state.ratios) == ("largest", {"stage1": 0.5})
    state.undo()
    state.set_stage("stage2", 0.1)
    assert state.steps == (2, 0)  # what was undone is gone


def test_filters_picked_by_hand(state):
    layer = "layer1.0.conv1"
    before = state.plan.keep[layer]
    gone = state.plan.removed[layer]
    state.toggle(layer, before[0])  # it goes; another one stays for it
    assert before[0] in state.plan.removed[layer]
    assert len(state.plan.removed[layer]) == len(gone)
    state.toggle(layer, gone[0])
    assert gone[0] in state.plan.keep[layer]
    assert state.wish.keep == {layer: [gone[0]]}
    state.toggle(layer, gone[0])  # a second time takes the first back
    assert not state.wish.keep
    state.forget_hand(layer)
    assert state.plan.keep[layer] == before


def test_presets(network):
    state = State(network)
    state.preset("uniform", 0.7)
    assert total_cost(state.graph, state.plan).loc["after", "flops"] <= 0.7 * 40551040
    with pytest.raises(ValueError, match="measure the sensitivity first"):
        state.preset("budget", 0.7)
    state.measured = measure_sensitivity(
        network.model, network.data, layers=state.graph.stages, images=40
    )
    state.preset("budget", 0.6)
    assert total_cost(state.graph, state.plan).loc["after", "flops"] <= 0.6 * 40551040
    assert state.wish.preset == ("budget", 0.6)
    state.set_stage("stage1", 0.1)
    assert state.wish.preset is None
    state.undo()
    assert state.wish.preset == ("budget", 0.6)
    state.preset("nothing")
    assert state.plan == make_plan(state.graph, {})
    assert state.presets() == ["nothing", "resnet20-pruned-b", "uniform", "budget"]


def test_the_papers_recipe_is_a_preset(few_digits):
    state = State(open_network(load_model("resnet56"), few_digits))
    recipes = ["resnet56-pruned-a", "resnet56-pruned-b"]
    assert state.presets() == ["nothing", *recipes, "uniform", "budget"]
    state.preset("resnet56-pruned-b")
    flops = total_cost(state.graph, state.plan).loc["after", "flops"]
    assert round(1 - flops / 125_485_696, 3) == 0.276


def test_another_network_starts_afresh(state, tmp_path, few_digits):
    before = state.network
    state.measured = pd.DataFrame()
    state.show(open_network("vgg16", few_digits))
    assert (state.ratios, state.measured, state.layer) == ({}, None, "features.0")
    with pytest.raises(FileNotFoundError, match="no weights file"):
        open_network("vgg16", few_digits, tmp_path / "none.pth")
    with pytest.raises(ValueError, match="did you mean 'resnet56'"):
        open_network("resnet57", few_digits)
    state.show(before)
    assert state.graph.layers[0] == "conv1"


# --- knobs ---


def test_it_starts_where_the_parameter_says(lab):
    assert lab.ratios == {"stage1": 0.3, "stage3": 0.5}
    sliders = {stage: rows.slider.value for stage, rows in lab.knobs.stages.items()}
    assert sliders == {"stage1": 30, "stage2": 0, "stage3": 50}
    assert lab.plan == make_plan(lab.state.graph, lab.ratios)


def test_a_slider_moves_totals_charts_and_plan(lab):
    dots = lab.tabs.views[0].dots
    before = charts.describe_norms(lab.state.rank(lab.state.layer), lab.state.layer)
    lab.knobs.stages["stage1"].slider.value = 50
    assert lab.ratios["stage1"] == 0.5
    after = total_cost(lab.state.graph, lab.plan).loc["after", "flops"]
    assert f"<b>{after / 1e6:,.2f} M</b> of 40.55 M" in lab.head.totals.value
    assert before["fates"].count("removed") == 5
    assert dots.moved["shown"]["fates"].count("removed") == 8
    assert dots.moved["shown"]["cut"] == 8.5


def test_a_slider_is_not_answered_with_its_past(lab):
    """A browser counts 37.00000000000001; to send back 37 would undo what the hand did since."""
    slider, sent = lab.knobs.stages["stage1"].slider, []
    slider.value = 37.00000000000001
    assert slider.value == 37.00000000000001
    assert lab.ratios["stage1"] == 0.37
    slider.observe(sent.append, "value")
    lab.ratios = {**lab.ratios, "stage1": 0.37, "stage2": 0.1}
    assert not sent


@pytest.mark.parametrize("ratio", [0.282, 0.3333, 0.004, 0.123456])
def test_what_a_page_sends_back_rounded_changes_nothing(lab, ratio):
    """A page shows a slider at its steps, and may send them back as if a hand had moved it."""
    lab.ratios = {"stage1": ratio}
    row = lab.knobs.stages["stage1"].ratio
    for shown in (round(200 * ratio) / 2, round(100 * ratio, 1)):
        row.slider.value = shown
        assert lab.ratios == {"stage1": ratio}
    assert row.field.value == f"{100 * ratio:.6g}"
    row.field.value = row.field.value
    assert lab.ratios == {"stage1": ratio}


def test_a_page_that_sends_where_a_slider_was_a_moment_ago_is_not_heard(lab):
    """Two presets in a row: the page still speaks of the first when the second is in force."""
    slider = lab.knobs.stages["stage1"].slider
    lab.ratios = {"stage1": 0.2}
    lab.ratios = {"stage1": 0.5}
    slider.value = 20
    assert (lab.ratios, slider.value) == ({"stage1": 0.5}, 50)
    slider.value = 35
    assert lab.ratios == {"stage1": 0.35}


def test_ratios_are_typed_with_a_comma_or_a_point(lab):
    row = lab.knobs.stages["stage1"].ratio
    for text, ratio in (("33,3", 0.333), (" 28.25 % ", 0.2825), ("0", 0.0)):
        row.field.value = text
        assert lab.ratios["stage1"] == ratio
        assert row.field.value == f"{100 * ratio:.6g}"
    for text in ("much", "100", "-3"):
        row.field.value = text
        assert lab.ratios["stage1"] == 0
        assert "a ratio is" in lab.knobs.trouble.value
        assert row.field.value == "0"


def test_how_many_filters_go_is_shown(lab):
    row = lab.knobs.stages["stage3"]
    row.opener.value = True
    layer = row.layers["layer3.0.conv1"].ratio
    for text in ("50", "49.5"):
        layer.field.value = text
        assert "32 of 64" in layer.count.value


def test_setting_ratios_moves_the_sliders(lab):
    lab.ratios = {"stage1": 0.2}
    assert [rows.slider.value for rows in lab.knobs.stages.values()] == [20, 0, 0]
    with pytest.raises(ValueError, match=r"must be a number in \[0, 1\)"):
        lab.ratios = {"stage1": 1.0}
    with pytest.raises(ValueError, match="unknown layer 'stage9'"):
        lab.ratios = {"stage9": 0.1}
    assert lab.ratios == {"stage1": 0.2}


def test_a_stage_opens_into_its_layers(lab):
    rows = lab.knobs.stages["stage1"]
    assert not rows.layers  # made when they are looked at
    rows.opener.value = True
    assert lab.ratios == {"stage1": 0.3, "stage3": 0.5}  # looking changes nothing
    assert lab.state.layer == "layer1.0.conv1"
    assert [row.slider.value for row in rows.layers.values()] == [0, 30, 30, 30]
    drawn = rows.layers["layer1.2.conv1"].slider
    drawn.value = 30.000000000000004  # as a page does when it draws a slider
    assert "layer1.2.conv1" not in lab.ratios
    fixed, free = rows.layers["conv1"], rows.layers["layer1.1.conv1"]
    assert fixed.slider.disabled
    assert "zero" in fixed.slider.tooltip or "pad" in fixed.slider.tooltip  # the shortcut's
    free.slider.value = 60
    assert lab.ratios["layer1.1.conv1"] == 0.6
    assert lab.state.layer == "layer1.1.conv1"
    assert lab.tabs["Norms"].picker.value == "layer1.1.conv1"
    assert OWN in free._dom_classes
    assert free.follow.layout.visibility == "visible"
    rows.slider.value = 40  # those with ratios of their own stay
    assert [row.slider.value for row in rows.layers.values()] == [0, 40, 60, 40]
    free.follow.click()
    assert free.slider.value == 40
    assert OWN not in free._dom_classes


def test_an_alignment_that_swallows_a_ratio_says_so(lab):
    lab.ratios = {"stage1": 0.1}
    lab.knobs.settings["align"].value = 8
    assert "align 8 leaves conv_2, conv_4 and conv_6 whole: a larger" in lab.knobs.trouble.value
    lab.knobs.settings["align"].value = 16  # as many as they have
    assert "conv_6 whole: they have no more than 16 filters" in lab.knobs.trouble.value


def test_a_knob_that_is_refused_says_why_and_goes_back(lab):
    lab.knobs.settings["strategy"].value = "greedy"
    lab.knobs.settings["criterion"].value = "bn_scale"
    assert "needs a criterion of weights" in lab.knobs.trouble.value
    assert lab.knobs.settings["criterion"].value == "l1"
    lab.knobs.stages["stage1"].slider.value = 99
    assert "one stays" in lab.knobs.trouble.value
    lab.knobs.stages["stage1"].slider.value = 20
    assert lab.knobs.trouble.value == ""


def test_a_criterion_of_images_is_scored_in_a_thread(lab):
    lab.knobs.settings["criterion"].value = "mean_mean"
    lab.knobs.scoring.job.join(60)
    assert lab.state.choice["criterion"] == "mean_mean"
    state = lab.state
    data = state.network.data
    assert lab.plan == make_plan(state.graph, lab.ratios, criterion="mean_mean", data=data)
    assert lab.knobs.trouble.value == ""
    assert set(MAP_STATISTICS) <= state.network.known.keys()  # all of them in one pass


def test_presets_show_what_is_in_force(lab):
    knobs, whole = lab.knobs, lab.state.cost["flops"].sum()
    assert knobs.preset.value == "your own"
    knobs.limit.value = "60"
    knobs.preset.value = "uniform"
    assert set(lab.ratios) == {"*"}
    knobs.limit.value = "55,5"
    assert lab.state.cost["flops_after"].sum() <= 0.555 * whole
    assert (knobs.preset.value, knobs.limit.value) == ("uniform", "55.5")
    knobs.preset.value = "budget"
    assert "measure the sensitivity first" in knobs.trouble.value
    assert knobs.preset.value == "uniform"
    knobs.stages["stage1"].slider.value = 80
    assert knobs.preset.value == "your own"
    lab.head.undo.click()
    assert knobs.preset.value == "uniform"
    knobs.preset.value = "nothing"
    assert lab.ratios == {}


@pytest.mark.parametrize("how", [{"rounding": "floor"}, {"align": 8}, {"criterion": "l2"}])
def test_a_preset_is_in_force_only_as_it_was_chosen(lab, how):
    lab.knobs.preset.value = "uniform"
    lab.state.choose(**how)
    assert lab.knobs.preset.value == "your own"  # other filters, or too many, are left
    lab.head.undo.click()
    assert lab.knobs.preset.value == "uniform"


def test_a_limit_says_what_it_may_be_and_holds_at_100(lab):
    knobs = lab.knobs
    assert knobs.limit.layout.visibility == "hidden"  # of ratios of one's own
    knobs.preset.value = "uniform"
    for limit in ("-3", "0", "101"):
        knobs.limit.value = limit
        assert "at most 100 per cent of the multiply-adds" in knobs.trouble.value
    knobs.limit.value = "100"
    assert knobs.preset.value == "uniform"
    assert knobs.limit.layout.visibility == "visible"
    assert knobs.trouble.value == ""


def test_a_stage_counts_the_filters_that_can_go(lab):
    lab.ratios = {"stage1": 0.25}
    assert "12 of 48" in lab.knobs.stages["stage1"].ratio.count.value  # conv_1 must stay


@pytest.mark.parametrize("rounding", ["floor", "round"])
def test_a_budget_holds_whatever_the_rounding_was(state, rounding):
    state.choose(rounding=rounding)
    state.preset("uniform", 0.7)
    assert state.cost["flops_after"].sum() <= 0.7 * state.cost["flops"].sum()


def test_another_network_is_opened_by_the_form(lab, tmp_path):
    form = lab.knobs.opening
    form.model.value, form.weights.value = "vgg16", str(tmp_path / "none.pth")
    form.bar.job.start()
    form.bar.job.join(60)
    assert "There is no weights file" in form.bar.text.value
    assert lab.state.network.architecture == "resnet20"
    (tmp_path / "empty.pt").touch()
    for weights, size, said in (
        (
            f"{tmp_path}/empty.pt",
            0,
            f"{tmp_path}/empty.pt is torn or not a torch file (it is empty).",
        ),
        (
            "",
            64,
            "image_size is for image folders, and digits is none: its images are 32×32; "
            "leave it out.",
        ),
    ):
        form.weights.value, form.image_size.value = weights, size
        form.bar.job.start()
        form.bar.job.join(60)
        assert form.bar.job.message == said
    form.image_size.value = 0
    form.bar.job.start()
    form.bar.job.join(60)
    assert lab.state.network.architecture == "vgg16"
    assert "fresh weights" in form.bar.text.value
    assert lab.ratios == {}
    assert list(lab.knobs.stages) == ["stage1", "stage2", "stage3", "stage4", "stage5"]
    assert lab.tabs.views[0].picker.value == "features.0"


# --- views ---


def test_every_tab_is_drawn_when_it_is_looked_at_and_follows(lab):
    for view in lab.tabs.views:
        turn(lab, view.title)
        assert view.children, view.title
    turn(lab, "Cost")
    lab.ratios = {"stage2": 0.5}
    cost = lab.state.cost
    assert lab.tabs["Cost"].chart.moved["left"] == charts.cost_left(cost)
    turn(lab, "Network")
    lab.state.layer = "conv1"
    text = lab.tabs["Network"].text.value
    assert "leads: its norms decide for 10 tied layers" in text
    assert "they stay" in text


def measure(lab, what="each stage", images=20):
    turn(lab, "Sensitivity")
    view = lab.tabs["Sensitivity"]
    view.what.value, view.images.value = what, images
    view.job.start()
    view.job.join(120)
    return view


def test_sensitivity_is_measured_in_a_thread_and_clicked(lab):
    view = measure(lab)
    assert view.job.message == "3 curves on 20 validation images."
    assert set(lab.state.measured["layer"]) == {"stage1", "stage2", "stage3"}
    point = {"layer": "stage2", "ratio": 0.4}
    view.chart._vl_selections = {"picked": {"value": {"vlPoint": {"or": [point]}}, "store": []}}
    assert lab.ratios["stage2"] == 0.4
    assert view.chart.moved["at"]["stage2"][0] == round(39 / 96, 4)  # what is really removed
    take_point(lab.state, {"layer": "layer1.0.conv1", "ratio": 0.7})
    assert (lab.ratios["layer1.0.conv1"], lab.state.layer) == (0.7, "layer1.0.conv1")
    take_point(lab.state, point)
    assert lab.knobs.stages["stage2"].slider.value == 40


def test_another_network_is_shown_whatever_was_measured_and_seen(lab):
    measure(lab)
    for title in ("Network", "Filters", "Norms"):
        turn(lab, title)
    lab.state.show(open_network("vgg16", lab.state.network.data))
    assert lab.state.graph.layers[0] == "features.0"
    assert lab.tabs.views[lab.tabs.selected_index].picker.value == "features.0"
    turn(lab, "Sensitivity")
    said = lab.tabs.views[lab.tabs.selected_index]
    assert "Nothing is measured yet" in said.text.value
    assert said.job.message == ""


def test_what_was_measured_is_shown(lab):
    view = measure(lab)
    assert view.shown.value == "stages"
    view.what.value = "every layer"
    view.bar.start.click()
    view.job.join(120)
    assert view.shown.value == MAP
    view.what.value = "each stage"
    view.bar.start.click()
    view.job.join(120)
    assert view.shown.value == "stages"


def test_a_level_is_kept_in_whole_filters(network):
    lab = Lab(network.model, network.data, images=0)
    view = measure(lab)
    level = 0.6
    view.chart._params = {**view.chart._params, "level": level}
    assert lab.ratios
    for _, accuracy in view._place(lab.state.measured).values():
        assert accuracy >= level


def test_handles_and_the_line_of_the_curves(lab):
    chart = measure(lab).chart
    chart._params = {**chart._params, "dragged": {"layer": "stage2", "ratio": 0.12345}}
    assert lab.ratios["stage2"] == 0.123
    chart._params = {**chart._params, "level": 0.0}  # as far as they were measured
    assert lab.ratios == {"stage1": 0.9, "stage2": 0.9, "stage3": 0.9}
    lab.head.undo.click()
    assert lab.ratios["stage2"] == 0.123


def test_measurements_merge_and_come_back(lab):
    lab.state.layer = "layer1.0.conv1"
    measure(lab, "this layer")
    lab.state.layer = "layer3.0.conv1"
    view = measure(lab, "this layer")
    assert set(lab.state.measured["layer"]) == {"layer1.0.conv1", "layer3.0.conv1"}
    measure(lab)
    assert lab.state.measured["layer"].nunique() == 5
    assert view.shown.options == ("stages", "layers of stage1", "layers of stage3", MAP)
    view.shown.value = MAP
    lab.knobs.settings["criterion"].value = "l2"
    assert lab.state.measured is None
    lab.knobs.settings["criterion"].value = "l1"
    assert lab.state.measured["layer"].nunique() == 5


def test_a_stopped_measurement_keeps_the_curves_so_far(lab, monkeypatch):
    monkeypatch.setattr(sensitivity, "AT_ONCE", 10)
    turn(lab, "Sensitivity")
    view = lab.tabs["Sensitivity"]
    view.images.value = 30
    lab.state.observe(lambda _: view.job.stop(), "measured")
    view.job.start()
    view.job.join(60)
    assert "Stopped" in view.job.message
    assert set(lab.state.measured["total"]) == {10}
    assert view.chart is not None
    lab.state.unobserve_all("measured")


def test_a_chart_that_a_page_draws_anew_gets_its_values_again(few_digits):
    state = State(open_network(load_model("resnet20"), few_digits))
    chart = live(charts.norm_lines(state.rank()))
    move(chart, chosen="layer1.0.conv1")
    chart._params = {"chosen": ""}  # what a new view says of itself
    assert chart._params == {"chosen": "layer1.0.conv1"}


def test_tables_escape_and_align():
    long = "<i>" * 40
    columns = {"<b>": ["<b>", long], "count": [1234, 5], "share": [0.25, 98765.4321]}
    frame = pd.DataFrame(columns, index=[7, 7])
    html = table(frame)
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", html)
    escaped = "&lt;i&gt;" * 40
    first, second = ["&lt;b&gt;", "1,234", "0.2"], [escaped, "5", "98,765.4"]
    assert cells == ["&lt;b&gt;", "count", "share", *first, *second]
    right = re.findall(r"\.(col\d) \{\s*text-align: right", html)
    assert right == ["col1", "col2"]
    for i, name in enumerate(("count", "share"), 1):
        assert re.search(rf'<th class="[^"]*\bcol{i}" >{name}<', html)
    assert re.search(r'<td class="[^"]*\bcol1" >1,234<', html)
    assert table(frame) == html
    assert table(frame, "<s>").startswith("<details><summary>&lt;s&gt;</summary>")
    assert ">0.2500<" in table(frame, formats={"share": "{:.4f}"})


# --- long work ---


def test_jobs_run_one_at_a_time_and_stop():
    desk, began = threading.Lock(), threading.Event()

    def work(report):
        began.set()
        for i in range(10_000):
            report(i, 10_000)
            time.sleep(0.001)
        return "done"

    job, other = Job(work, desk), Job(lambda report: "done", desk)
    assert job.start()
    began.wait(5)
    assert not other.start()
    assert "Something else is running" in other.message
    job.stop()
    job.join(5)
    assert (job.running, job.message) == (False, "Stopped.")
    assert other.start()
    other.join(5)
    assert other.message == "done"


def test_a_job_that_fails_says_so_and_frees_the_desk(capsys):
    desk = threading.Lock()

    def wrong(report):
        raise ValueError("the ratio is no number")

    def odd(report):
        raise RuntimeError("odd")

    for work, message in ((wrong, "The ratio is no number."), (odd, "RuntimeError: odd")):
        job = Job(work, desk)
        job.start()
        job.join(5)
        assert (job.message, job.running, desk.locked()) == (message, False, False)
    assert "RuntimeError: odd" in capsys.readouterr().err


def test_evaluate_and_seal(lab):
    actions = lab.actions
    actions.evaluate.job.start()
    actions.evaluate.job.join(60)
    assert "pruned, not retrained" in actions.evaluation.value
    assert "accuracy, %" in actions.evaluation.value
    actions.masked.value = True
    actions.seal.job.start()
    actions.seal.job.join(60)
    assert actions.seal.job.message.startswith("Removed equals silenced: max |Δ| = ")
    assert "filters set to zero" in actions.seal_text.value
    assert "changed predictions" in actions.seal_text.value
    lab.ratios = {}
    assert actions.evaluation.value == ""  # it was of another plan


def stop_when(job, enough):
    """Stop a job as soon as it has done this much of all."""
    job.observe(lambda change: change["new"][0] > enough * change["new"][1] and job.stop(), "at")


def test_an_evaluation_from_before_the_retraining_says_so(lab):
    actions = lab.actions
    actions.epochs.value = 1
    for bar in (actions.evaluate, actions.retrain):
        assert "Evaluate adds that network" not in actions.evaluation.value
        bar.job.start()
        bar.job.join(120)
    assert "Evaluate adds that network" in actions.evaluation.value
    assert re.match(r"images \(epochs: 1\) of the plan at −\d+\.\d%", actions.retrain.unit)
    actions.evaluate.job.start()
    actions.evaluate.job.join(60)
    assert "retrained" in actions.evaluation.value
    assert "Evaluate adds that network" not in actions.evaluation.value


def test_retraining_stops_within_an_epoch_and_goes_on(lab):
    bar, epochs = lab.actions.retrain, lab.actions.epochs
    epochs.value = 3
    stop_when(bar.job, 0.4)
    bar.job.start()
    bar.job.join(120)
    assert re.match(r"Stopped after 1 of 3 epochs and \d+ images of the next", bar.job.message)
    assert lab.state.trained is None
    bar.job.unobserve_all("at")
    seen = []
    bar.job.observe(lambda change: seen.append(change["new"]), "at")
    bar.job.start()
    bar.job.join(120)
    assert min(done for done, total in seen if total) > len(lab.state.network.data.train)
    assert bar.job.message.startswith("Retrained for 3 epochs")
    assert "test" not in bar.job.message
    assert lab.state.trained is lab.state.small
    chart = lab.actions.curve.children[0].chart.to_dict()
    assert "test" not in {row["split"] for row in next(iter(chart["datasets"].values()))}


def test_a_retrained_network_belongs_to_its_plan(lab, tmp_path):
    bar, before = lab.actions.retrain, lab.ratios
    lab.actions.epochs.value = 1
    bar.job.start()
    bar.job.join(60)
    trained, said = lab.state.trained, bar.job.message
    assert said.startswith("Retrained for 1 epochs")
    lab.ratios = {"stage1": 0.1}
    assert lab.state.trained is None
    assert bar.job.message == ""
    assert not lab.actions.curve.children
    lab.actions.saving.name.value = str(tmp_path / "small")
    lab.actions.saving.save_model.click()
    assert "Saved, pruned, not retrained" in lab.actions.saving.saved.value
    lab.ratios = before
    assert lab.state.trained is trained
    assert bar.job.message == said
    assert lab.actions.curve.children
    lab.actions.saving.save_model.click()
    assert "Saved, retrained" in lab.actions.saving.saved.value


def test_what_is_done_while_the_choice_changes_is_not_taken_for_the_new_one(lab):
    bar, before = lab.actions.retrain, lab.ratios
    lab.actions.epochs.value = 1
    bar.job.observe(lambda change: setattr(lab, "ratios", {"stage2": 0.5}), "at")
    bar.job.start()
    bar.job.join(60)
    bar.job.unobserve_all("at")
    assert lab.state.trained is None
    assert "It was of another choice" in bar.job.message
    lab.ratios = before
    assert lab.state.trained is not None
    assert bar.job.message.startswith("Retrained for 1 epochs")


def test_figures_of_another_choice_are_taken_down(lab):
    time = lab.tabs["Time"]
    turn(lab, "Time")
    time.job.start()
    time.job.join(60)
    before = lab.ratios
    assert len(time.children) == 3
    lab.ratios = {"stage1": 0.6}
    assert len(time.children) == 2
    assert "Measure" in time.text.value
    lab.ratios = before
    assert len(time.children) == 3
    sensitivity = measure(lab)
    assert sensitivity.chart is not None
    lab.ratios = {"stage1": 0.5}
    assert sensitivity.chart is not None  # curves are of the network, whatever the ratios
    lab.knobs.settings["order"].value = "largest"
    assert lab.state.measured is None
    assert sensitivity.chart is None


def wait_for(found, seconds=20):
    end = time.monotonic() + seconds
    while not found() and time.monotonic() < end:
        time.sleep(0.02)
    return found()


def test_the_accuracy_is_counted_after_a_move(network):
    lab = Lab(network.model, network.data, images=60)
    assert wait_for(lambda: lab.glance.found)
    assert lab.glance.found == lab.glance.whole
    lab.ratios = {"*": 0.6}
    assert lab.glance.found is None
    found = wait_for(lambda: lab.glance.found)
    assert found.correct == lab.glance.count(lab.state.small).correct
    assert f"{found.accuracy:.1%}" in lab.head.accuracy.value
    low, high = found.interval
    assert f"{low:.0%}–{high:.0%}, 60 validation images" in lab.head.accuracy.value
    lab.head.undo.click()
    assert lab.glance.found == lab.glance.whole  # known at once


def test_what_is_counted_in_part_is_counted_to_its_end(network, monkeypatch):
    monkeypatch.setattr(glance, "ENOUGH", 0.0)
    lab = Lab(network.model, network.data, images=120)
    seen = []
    lab.glance.observe(lambda change: seen.append(change["new"]), "found")
    lab.ratios = {"*": 0.6}
    assert wait_for(lambda: lab.glance.found and lab.glance.found.total == 120)
    assert [found.total for found in seen if found][-3:] == [50, 100, 120]
    lab.head.undo.click()
    lab.head.redo.click()
    assert lab.glance.found.total == 120


class Boxes(nn.Module):
    """A network whose outputs are no logits, as a detector's are not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return {"boxes": self.head(self.stem(x))}


def test_a_network_that_does_not_classify_has_a_lab_without_accuracy(few_digits, capfd):
    lab = Lab(Boxes(), few_digits, images=20)
    said = "the model returns a dict; it must return logits (n, classes) alone"
    assert wait_for(lambda: lab.glance.trouble) == said
    lab.ratios = {"*": 0.5}
    assert said in lab.head.accuracy.value
    lab.head.pin.click()
    assert lab.tray.frame()["total"].tolist() == [0]
    assert "Traceback" not in capfd.readouterr().err


def test_until_then_the_curves_guess(network):
    lab = Lab(network.model, network.data, images=0)
    measure(lab)
    lab.ratios = {"*": 0.3}
    assert "guess" in lab.head.accuracy.value
    assert 0.1 < lab.state.predict() < 0.9
    lab.ratios = {}
    assert lab.state.predict() == pytest.approx(lab.state.measured["accuracy"].iloc[0])


def test_pinned_plans_outlive_the_lab(lab, few_digits):
    lab.head.pin.click()
    lab.ratios = {"stage2": 0.4}
    lab.actions.epochs.value = 1
    lab.actions.retrain.job.start()
    lab.actions.retrain.job.join(60)
    assert [pin.name for pin in lab.tray.pins] == ["plan 1", "plan 2"]
    assert list(lab.tray.frame()["retrained"]) == [False, True]
    again = Lab(lab.state.network.model, few_digits, images=0)
    turn(again, "Plans")
    first, second = again.tray.pins
    again.tray.load(first)
    assert again.ratios == {"stage1": 0.3, "stage3": 0.5}
    again.tray.load(second)
    assert again.ratios == {"stage2": 0.4}
    assert again.state.trained is not None  # it was loaded
    view = again.tabs["Plans"]
    view.export.click()
    folder = again.state.network.folder
    assert list(pd.read_csv(folder / "plans.csv")["name"]) == ["plan 1", "plan 2"]
    assert (folder / "plans.png").read_bytes().startswith(b"\x89PNG")
    name = view.rows.children[0].children[0]
    name.value = "plan 2"  # taken
    assert name.value == "plan 1"
    name.value = "light"
    again.tray.drop(again.tray.pins[1])
    assert [pin.name for pin in again.tray.pins] == ["light"]
    lab.head.pin.click()  # the first lab has read the file long ago
    assert [pin.name for pin in lab.tray.pins] == ["light", "plan 1"]


def test_a_plan_that_is_loaded_brings_what_was_said_of_it_and_no_more(lab):
    """The same plan is pinned before and after its retraining."""
    actions = lab.actions
    lab.head.pin.click()
    actions.epochs.value = 1
    actions.retrain.job.start()
    actions.retrain.job.join(60)
    actions.evaluate.job.start()
    actions.evaluate.job.join(60)
    said, trained = actions.retrain.job.message, lab.state.trained
    before, after = lab.tray.pins
    lab.tray.load(before)
    assert (lab.state.trained, actions.retrain.job.message) == (None, "")
    assert (actions.evaluation.value, actions.curve.children) == ("", ())
    lab.tray.load(after)
    assert actions.retrain.job.message == said
    weights = trained.state_dict()
    assert all(torch.equal(weights[k], v) for k, v in lab.state.trained.state_dict().items())
    lab.tray.load(before)
    find_checkpoint(lab.state.network, lab.plan, after.retrained).unlink()
    turn(lab, "Plans")
    view, ratios = lab.tabs["Plans"], lab.ratios
    lab.ratios = {}
    view.rows.children[1].children[1].click()
    assert "which is gone: take its ratios by hand" in view.text.value
    assert (lab.ratios, ratios) == ({}, {"stage1": 0.3, "stage3": 0.5})


@pytest.mark.parametrize("content", ["[{}]", "[1, 2", '{"name": "a"}', b"\xff\xfe\x00"])
def test_a_spoilt_list_of_plans_is_said_and_kept(few_digits, content):
    network = open_network(load_model("resnet20"), few_digits)
    path = network.folder / "plans.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    lab = Lab(network.model, few_digits, images=0)
    turn(lab, "Plans")
    assert lab.tray.pins == ()
    assert "holds no list of plans" in lab.tabs["Plans"].text.value
    before = path.read_bytes()
    lab.head.pin.click()
    assert (path.parent / "plans.spoilt.json").read_bytes() == before
    assert lab.tray.trouble == ""
    assert [pin.name for pin in Lab(network.model, few_digits, images=0).tray.pins] == ["plan 1"]


def test_pins_whose_numbers_were_changed_are_not_taken(few_digits):
    lab = Lab(load_model("resnet20"), few_digits, ratios={"stage1": 0.5}, images=0)
    lab.head.pin.click()
    path = lab.tray.path
    old = json.dumps(json.loads(path.read_text())["pins"])
    path.write_text(path.read_text().replace('"stage1": 0.5', '"stage1": 0.6'))
    assert "or was changed" in Lab(lab.state.network.model, few_digits, images=0).tray.trouble
    path.write_text(old)  # of a version without checksums
    (pin,) = Lab(lab.state.network.model, few_digits, images=0).tray.pins
    assert pin.wish.ratios == {"stage1": 0.5}


def test_long_work_says_how_far_it_is():
    job = Job(lambda report: "", threading.Lock())
    bar = JobBar(job, "Go", unit="images")
    job.running, job.started = True, time.monotonic() - 10
    job.at = 25, 100
    assert "25 of 100 images, 30 s left" in bar.text.value
    assert bar.stop.layout.display == ""
    job.running = False
    assert bar.stop.layout.display == "none"
    assert [say_seconds(s) for s in (40, 300, 9000)] == ["40 s", "5 min", "2.5 h"]


# --- what is kept ---


def test_a_network_that_was_given_is_not_taken_for_one_of_its_name():
    """Its weights are in no file: a recipe or code that names it would begin with others."""
    state = State(open_network(load_model("resnet56"), "digits"), ratios={"*": 0.1})
    assert "resnet56-pruned-a" in state.presets()
    with pytest.raises(ValueError, match="names its network and data"):
        recipe_text(state, TrainSettings(epochs=1))
    assert "model = ...  # your model" in code_text(state)


def test_names_with_dots_are_kept(lab, network, tmp_path):
    settings = TrainSettings(epochs=1)
    state = State(network, ratios={"*": 0.1})
    assert save_recipe(state, tmp_path / "mine.v2", settings) == tmp_path / "mine.v2.yaml"
    assert save_recipe(state, tmp_path / "mine.yaml", settings) == tmp_path / "mine.yaml"
    lab.actions.saving.name.value = str(tmp_path / "small.v2")
    lab.actions.saving.save_model.click()
    assert (tmp_path / "small.v2.safetensors").exists()


def test_the_recipe_replays_to_the_same_network(network, tmp_path, few_digits):
    state = State(network, ratios={"stage1": 0.5, "conv_4": 0}, order="largest")
    settings = TrainSettings(epochs=1, lr=0.01, milestones=(), batch_size=64)
    path = save_recipe(state, tmp_path / "mine", settings)
    recipe = load_recipe(path)
    assert (recipe.name, recipe.model.name, recipe.prune.order) == ("mine", "resnet20", "largest")
    rows = replay(path, data=few_digits, device="cpu", out=tmp_path / "out").set_index("kind")
    small = load_pruned(tmp_path / "out" / "mine-0" / "pruned.safetensors")
    assert small.pruning_plan.keep == state.plan.keep
    assert rows.loc["baseline", "test_accuracy"] > 0.9


@pytest.fixture
def picked():
    """A choice with filters picked by hand, and data loaded in another way than its own."""
    state = State(open_network(None, "digits", normalization="cifar10", device="cpu"))
    state.choose(ratios={"stage1": 0.3})
    first = state.plan.keep["layer1.0.conv1"][0]
    state.toggle("layer1.0.conv1", first)
    state.toggle("layer2.0.conv1", 3)  # of a stage that else loses none
    state.toggle("layer1.1.conv1", state.plan.removed["layer1.1.conv1"][0])
    assert state.wish.keep
    assert state.wish.drop
    return state


def test_what_was_picked_by_hand_and_how_data_was_loaded_go_into_recipe_and_code(picked, tmp_path):
    path = save_recipe(picked, tmp_path / "mine", TrainSettings(epochs=1))
    recipe = load_recipe(path)
    assert recipe.data.normalization == "cifar10"
    how = {"keep": recipe.prune.keep, "drop": recipe.prune.drop}
    assert make_plan(picked.graph, recipe.prune.all_ratios, **how).keep == picked.plan.keep
    names: dict = {}
    exec(code_text(picked), names)
    assert names["plan"].keep == picked.plan.keep
    assert names["data"].val.normalization == picked.network.data.val.normalization
    picked.choose(ratios={})  # by hand alone
    assert "drop" in recipe_text(picked, TrainSettings(epochs=1))


def test_what_a_recipe_cannot_say(network, few_digits):
    settings = TrainSettings(epochs=1)
    with pytest.raises(ValueError, match="nothing is removed yet"):
        recipe_text(State(network), settings)
    own = State(open_network(load_model("resnet20"), few_digits), ratios={"*": 0.1})
    with pytest.raises(ValueError, match="names its network and data"):
        recipe_text(own, settings)


def test_the_code_does_the_same(network, tmp_path, few_digits):
    state = State(network, ratios={"stage1": 0.5, "conv_4": 0}, criterion="fpgm", align=4)
    names: dict = {}
    exec(code_text(state), names)
    assert names["plan"].keep == state.plan.keep
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 30), nn.Flatten())
    own = State(open_network(model, few_digits))
    assert "model = ...  # your model" in code_text(own)


def test_a_saved_model_opens_in_the_lab_again(lab, tmp_path, few_digits):
    lab.actions.saving.name.value = str(tmp_path / "small")
    lab.actions.saving.save_model.click()
    assert "Saved, pruned, not retrained" in lab.actions.saving.saved.value
    again = open_network("resnet20", few_digits, tmp_path / "small.safetensors")
    assert again.model.pruning_plan.keep == lab.plan.keep
    state = State(again, ratios={"stage2": 0.5})
    assert 'load_model("resnet20", num_classes=len(data.classes), weights=' in code_text(state)
    by_name = open_network("resnet20", "digits", tmp_path / "small.safetensors")
    with pytest.raises(ValueError, match="pruned before"):
        recipe_text(State(by_name, ratios={"stage2": 0.5}), TrainSettings())


def test_saving_says_what_is_wrong(lab, tmp_path):
    lab.actions.saving.name.value = " "
    lab.actions.saving.save_model.click()
    assert "give it a name first" in lab.actions.saving.saved.value
    lab.actions.saving.name.value = "mine"
    lab.actions.saving.save_recipe.click()
    assert "names its network and data" in lab.actions.saving.saved.value
    lab.actions.saving.name.value = str(tmp_path / "none" / "mine")
    lab.actions.saving.save_model.click()
    assert f"there is no folder {tmp_path / 'none'}" in lab.actions.saving.saved.value
    lab.actions.saving.name.value = str(tmp_path / "whole")
    lab.ratios = {}
    lab.actions.saving.save_model.click()
    assert "Saved, whole: nothing was removed" in lab.actions.saving.saved.value
