"""Names of layers, classes, data and plans stay text: in the lab, its charts and their tooltips."""

import os
from pathlib import Path

import torch
from jupyter_page import find_errors, run_all, store
from odd_names import CLASSES, LAYERS, MARK, make_network
from playwright.sync_api import Locator, Page, expect

from prunelab import charts, measure_cost, trace

STILL = """
from prunelab import charts, trace
from prunelab.pruning import measure_cost, rank_filters
import torch
from IPython.display import display
charts.enable()
model, data = make_network(), make_data()
graph = trace(model, torch.zeros(data.image_shape))
display(graph)
display(charts.layer_cost(measure_cost(graph)))
display(charts.norm_lines(rank_filters(graph), graph.layers[0]))
"""
LAB = """
from prunelab.lab import Lab
from prunelab.utils.paths import runs_dir
runs_dir().mkdir(parents=True, exist_ok=True)
(runs_dir() / '"><img src=x onerror="window.__marked=1">.pt').touch()
Lab(model, data, ratios={"*": 0.3}, images=20)
"""


def check_unmarked(page: Page) -> None:
    assert page.evaluate("window.__marked") is None
    assert page.locator('img[src="x"]').count() == 0


# the middles of what is drawn for a name; a canvas has no parts, so all over it
MIDDLES = """(chart, says) => {
    const middle = (box, x, y) => [box.x + box.width * x, box.y + box.height * y];
    if (chart.tagName == "CANVAS")
        return [...Array(300).keys()].map(i => middle(
            chart.getBoundingClientRect(), (i % 30) / 30, 0.3 + Math.floor(i / 30) / 15));
    return [...chart.querySelectorAll("path[aria-label]")]
        .filter(path => path.getAttribute("aria-label").includes(says))
        .map(path => middle(path.getBoundingClientRect(), 0.5, 0.5));
}"""


def hover(page: Page, chart: Locator, says: str) -> None:
    """Move over a chart's marks until its tooltip has a text."""
    tip = page.locator("#vg-tooltip-element.visible")
    expect(chart).to_be_visible()
    chart.scroll_into_view_if_needed()
    for middle in reversed(chart.evaluate(MIDDLES, says)):  # what is drawn last is on top
        page.mouse.move(*middle)
        if tip.count() and says in tip.inner_text():
            return check_unmarked(page)
    raise AssertionError(f"no tooltip says {says!r}")


def shoot(page: Page, name: str) -> None:
    if folder := os.environ.get("PRUNELAB_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/esc_{name}.png")


def open_tab(page: Page, name: str) -> None:
    page.locator(".widget-tab > .lm-TabBar .lm-TabBar-tab").filter(has_text=name).click()


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).locator("visible=true").click()


