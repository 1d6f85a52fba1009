import os
import re

from jupyter_page import run_all
from playwright.sync_api import expect


def test_a_slider_moved_by_keyboard_changes_totals_and_chart(jupyter, page):
    run_all(page, jupyter, "lab.ipynb")
    totals = page.locator(".widget-html").filter(has_text="multiply-adds")
    expect(totals).to_contain_text(re.compile(r"28\.02 M of 40\.55 M multiply-adds, 30\.9% removed"))
    chart = page.locator(".vega-embed svg.marks").first
    removed = page.locator('.vega-embed svg.marks path[fill="#D55E00"]')
    expect(chart).to_be_visible()
    before = removed.count()
    assert before > 0
    handle = page.locator(".widget-hslider .noUi-handle").first
    handle.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    expect(handle).to_have_attribute("aria-valuenow", re.compile("^0.5"))
    expect(totals).to_contain_text(re.compile(r"25\.\d+ M of 40\.55 M multiply-adds"))
    expect(removed).not_to_have_count(before)
    if folder := os.environ.get("PRUNELAB_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/lab.png")
    assert not page.blocked
    assert not [e for e in page.errors if "favicon" not in e], page.errors
