"""`prunelab lab` as a server: what it opens, whom it lets in, whom it asks, how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest
from jupyter_server.serverapp import ServerApp
from jupyterlab.labapp import LabApp
from typer.testing import CliRunner

from prunelab import load_model, runs_dir, save_weights
from prunelab.cli import app

PASSWORD = "--PasswordIdentityProvider.hashed_password=argon2:anything"
FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
# prunelab, writing down whom its process looks up
COMMAND = """
import sys
def hear(event, arguments):
    if event == "socket.getaddrinfo":
        print("asked for", arguments[0], flush=True)
sys.addaudithook(hear)
from prunelab.cli import main
main()
"""


@pytest.fixture(autouse=True)
def own_jupyter(tmp_path, monkeypatch):
    """Jupyter without the files of whoever runs the tests."""
    for name in FOLDERS:
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("JUPYTER_TOKEN", "JUPYTER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / FOLDERS[0]


@pytest.fixture
def open_lab(monkeypatch):
    """Runs `prunelab lab` up to where it would listen, and gives its server, or what it says."""
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    served = []
    monkeypatch.setattr(ServerApp, "init_httpserver", lambda server: served.append(server))
    monkeypatch.setattr(ServerApp, "start", lambda server: None)

    def run(*options):
        done = CliRunner().invoke(app, ["lab", "--no-browser", *options])
        return served.pop() if served else str(done.exception)

    yield run
    for each in (ServerApp, LabApp):
        each.clear_instance()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_the_lab_opens_what_one_names(tmp_path, monkeypatch, open_lab):
    monkeypatch.chdir(tmp_path)
    save_weights("mine.safetensors", load_model("resnet20"))
    options = ["--model", "resnet20", "--weights", "mine.safetensors", "--port-retries", "7"]
    server, notebook = open_lab(*options), runs_dir() / "lab" / "lab.ipynb"
    assert server.port_retries == 7
    assert server.root_dir == str(notebook.parent)
    assert server.default_url == "/doc/tree/lab.ipynb"
    assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path)
    cells = json.loads(notebook.read_text())["cells"]
    injected = [c for c in cells if "injected-parameters" in c["metadata"].get("tags", [])]
    assert f'weights = "{tmp_path / "mine.safetensors"}"' in "".join(injected[0]["source"])


@pytest.mark.parametrize(
    "options",
    [
        ["--ip=0.0.0.0"],
        ["--ip", "0.0.0.0"],
        ["--ip="],
        ["--ip=*"],
        ["--ServerApp.ip=::"],
        ["--NotebookApp.ip=192.0.2.1"],
        ["--ip=0.0.0.0", "--ServerApp.allow_remote_access=False"],
        ["--ip=0.0.0.0", "--IdentityProvider.token=long-and-secret"],
    ],
)
def test_other_machines_need_a_password(options, open_lab, own_jupyter):
    refusal = open_lab(*options)
    assert "is open to other machines, which needs a password: `jupyter server" in refusal
    own_jupyter.mkdir(exist_ok=True)  # where `jupyter server password` writes it
    known = {"IdentityProvider": {"hashed_password": "argon2:anything"}}
    (own_jupyter / "jupyter_server_config.json").write_text(json.dumps(known))
    for each in (ServerApp, LabApp):
        each.clear_instance()
    assert open_lab(*options).identity_provider.hashed_password == "argon2:anything"


@pytest.mark.parametrize(
    "options",
    [
        ["--IdentityProvider.token="],
        ["--ServerApp.token=''"],
        ["--NotebookApp.token="],
        ["--ServerApp.token=", "--ServerApp.password="],
        ["--ip=0.0.0.0", "--ServerApp.token="],
        ["--ServerApp.token=", "--ServerApp.sock=lab.sock"],
    ],
)
def test_an_empty_token_needs_a_password(options, open_lab):
    assert "with an empty token and no password" in open_lab(*options)


def test_what_jupyter_s_own_files_set_is_seen(open_lab, own_jupyter):
    own_jupyter.mkdir()
    (own_jupyter / "jupyter_lab_config.py").write_text("c.ServerApp.ip = '0.0.0.0'\n")
    assert "'0.0.0.0' is open to other machines" in open_lab()


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--ip=localhost"],
        ["--ip=127.0.0.2"],
        ["--ip=::1"],
        ["--ip=0.0.0.0", PASSWORD],
        ["--IdentityProvider.token=", PASSWORD],
        ["--ServerApp.sock=lab.sock"],
    ],
)
def test_loopback_and_passwords_are_let_through(options, open_lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_lab(*options).identity_provider.auth_enabled


def test_sigterm_ends_the_lab_and_its_kernels(tmp_path):
    """It comes up, for root too; lets in a token alone; asks nobody; and leaves no process."""
    with (tmp_path / "log").open("w") as log:
        lab = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "lab", "--no-browser", "--port", "0"],
            stdout=log,
            stderr=log,
        )
    deadline, about = time.monotonic() + 60, []
    while not about and lab.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        about = list((tmp_path / "JUPYTER_RUNTIME_DIR").glob("jpserver-*.json"))
    assert about, (tmp_path / "log").read_text()
    server = json.loads(about[0].read_text())

    def ask(path, token, body=None):
        headers = {"Authorization": f"token {token}"}
        with urllib.request.urlopen(
            urllib.request.Request(server["url"] + path, body, headers), timeout=30
        ) as reply:
            return json.load(reply)

    with pytest.raises(urllib.error.HTTPError, match="403"):
        ask("api/kernels", "guessed")
    assert ask("lab/api/update", server["token"]) == {"notification": None}
    ask("api/kernels", server["token"], b"{}")
    kernels = psutil.Process(lab.pid).children(recursive=True)
    assert kernels
    lab.send_signal(signal.SIGTERM)
    assert lab.wait(30) == 143
    assert not psutil.wait_procs(kernels, timeout=10)[1]
    asked = {line for line in (tmp_path / "log").read_text().splitlines() if "asked for" in line}
    assert asked <= {f"asked for {name}" for name in ("localhost", "127.0.0.1", "None")}