def test_names_stay_text_in_the_lab(jupyter, page):
    source = (Path(__file__).parent / "odd_names.py").read_text()
    store(jupyter, "odd.ipynb", source + STILL, LAB)
    page.set_viewport_size({"width": 1280, "height": 3000})
    run_all(page, jupyter, "odd.ipynb", shows=".prunelab-head")
    still = page.locator(".jp-RenderedVegaCommon5 canvas")
    expect(still).to_have_count(2)
    for name in LAYERS:
        expect(page.locator(".jp-RenderedHTML table").first).to_contain_text(name)
    hover(page, still.first, LAYERS[0])
    tabs, own = page.locator(".widget-tab"), ".widget-tab svg.marks path"
    expect(page.locator(".jupyter-widget-Collapse-header")).to_contain_text(f"on {MARK}")

    layer = tabs.get_by_label("layer", exact=True).locator("visible=true")
    for i, name in enumerate(LAYERS):
        layer.select_option(f"conv_{i + 1} · {name}")
        expect(layer).to_have_value(f"conv_{i + 1} · {name}")
        expect(tabs.get_by_text(f"conv_{i + 1}: 3 of 8 go")).to_be_visible()
        expect(page.locator(f"{own}[aria-label*='fate: ']")).to_have_count(8)
    shoot(page, "norms")

    check_unmarked(page)

    open_tab(page, "Filters")
    for i, name in enumerate(LAYERS[:2]):
        layer.select_option(f"conv_{i + 1} · {name}")
        expect(tabs.get_by_text(f"({name}): 5 of 8 stay")).to_be_visible()
        expect(page.locator(".widget-tab svg.marks image")).to_have_count(8)
    tabs.locator("select").filter(has_text="maps on image").select_option("maps on image")
    expect(tabs.locator("b").filter(has_text=CLASSES[0])).to_be_visible()
    shoot(page, "filters")
    check_unmarked(page)

    open_tab(page, "Sensitivity")
    tabs.locator("select").filter(has_text="every layer").select_option("every layer")
    press(page, "Measure")
    expect(tabs).to_contain_text("5 curves on 48 validation images", timeout=60_000)
    shown = tabs.locator("svg.marks").locator("visible=true").first
    hover(page, shown, LAYERS[2])
    tabs.get_by_text("Table", exact=True).click()
    for name in LAYERS[:3]:
        expect(tabs.get_by_role("table").locator("visible=true")).to_contain_text(name)
    tabs.get_by_label("show", exact=True).select_option("all layers, as a map")
    expect(tabs.get_by_text("Sensitivity, layer by layer")).to_be_visible()
    hover(page, shown, LAYERS[2])
    shoot(page, "sensitivity")

    open_tab(page, "Cost")
    hover(page, shown, LAYERS[2])
    tabs.get_by_text("Table: a row for each").click()
    for name in LAYERS:
        expect(tabs.get_by_role("table").locator("visible=true")).to_contain_text(name)
    shoot(page, "cost")

    open_tab(page, "Network")
    for name in LAYERS:
        hover(page, shown, name)
    expect(tabs).to_contain_text(f"({LAYERS[1]}) goes alone")
    tabs.get_by_text("Table: what loses something").click()
    shoot(page, "network")

    open_tab(page, "What breaks")
    press(page, "Look")
    expect(tabs.get_by_text("Which classes lose")).to_be_visible(timeout=60_000)
    hover(page, shown, CLASSES[1])
    named = tabs.get_by_label("show", exact=True).locator("visible=true")
    named.select_option("whole")  # the pruned one answers alike
    expect(tabs.get_by_text("What is taken for what: whole")).to_be_visible()
    hover(page, tabs.locator("svg.marks").locator("visible=true").nth(1), CLASSES[2])
    tabs.get_by_text("Table of all classes").click()
    for name in CLASSES:
        expect(tabs.get_by_role("table").locator("visible=true")).to_contain_text(name)
    shoot(page, "breaks")

    open_tab(page, "Plans")
    press(page, "Pin this plan")
    field = tabs.get_by_title("its name").locator("visible=true")
    field.fill(MARK)
    field.press("Enter")
    expect(shown).to_contain_text(MARK)  # drawn anew
    hover(page, shown, MARK)
    shoot(page, "plans")

    ratio = page.locator(".prunelab-knobs").get_by_title("filters removed, in per cent").first
    ratio.fill(MARK)
    ratio.press("Enter")
    expect(page.locator(".prunelab-knobs")).to_contain_text(f"not '{MARK}'")
    page.get_by_label("as", exact=True).fill(f"{MARK}/mine")
    page.get_by_label("as", exact=True).press("Enter")
    press(page, "Save model")
    expect(page.locator(".prunelab-actions")).to_contain_text(MARK)
    shoot(page, "errors")
    check_unmarked(page)
    assert not find_errors(page)


def test_names_stay_text_in_a_page_of_a_chart(page):
    cost = measure_cost(trace(make_network(), torch.zeros(1, 3, 16, 16)))
    page.set_content(charts.layer_cost(cost).to_html(inline=True))
    drawn = page.locator(".vega-embed canvas, .vega-embed svg.marks")
    hover(page, drawn, LAYERS[0])
    check_unmarked(page)
