"""A JupyterLab on loopback and a Chromium that reaches nothing else."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import ConsoleMessage, Page, Route, expect, sync_playwright

REPOSITORY = Path(__file__).parents[2]
BROWSERS = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
CHROMIUM = next(filter(None, BROWSERS), None)
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
FOLDERS = {
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "run",
    "IPYTHONDIR": "ipython",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "PRUNELAB_RUNS": "runs",
}
# of JupyterLab itself: an icon it has not, and its debugger where a kernel is busy at its start
NOISE = ("favicon", "Could not restore the debugger state")
expect.set_options(timeout=30_000)  # a machine may be busy


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address and the token of a server on a copy of the notebooks and the checkpoints."""
    root = tmp_path_factory.mktemp("root")
    (root / "notebooks").mkdir()
    folder = REPOSITORY / "notebooks"  # solutions have the names of their lessons
    for path in [*folder.glob("*.ipynb"), *folder.glob("still/*.ipynb")]:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:  # nothing stored may be taken for something run
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, root / "notebooks" / path.name)
    shutil.copytree(REPOSITORY / "data" / "checkpoints", root / "data" / "checkpoints")
    with serve(root, tmp_path_factory.mktemp("state")) as server:
        yield server


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a Chromium that reaches loopback only.

    `page.blocked` holds what it wanted elsewhere, `page.errors` what it said.
    """
    if CHROMIUM is None:
        pytest.fail("no Chromium on this machine: apt-get install chromium (.ci/run does)")
    with open_page() as opened:
        yield opened


@contextmanager
def serve(root: Path, state: Path) -> Iterator[tuple[str, str]]:
    """The address and the token of a JupyterLab on a folder; it keeps its own files in `state`."""
    settings = state / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.root_dir": root,
        "IdentityProvider.token": token,
        "LabApp.extension_manager": "readonly",
        "LabApp.expose_app_in_browser": True,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = dict(os.environ)
    for name, folder in FOLDERS.items():
        environment[name] = str(state / folder)
    with (state / "log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=1)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield address, token
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def open_page(scale: float = 1) -> Iterator[Page]:
    """The fixture `page`; scale: pixels of the screen for each of CSS."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        view = {"width": 1280, "height": 3600}
        context = browser.new_context(viewport=view, device_scale_factor=scale)
        opened = context.new_page()
        blocked: list[str] = []
        errors: list[str] = []
        opened.blocked, opened.errors = blocked, errors  # type: ignore[attr-defined]

        def block(route: Route) -> None:
            blocked.append(route.request.url)
            route.abort()

        def listen(message: ConsoleMessage) -> None:
            if message.type == "error":
                errors.append(message.text)

        context.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), block)
        opened.on("console", listen)
        yield opened
        browser.close()


def run_all(page: Page, jupyter: tuple[str, str], notebook: str, shows: str = "") -> None:
    """Open a notebook and run all its cells.

    shows: what the last cell shows, by its selector, where cells are folded and have no numbers.
    """
    address, token = jupyter
    page.goto(f"{address}/doc/tree/notebooks/{notebook}?token={token}&reset")
    prompts = page.locator(".jp-CodeCell .jp-InputArea-prompt")
    expect(page.locator(".jp-Cell").first).to_be_visible(timeout=60_000)
    _wait_for_kernel(address, token)
    indicator = page.locator(".jp-Notebook-ExecutionIndicator")
    expect(indicator).to_have_attribute("data-status", "idle", timeout=60_000)
    question = page.locator(".jp-Dialog button.jp-mod-accept")  # "Select Kernel", now and then
    for _ in range(40):
        if question.count():
            question.click()
        # Run All can be dropped without a word, at once or half way
        busy = indicator.get_attribute("data-status") != "idle"
        if not busy and "[*]:" not in prompts.all_text_contents():
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        try:
            if shows:
                expect(page.locator(shows)).to_be_visible(timeout=4000)
            else:
                expect(prompts.last).to_have_text(re.compile(r"\[\d+\]:"), timeout=4000)
                # a kernel that restarts half way begins again at 1
                numbers = re.findall(r"\d+", " ".join(prompts.all_text_contents()))
                assert [int(n) for n in numbers] == [*range(int(numbers[0]), int(numbers[-1]) + 1)]
                assert len(numbers) == prompts.count()
            return
        except AssertionError:
            continue
    raise AssertionError(f"{notebook} did not run to its end: {prompts.all_text_contents()}")


def store(jupyter: tuple[str, str], name: str, *cells: str) -> None:
    """Put a notebook on the server."""
    address, token = jupyter
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    request = urllib.request.Request(
        f"{address}/api/contents/notebooks/{name}?token={token}",
        json.dumps({"type": "notebook", "content": notebook}).encode(),
        method="PUT",
    )
    urllib.request.urlopen(request, timeout=10).close()


def find_errors(page: Page) -> list[str]:
    """What the page's console complained of, but for JupyterLab's own noise."""
    errors: list[str] = page.errors  # type: ignore[attr-defined]
    return [error for error in errors if not any(noise in error for noise in NOISE)]


def _wait_for_kernel(address: str, token: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{address}/api/sessions?token={token}", timeout=5) as reply:
            states = [session["kernel"]["execution_state"] for session in json.load(reply)]
        if "idle" in states:
            return
        time.sleep(0.2)
