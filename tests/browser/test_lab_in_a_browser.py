"""The lab as a person has it: in JupyterLab, in Chromium, with nothing else within reach."""

import os
import re
from pathlib import Path

from colours import contrast
from jupyter_page import find_errors, run_all
from playwright.sync_api import ElementHandle, Locator, Page, expect

from prunelab import load_recipe, replay
from prunelab.charts.style import COLOURS
from prunelab.lab.tabs.sensitivity import MAP

REMOVED = COLOURS["removed"]
# [tag, words, their colour, the one behind them] of all words in view that are not switched off
INKS = """lab => {
    const parse = colour => colour.match(/[\\d.]+/g).map(Number);
    const opaque = colour => parse(colour)[3] !== 0;
    const hex = colour => "#" + parse(colour).slice(0, 3)
        .map(part => part.toString(16).padStart(2, "0")).join("");
    const words = node => [...node.childNodes]
        .filter(child => child.nodeType == Node.TEXT_NODE).map(child => child.data).join("").trim();
    return [...lab.querySelectorAll("*")].flatMap(node => {
        const style = getComputedStyle(node);
        const ink = node instanceof SVGElement ? style.fill : style.color;
        if (!words(node) || !node.checkVisibility() || ink == "none" || !opaque(ink)) return [];
        if (node.closest(":disabled, .jp-mod-disabled, style, title, desc")) return [];
        let behind = node;
        while (!opaque(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
        const ground = getComputedStyle(behind).backgroundColor;
        return [[node.tagName.toLowerCase(), words(node), hex(ink), hex(ground)]];
    });
}"""


def open_lab(jupyter: tuple[str, str], page: Page, width: int = 1280, height: int = 1000) -> None:
    page.set_viewport_size({"width": width, "height": height})
    run_all(page, jupyter, "lab.ipynb", shows=".prunelab-head")
    expect(tab(page, "Norms")).to_be_visible()


def tab(page: Page, name: str):
    return page.locator(".widget-tab > .lm-TabBar .lm-TabBar-tab").filter(has_text=name)


def head(page: Page):
    return page.locator(".prunelab-head")


def slider(page: Page, label: str):
    return row(page, label).locator(".noUi-handle")


def row(page: Page, label: str):
    named = page.locator(f'.widget-label:text-is("{label}")')
    return page.locator(".widget-hbox").filter(has=named).filter(has=page.locator("input")).last


def ratio(page: Page, label: str):
    return row(page, label).locator("input")


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).locator("visible=true").click()


def press_icon(page: Page, icon: str) -> None:
    head(page).locator(".jupyter-button").filter(has=page.locator(f".fa-{icon}")).click()


def left(page: Page) -> float:
    """The share of the multiply-adds that is left, as the page says it."""
    own = re.search(r"([\d.]+) M of ([\d.]+) M", head(page).inner_text())
    assert own is not None
    return float(own[1]) / float(own[2])


def shoot(page: Page, name: str) -> None:
    if folder := os.environ.get("PRUNELAB_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/lab-{name}.png")


def still(page: Page, mark: Locator) -> ElementHandle:
    """A mark of a chart that has been drawn for the last time: the same one a second later."""
    for _ in range(30):
        element = mark.element_handle()
        page.wait_for_timeout(1000)
        if element.evaluate("element => element.isConnected"):
            return element
    raise AssertionError("the chart is drawn again and again")


def check_quiet(page: Page) -> None:
    assert not page.blocked
    assert not find_errors(page)


def check_in_the_dark(page: Page, theme: str = "JupyterLab Dark") -> None:
    """All words stand out from what is behind them."""
    page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    expect(page.locator("body")).to_have_attribute("data-jp-theme-name", theme)
    found = page.locator(".prunelab-lab").evaluate(INKS)
    assert {"b", "label", "text"} <= {tag for tag, *_ in found}  # of words, knobs and charts
    assert not [seen for seen in found if contrast(*seen[2:]) < 4.5]  # WCAG 2.2, 1.4.3
    shoot(page, "dark")


