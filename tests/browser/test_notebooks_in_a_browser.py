"""The notebooks' charts as a person sees them: in JupyterLab, in Chromium."""

import os

import pytest
from jupyter_page import find_errors, run_all
from playwright.sync_api import expect


def test_a_sweep_is_looked_at(jupyter, page):
    run_all(page, jupyter, "sweep.ipynb")
    view = page.locator(".prunelab-sweep")
    expect(view).to_contain_text("8 points, 8 done")
    marks = view.locator("svg.marks path[aria-label*='point:']")
    expect(marks).to_have_count(4)
    view.get_by_label("ratio", exact=True).select_option("0.4")
    expect(marks).to_have_count(2)  # and the baseline
    view.get_by_text("All points").click()
    expect(view.get_by_role("cell", name="digits-quick,ratio=0.4").first).to_be_visible()
    if folder := os.environ.get("PRUNELAB_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/sweep.png")
    assert not page.blocked
    assert not find_errors(page)


@pytest.mark.parametrize(("name", "charts"), [("04_across_layers", 2), ("report", 1)])
def test_its_charts_are_drawn_without_a_network(jupyter, page, name, charts):
    # cells out of sight may not be in the page
    page.set_viewport_size({"width": 1280, "height": 6000})
    drawn = page.locator(".jp-RenderedVegaCommon5 .vega-embed")
    run_all(page, jupyter, f"{name}.ipynb")
    try:
        expect(drawn).to_have_count(charts)
    except AssertionError:  # on a busy machine, Run All can be dropped half way: once more
        run_all(page, jupyter, f"{name}.ipynb")
        expect(drawn).to_have_count(charts)
    assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
    if folder := os.environ.get("PRUNELAB_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png")
    assert not page.blocked
    assert not find_errors(page)
