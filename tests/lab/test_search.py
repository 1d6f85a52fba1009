"""The Search tab: a front found in a thread, clicked, stopped and taken down."""

import threading

import pytest

from prunelab import best_within, load_model, make_plan, measure_sensitivity
from prunelab.lab.state import State, open_network
from prunelab.lab.tabs.search import Search

WHICH = {"criterion": "l1", "order": "smallest"}


@pytest.fixture(scope="module")
def curves(few_digits):
    network = open_network(None, few_digits)
    how = {"layers": network.graph.stages, "ratios": (0.2, 0.5), "images": 20}
    return measure_sensitivity(network.model, network.data, **how)


@pytest.fixture
def view(few_digits, curves):
    state = State(open_network(None, few_digits))
    state.add_curves(curves, **WHICH)
    view = Search(state, threading.Lock())
    view.images.value, view.points.value = 20, 6
    view.flops.value, view.loss.value = 95, 50
    view.look(True)
    return view


def run(view):
    assert view.job.start()
    view.job.join(100)
    assert not view.job.running
    return view.job.message


def click(view, point):
    value = {"vlPoint": {"or": [{"point": point}]}}
    view.chart._vl_selections = {"picked": {"value": value, "store": []}}


def test_without_curves_it_says_where_to_measure_them(few_digits):
    view = Search(State(open_network(None, few_digits)), threading.Lock())
    view.look(True)
    assert "Sensitivity tab" in view.text.value
    assert "measure the sensitivity first" in run(view)
    assert view.chart is None


def test_found_clicked_and_taken(view):
    state = view.state
    state.toggle("layer1.0.conv1", 3)  # by hand, which no network of the search had
    message = run(view)
    assert message.startswith("6 networks, ")
    assert view.chart in view.children
    assert len(view.found) == 6
    best = best_within(view.found, max_flops=0.95, max_loss=0.5)
    other = 2 if best["point"] == 1 else 1
    click(view, other)
    ratios = view.found["ratios"].iloc[other]
    assert state.ratios == ratios
    assert state.plan.keep == make_plan(state.graph, ratios).keep
    assert f"{best['flops_left']:.1%}</b> of the multiply-adds left" in view.text.value
    view.take.click()
    assert state.ratios == best["ratios"]
    state.undo()
    assert state.ratios == ratios


def test_another_goal_asks_the_same_front(view):
    run(view)
    assert view.take.layout.display == ""
    view.flops.value = 1
    assert "none of 6 networks meets the goal" in view.text.value.replace("None", "none")
    assert view.take.layout.display == "none"
    view.flops.value, view.loss.value = 100, 100
    assert "A goal is missing" in view.text.value
    view.ms.value = 8
    assert "No times were measured" in view.text.value


def test_stopped_what_was_found_stays_and_it_goes_on(view):
    view.job.observe(lambda change: change["new"][0] >= 50 and view.job.stop(), "at")
    assert "what was found stays" in run(view)
    found = len(view.found)
    assert 1 <= found < 6
    assert view.chart is not None
    view.job.unobserve_all("at")
    assert run(view).startswith("6 networks")
    assert len(view.found) == 6


def test_of_other_filters_or_another_network_it_is_taken_down(view, few_digits):
    run(view)
    view.state.choose(ratios={"stage1": 0.2})
    assert view.chart is not None  # other ratios are just another point
    view.state.choose(order="largest")
    assert (view.chart, view.found) == (None, None)
    view.state.choose(order="smallest")
    run(view)
    view.state.show(open_network(load_model("resnet20"), few_digits))
    assert (view.chart, view.found) == (None, None)


def test_a_time_is_a_goal(view):
    view.ms.value, view.points.value = 10_000, 3
    run(view)
    assert "ms instead of" in view.text.value


def test_a_slider_that_moves_leaves_the_front_as_it_is(view, monkeypatch):
    view.job.start()
    view.job.join(120)
    drawn = []
    monkeypatch.setattr(view, "_draw_anew", lambda *what: drawn.append(what))
    view.state.choose(ratios={"stage1": 0.2})
    assert not drawn
    view.loss.value = 5
    assert len(drawn) == 1


def test_it_is_the_last_tab():
    from prunelab.lab.tabs import TABS

    assert TABS[-1] is Search