def test_looking_and_choosing(jupyter, page):
    open_lab(jupyter, page)
    expect(head(page)).to_contain_text("28.02 M of 40.55 M")
    expect(head(page)).to_contain_text(re.compile(r"\d+ validation images"))
    assert page.locator('[title="null"]').count() == 0
    removed = page.locator(f'.widget-tab svg.marks path[fill="{REMOVED}"]')
    expect(removed).to_have_count(5 + 1)  # of 16 filters, and the legend's
    shoot(page, "norms")
    slider(page, "stage1").focus()
    for _ in range(20):  # of half a per cent
        page.keyboard.press("ArrowRight")
    expect(head(page)).to_contain_text("26.25 M")  # 40 % of stage 1: 7 of 16 filters
    expect(removed).to_have_count(7 + 1)
    ratio(page, "stage2").fill("50,0")  # numbers can be typed
    ratio(page, "stage2").press("Enter")
    expect(head(page)).to_contain_text("23.81 M")
    press_icon(page, "undo")
    expect(head(page)).to_contain_text("26.25 M")
    expect(ratio(page, "stage2")).to_have_value("30")
    press_icon(page, "repeat")
    expect(head(page)).to_contain_text("23.81 M")

    openers = page.locator(".prunelab-knobs .jupyter-button")
    openers.filter(has=page.locator(".fa-caret-right")).first.click()  # stage 1 opens
    expect(ratio(page, "conv_1")).to_be_disabled()  # its maps are added to others
    ratio(page, "conv_4").fill("0")
    ratio(page, "conv_4").press("Enter")
    expect(head(page)).to_contain_text("25.88 M")
    picker = page.locator(".widget-tab .widget-dropdown").filter(has_text="layer").locator("select")
    expect(picker.first).to_have_value("conv_4 · layer1.1.conv1")
    shoot(page, "layers")
    row(page, "conv_4").locator("xpath=..").locator(".jupyter-button").click()  # it follows again
    expect(head(page)).to_contain_text("23.81 M")

    tab(page, "Cost").click()
    expect(page.locator(".widget-tab svg.marks").filter(has_text="bytes of maps")).to_be_visible()
    shoot(page, "cost")
    tab(page, "Network").click()
    expect(page.locator(".widget-tab")).to_contain_text("goes alone; its filters can go")
    shoot(page, "network")
    tab(page, "Norms").click()  # a chart that was hidden fills its place again
    expect(page.locator(".widget-tab svg.marks").first).to_be_visible()

    tab(page, "Filters").click()
    tiles = page.locator(".widget-tab svg.marks image")
    expect(tiles).to_have_count(16)
    before = head(page).inner_text()
    tiles.first.click(force=True)  # the largest filter goes by hand, another one stays for it
    expect(page.get_by_role("button", name="Undo hand picks of this layer")).to_be_enabled()
    assert head(page).inner_text().split("%")[0] == before.split("%")[0]
    check_quiet(page)


def test_handles_and_budgets(jupyter, page):
    open_lab(jupyter, page)
    tab(page, "Sensitivity").click()
    press(page, "Measure")
    tabs = page.locator(".widget-tab")
    expect(tabs).to_contain_text("3 curves on 143 validation images", timeout=120_000)
    shoot(page, "sensitivity")
    handle = still(
        page, page.locator('.widget-tab svg g.mark-symbol path[stroke="white"]').nth(1)
    ).bounding_box()
    middle = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 120, middle[1] + 9, steps=6)
    page.mouse.up()
    moved = ["30"] * 3
    for _ in range(20):  # it goes to the kernel and comes back, until the hand's last place has
        before, moved = moved, [ratio(page, f"stage{i}").input_value() for i in (1, 2, 3)]
        if moved == before and set(moved) != {"30"}:
            break
        page.wait_for_timeout(1000)
    assert sum(value != "30" for value in moved) == 1
    for preset in ("uniform", "budget"):
        for limit in ("70", "61,3"):
            page.get_by_label("preset").select_option(preset)
            page.get_by_label("≤ %").fill(limit)
            page.get_by_label("≤ %").press("Enter")
            page.wait_for_timeout(1500)  # a page sends what it rounds after a while
            assert left(page) <= float(limit.replace(",", ".")) / 100
            expect(page.get_by_label("preset")).to_have_value(preset)
    page.get_by_label("preset").select_option("resnet20-pruned-b")
    expect(page.get_by_label("≤ %")).to_be_hidden()
    tab(page, "Time").click()
    press(page, "Measure")
    expect(tabs).to_contain_text(re.compile(r"of the time at [\d.]+% of"), timeout=120_000)
    shoot(page, "time")
    check_quiet(page)


