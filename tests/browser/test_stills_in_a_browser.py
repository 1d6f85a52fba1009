"""A notebook's "Try it": the lab in the state of the text; without a kernel, a still of it."""

import json
import re
import urllib.request

import nbformat
from jupyter_page import find_errors, run_all, store
from nbconvert import HTMLExporter
from playwright.sync_api import Page, expect

from prunelab.lab import Lab
from prunelab.lab.page import still

CELL = """
from prunelab.lab import Lab
first = Lab(images=0)
measured = first.state.network
from prunelab import measure_sensitivity
measured = measure_sensitivity(measured.model, measured.data, layers=["stage1"], images=40)
lab = Lab(tab="Sensitivity", layer="conv_6", measured=measured, images=0)
lab
"""
STILL = ".jp-RenderedImage img, .output_png img"


def see_still(page: Page) -> None:
    """The picture is there, drawn, and what it shows is said."""
    picture = page.locator(STILL)
    expect(picture).to_be_visible()
    assert picture.evaluate("img => img.naturalWidth") > 800
    expect(page.get_by_text("A still: The lab on its tab Sensitivity")).to_be_visible()


def test_the_still_goes_while_the_lab_lives(jupyter, page):
    page.set_viewport_size({"width": 1280, "height": 1600})
    store(jupyter, "try_it.ipynb", CELL)
    run_all(page, jupyter, "try_it.ipynb")
    handles = page.locator('.widget-tab svg g.mark-symbol path[stroke="white"]')
    expect(handles.first).to_be_visible(timeout=120_000)  # nothing was pressed
    front = page.locator(".widget-tab > .lm-TabBar .lm-mod-current")
    expect(front).to_have_text("Sensitivity")
    page.locator(".widget-tab > .lm-TabBar .lm-TabBar-tab").filter(has_text="Network").click()
    layer = page.locator(".widget-tab").get_by_label("layer", exact=True).locator("visible=true")
    expect(layer).to_have_value("conv_6 · layer1.2.conv1")
    assert page.locator(STILL).count() == 1
    expect(page.locator(STILL)).to_be_hidden()
    expect(page.get_by_text("A still: ")).to_be_hidden()
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    assert not page.blocked
    assert not find_errors(page)
    page.evaluate("() => { jupyterapp.commands.execute('kernelmenu:restart') }")
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    see_still(page)
    expect(page.locator(".prunelab-lab")).to_be_hidden()
    page.reload()
    see_still(page)
    expect(page.get_by_text("Error displaying widget")).to_be_hidden()

    address, token = jupyter
    with urllib.request.urlopen(
        f"{address}/api/contents/notebooks/try_it.ipynb?token={token}", timeout=10
    ) as reply:
        stored = nbformat.from_dict(json.load(reply)["content"])
    page.set_content(HTMLExporter().from_notebook_node(stored)[0])
    see_still(page)


def test_a_stored_page_shows_the_still(page, monkeypatch, few_digits):
    outputs = []

    def display(data, metadata=None, raw=False):
        outputs.append(nbformat.v4.new_output("display_data", data, metadata=metadata or {}))

    monkeypatch.setattr(still, "display", display)
    Lab(None, few_digits, images=0, tab="Sensitivity")._ipython_display_()
    cell = nbformat.v4.new_code_cell("lab", outputs=outputs[:-1])  # notebooks keep no widget
    notebook = nbformat.v4.new_notebook(cells=[cell])
    for template in ("lab", "classic"):
        for sanitized in (False, True):  # as a code host does
            exporter = HTMLExporter(template_name=template, sanitize_html=sanitized)
            page.set_content(exporter.from_notebook_node(notebook)[0])
            see_still(page)
    # the other template, and JupyterLab, drop it: the sentence says it there
    expect(page.locator(STILL)).to_have_attribute("alt", re.compile("^The lab on its tab Sens"))
