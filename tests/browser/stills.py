"""`make stills`: the pictures of the lab that stand where no kernel runs, in notebooks/images.

Each is taken in Chromium, of what a cell shows in JupyterLab.
"""

import io
import os
import tempfile
from pathlib import Path

import nbformat
from jupyter_page import REPOSITORY, find_errors, open_page, run_all, serve
from PIL import Image
from playwright.sync_api import Page, expect

from prunelab.charts.style import pick_colours
from prunelab.lab.page import name_still
from prunelab.lab.tabs import TITLES

IMAGES = REPOSITORY / "notebooks" / "images"
SIZE = 1100, 562  # pixels of CSS, at most
SCALE = 0.75  # a picture is as wide as a column of text
WINDOW = {"width": 1268, "height": 1500}  # the lab is as wide as a picture may be
LAB = """from prunelab.lab import Lab
lab = Lab(ratios={"stage1": 0.12, "stage2": 0.1, "stage3": 0.25})
lab.tray.pin()  # beside what is retrained
lab"""
# what a tab waits for, and what is said when it is there
PRESS = {
    "Sensitivity": ("Measure", "curves on"),
    "What breaks": ("Look", "test images are for the end"),
    "Time": ("Measure", "of the multiply-adds."),
    "Search": ("Search", "of them on the front"),
    "Plans": ("Retrain", "Retrained for"),
}
SWEEP = "from prunelab.lab import SweepView\nSweepView()"
LONG = 300_000  # ms; the machine may be busy


def shoot(page: Page, selector: str, name: str) -> None:
    """Write what an element shows as a small picture."""
    expect(page.locator(f"{selector} svg.marks").locator("visible=true").first).to_be_visible()
    page.wait_for_timeout(4000)  # charts fill their place, and images are counted
    box = page.locator(selector).bounding_box()
    assert box is not None
    corner = {"x": box["x"], "y": box["y"]}
    clip = {**corner, "width": min(box["width"], SIZE[0]), "height": min(box["height"], SIZE[1])}
    taken = page.screenshot(clip=clip)
    if folder := os.environ.get("PRUNELAB_SCREENSHOTS"):
        (Path(folder) / f"{name}.png").write_bytes(taken)
    small = pick_colours(Image.open(io.BytesIO(taken)).convert("RGB"))
    path = IMAGES / f"{name}.png"
    small.save(path, optimize=True)
    print(f"{name}: {small.width} × {small.height}, {path.stat().st_size:,} bytes", flush=True)


def shoot_tabs(page: Page) -> None:
    """A picture of the lab with each tab in front."""
    for title in TITLES:
        page.locator(".widget-tab > .lm-TabBar .lm-TabBar-tab").filter(has_text=title).click()
        if title in PRESS:
            button, said = PRESS[title]
            press = page.get_by_role("button", name=button, exact=True)
            press.locator("visible=true").click()
            told = page.get_by_text(said).locator("visible=true").first
            expect(told).to_be_visible(timeout=LONG)
        shoot(page, ".prunelab-lab", name_still(title))


def main() -> None:
    """Make them all."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        (root / "notebooks").mkdir(parents=True)
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        for name, code in {"sweep": SWEEP, "lab": LAB}.items():
            cells = [nbformat.v4.new_code_cell(code)]
            notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
            nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")
        with serve(root, Path(folder) / "state") as server:
            for name in ("sweep", "lab"):
                with open_page(SCALE) as page:
                    page.set_viewport_size(WINDOW)
                    run_all(page, server, f"{name}.ipynb")
                    shown = page.locator(f".prunelab-{name}")
                    expect(shown).to_be_visible(timeout=LONG)
                    if name == "lab":
                        shoot_tabs(page)
                    else:
                        shoot(page, ".prunelab-sweep", name)
                    assert not page.blocked  # type: ignore[attr-defined]
                    assert not (errors := find_errors(page)), errors


if __name__ == "__main__":
    main()