def test_a_map_of_all_layers_shows_where_each_stands(jupyter, page):
    open_lab(jupyter, page)
    tab(page, "Sensitivity").click()
    tabs = page.locator(".widget-tab")
    row = page.locator(".widget-hbox").filter(has=page.get_by_role("button", name="Measure"))
    press(page, "Measure")
    expect(tabs).to_contain_text("3 curves on 143 validation images", timeout=240_000)
    row.locator("select").first.select_option("every layer")
    press(page, "Measure")
    page.wait_for_timeout(1000)
    expect(tabs).to_contain_text("9 curves on 143 validation images", timeout=240_000)
    shown = page.locator(".widget-dropdown").filter(has_text="show").locator("select")
    expect(shown).to_have_value(MAP)  # what was measured is shown
    for one in ("stages", MAP):
        shown.select_option(one)
        page.wait_for_timeout(2000)
    dots = page.locator('.widget-tab svg g.mark-symbol path[stroke="black"]')
    expect(dots).to_have_count(9)
    shoot(page, "map")
    check_quiet(page)


def test_doing_and_keeping(jupyter, page, tmp_path: Path):
    open_lab(jupyter, page, height=1800)
    press(page, "Evaluate")
    evaluation = page.locator(".widget-html").filter(has_text="pruned, not retrained").first
    expect(evaluation).to_be_visible(timeout=60_000)
    expect(page.get_by_text("143 validation images; test images")).to_be_visible()  # it has ended
    page.get_by_text("and filters only set to zero").click()
    press(page, "Seal")
    verdict = page.get_by_text(re.compile(r"Removed equals silenced: max"))
    expect(verdict).to_be_visible(timeout=60_000)
    epochs = page.get_by_label("epochs")
    epochs.fill("50")
    epochs.press("Enter")
    press(page, "Retrain")
    stop = page.locator(".widget-button:not([disabled])").filter(has_text="Stop")
    expect(page.get_by_text("Learning curves")).to_be_visible(timeout=120_000)  # after an epoch
    stop.locator("visible=true").click()
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
    press(page, "Code")
    press(page, "Copy")
    expect(page.get_by_text("Copied", exact=True)).to_be_visible()
    name.fill("")
    name.press("Control+v")
    assert "make_plan" in name.input_value()
    press_icon(page, "thumb-tack")
    tab(page, "Plans").click()
    expect(
        page.locator(".widget-tab svg.marks").filter(has_text="Plans side by side")
    ).to_be_visible()
    shoot(page, "plans")
    check_quiet(page)


def test_networks_opened_in_turn_and_a_page_that_was_closed(jupyter, page):
    open_lab(jupyter, page)
    page.get_by_text("open another").click()
    for name in ("resnet32", "vgg16", "resnet20"):
        page.get_by_label("network").select_option(name)
        press(page, "Open")
        expect(page.get_by_text(f"{name} on digits")).to_be_visible(timeout=60_000)
        for title in ("Network", "Norms"):
            tab(page, title).click()
            expect(
                page.locator(".widget-tab svg.marks").locator("visible=true").first
            ).to_be_visible()
    ratio(page, "stage3").fill("50")
    ratio(page, "stage3").press("Enter")
    expect(head(page)).to_contain_text("−16.0%")
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    page.reload()
    expect(tab(page, "Norms")).to_be_visible(timeout=60_000)
    expect(head(page)).to_contain_text("−16.0%")
    expect(ratio(page, "stage3")).to_have_value("50")
    check_quiet(page)
    page.evaluate("() => { jupyterapp.commands.execute('kernelmenu:restart') }")
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    gone = page.get_by_text("run all cells, and it is here")
    expect(gone).to_be_visible(timeout=60_000)
    expect(page.locator(".prunelab-lab")).to_be_hidden()
    page.reload()
    expect(gone).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Error displaying widget")).to_be_hidden()


def test_at_any_width_and_in_the_dark(jupyter, page):
    open_lab(jupyter, page, 1280, 800)
    check_in_view(page, 1280)
    page.set_viewport_size({"width": 1920, "height": 800})
    head(page).scroll_into_view_if_needed()
    check_in_view(page, 1920)
    check_in_the_dark(page)


def check_in_view(page: Page, width: int) -> None:
    """Knobs, chart and totals together."""
    chart = page.locator(".widget-tab svg.marks").locator("visible=true").first
    for part in (head(page), slider(page, "stage3"), chart):
        expect(part).to_be_in_viewport(ratio=0.5)
    side, knobs = page.locator(".prunelab-right").bounding_box(), page.locator(".prunelab-knobs")
    assert side["x"] > knobs.bounding_box()["x"] + 200  # beside
    assert side["x"] + side["width"] > width - 120
    page.mouse.move(width / 2, 500)
    page.mouse.wheel(0, 300)
    expect(head(page)).to_be_in_viewport(ratio=1)
