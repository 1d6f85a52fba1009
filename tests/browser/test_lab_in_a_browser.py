"""The lab as a person has it: in JupyterLab, in Chromium, with nothing else within reach."""

import os
import re
from pathlib import Path

import pytest
from jupyter_page import run_all
from playwright.sync_api import Page, expect

from prunelab import load_recipe, replay

REMOVED = "#D55E00"


def open_lab(jupyter: tuple[str, str], page: Page) -> None:
    # cells out of sight may not be in the page
    page.set_viewport_size({"width": 1280, "height": 6500})
    run_all(page, jupyter, "lab.ipynb")
    expect(tab(page, "Norms")).to_be_visible()


def tab(page: Page, name: str):
    return page.locator(".widget-tab > .lm-TabBar .lm-TabBar-tab").filter(has_text=name)


def totals(page: Page):
    return page.locator(".widget-html").filter(has_text="of multiply-adds removed")


def slider(page: Page, label: str):
    return row(page, label).locator(".noUi-handle")


def row(page: Page, label: str):
    named = page.locator(f'.widget-label:text-is("{label}")')
    return page.locator(".widget-hslider").filter(has=named)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).locator("visible=true").click()


def shoot(page: Page, name: str) -> None:
    if folder := os.environ.get("PRUNELAB_SCREENSHOTS"):
        lab = page.locator(".jp-OutputArea-child").filter(has=page.locator(".widget-tab")).first
        page.screenshot(path=f"{folder}/lab-{name}.png", clip=lab.bounding_box())


def check_quiet(page: Page) -> None:
    assert not page.blocked
    assert not [e for e in page.errors if "favicon" not in e], page.errors


def test_looking_and_choosing(jupyter, page):
    open_lab(jupyter, page)
    expect(totals(page)).to_contain_text("28.02 M of 40.55 M")
    removed = page.locator(f'.widget-tab svg.marks path[fill="{REMOVED}"]')
    expect(removed).to_have_count(5 + 1)  # of 16 filters, and the legend's
    shoot(page, "norms")
    slider(page, "stage1").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    expect(totals(page)).to_contain_text("26.25 M")  # 40 % of stage 1: 7 of 16 filters
    expect(removed).to_have_count(7 + 1)
    readout = row(page, "stage2").locator(".widget-readout")
    readout.fill("50")  # numbers can be typed
    readout.press("Enter")
    expect(totals(page)).to_contain_text("23.81 M")

    openers = page.locator(".jupyter-button").filter(has=page.locator(".fa-caret-right"))
    openers.first.click()  # stage 1 opens
    skip = page.locator(".widget-toggle-button").filter(has_text="skip").locator("visible=true")
    expect(skip).to_have_count(4)
    expect(skip.first).to_be_disabled()  # conv_1, whose maps are added to others
    picker = page.locator(".widget-dropdown").filter(has_text="layer").locator("select")
    expect(picker).to_have_value("conv_2 · layer1.0.conv1")
    shoot(page, "layers")
    skip.nth(1).click()
    expect(totals(page)).to_contain_text("25.88 M")
    skip.nth(1).click()
    expect(totals(page)).to_contain_text("23.81 M")

    tab(page, "Cost").click()
    expect(page.locator(".widget-tab svg.marks").filter(has_text="bytes of maps")).to_be_visible()
    shoot(page, "cost")
    tab(page, "Coupling").click()
    expect(page.locator(".widget-tab")).to_contain_text("goes alone; its filters can go")
    shoot(page, "coupling")

    tab(page, "Sensitivity").click()
    press(page, "Measure")
    tabs = page.locator(".widget-tab")
    expect(tabs).to_contain_text("3 curves on 143 validation images", timeout=120_000)
    shoot(page, "sensitivity")
    curves = page.locator(".widget-tab svg.marks").filter(has_text="accuracy without retraining")
    points = curves.locator(".mark-symbol.role-mark path")
    before = totals(page).text_content()
    points.nth(6).click(force=True)  # stage 1 at 60 %
    expect(totals(page)).not_to_have_text(before)
    expect(slider(page, "stage1")).to_have_attribute("aria-valuenow", "60.0")

    tab(page, "Time").click()
    press(page, "Measure")
    expect(tabs).to_contain_text(re.compile(r"of the time at [\d.]+% of"), timeout=120_000)
    shoot(page, "time")
    check_quiet(page)


def test_doing_and_keeping(jupyter, page, tmp_path: Path):
    open_lab(jupyter, page)
    press(page, "Evaluate")
    evaluation = page.locator(".widget-html").filter(has_text="pruned, not retrained").first
    expect(evaluation).to_be_visible(timeout=60_000)
    page.get_by_text("beside it: filters only set to zero").click()
    press(page, "Seal")
    verdict = page.get_by_text(re.compile(r"Removed equals silenced: max"))
    expect(verdict).to_be_visible(timeout=60_000)
    epochs = page.get_by_label("epochs")
    epochs.fill("50")
    epochs.press("Enter")
    press(page, "Retrain")
    stop = page.locator(".widget-button:not([disabled])").filter(has_text="Stop")
    expect(page.get_by_text("Learning curves")).to_be_visible(timeout=120_000)  # after an epoch
    stop.click()
    stopped = page.get_by_text(re.compile(r"Stopped after \d+ of 50 epochs"))
    expect(stopped).to_be_visible(timeout=60_000)
    shoot(page, "retrained")

    name = page.get_by_label("as", exact=True)
    name.fill(str(tmp_path / "mine"))
    name.press("Enter")
    press(page, "Save recipe")
    expect(page.get_by_text("Saved. To run it: prunelab replay")).to_be_visible()
    recipe = load_recipe(tmp_path / "mine.yaml", ["retrain.epochs=1"])
    assert recipe.prune.ratios == {"stage1": 0.3, "stage2": 0.3, "stage3": 0.3}
    rows = replay(recipe, device="cpu", out=tmp_path / "runs")
    assert list(rows["kind"]) == ["baseline", "pruned", "retrained"]
    press(page, "Copy as code")
    expect(page.locator("textarea").filter(visible=True)).to_have_value(re.compile("make_plan"))
    check_quiet(page)


def test_a_page_that_was_closed_finds_the_lab_as_it_was(jupyter, page):
    open_lab(jupyter, page)
    slider(page, "stage3").focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    expect(slider(page, "stage3")).to_have_attribute("aria-valuenow", "50.0")
    expect(totals(page)).to_contain_text("36.9% of multiply-adds")
    text = totals(page).text_content()
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    page.reload()
    expect(tab(page, "Norms")).to_be_visible(timeout=60_000)
    expect(totals(page)).to_have_text(text)
    expect(slider(page, "stage3")).to_have_attribute("aria-valuenow", "50.0")
    slider(page, "stage3").focus()
    page.keyboard.press("ArrowRight")
    expect(totals(page)).not_to_have_text(text)


@pytest.mark.parametrize("theme", ["JupyterLab Dark"])
def test_it_can_be_read_in_the_dark(jupyter, page, theme):
    open_lab(jupyter, page)
    page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    expect(page.locator("body")).to_have_attribute("data-jp-theme-name", theme)
    colour = totals(page).evaluate("e => getComputedStyle(e.querySelector('b') || e).color")
    assert min(map(int, re.findall(r"\d+", colour)[:3])) > 150  # light on dark
    expect(page.locator(".widget-tab svg.marks").first).to_be_visible()
    shoot(page, "dark")
