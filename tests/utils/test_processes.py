"""Several processes of one run compute what one computes (two gloo processes on the CPU)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from prunelab import load_recipe, read_rows
from prunelab.cli.replay import _replay_together
from prunelab.utils import processes

SCRIPT = """
import copy, json, sys, torch
from dataclasses import replace
from small import QUICK, few
from prunelab import evaluate, load_data, load_model, train
from prunelab.utils import processes
torch.set_num_threads(1)
if processes.started_by_torchrun():
    processes.join("cpu")
torch.manual_seed(processes.rank())  # the first one's weights are taken
data = few(load_data("digits", device="cpu"))
cut = replace(data.train, images=data.train.images[:250], labels=data.train.labels[:250])
class Exact(torch.nn.Module):  # in float64, rounding errors do not grow until one could see them
    def __init__(self):
        super().__init__()
        self.network = load_model("resnet20").double()

    def forward(self, images):
        return self.network(images.double())


model = Exact()
settings = replace(QUICK, batch_size=83, epochs=2)  # 83, 83, 83 and one image, which is left out
data = replace(data, train=cut)
def stop(done, total):
    if done == 250 + 2 * 83:
        raise KeyboardInterrupt


if processes.world_size() > 1:  # stopped within the second epoch, and gone on from there
    try:
        saving = {"checkpoint": sys.argv[1], "save_every": 2}
        train(copy.deepcopy(model), data, settings, **saving, on_batch=stop)
    except KeyboardInterrupt:
        pass
history = train(model, data, settings, checkpoint=sys.argv[1], progress=True)
found = evaluate(model, data.test, batch_size=59)  # the last batch leaves a process with nothing
if processes.rank() == 0:
    print(json.dumps([history.drop(columns="seconds").to_dict("list"), found.correct, found.loss]))
"""
SMALL = """
import sys, torch
from dataclasses import replace
from functools import partial
from small import QUICK, few
from torch import nn
from prunelab import load_data, train
from prunelab.utils import processes
torch.set_num_threads(1)
if processes.started_by_torchrun():
    processes.join("cpu")
data = few(load_data("digits", device="cpu"))
class Small(nn.Module):
    def __init__(self, norms=False, unused=False):
        super().__init__()
        norms = [nn.BatchNorm2d(4), nn.BatchNorm2d(6)] if norms else [nn.Identity()] * 2
        self.a, self.b = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 6, 3, stride=2)
        self.norms, self.head = nn.ModuleList(norms), nn.Linear(6, 10)
        self.register_buffer("shift", torch.rand(1))
        if unused:
            self.unused = nn.Parameter(torch.ones(3))
        self.double()

    def forward(self, images):
        maps = self.norms[0](self.a(images.double() + self.shift)).relu()
        return self.head(self.norms[1](self.b(maps)).relu().mean((2, 3)))


def fresh(**options):
    torch.manual_seed(processes.rank())  # weights and buffers of the first one are taken
    return Small(**options)


def learn(model, n, **changes):  # from n images -> the gradients of each batch, the losses
    images, labels = data.train.images[:n], data.train.labels[:n]
    own = replace(data, train=replace(data.train, images=images, labels=labels))
    gradients = []
    def note(done, total):
        named = dict(model.named_parameters())
        gradients.append({name: p.grad.clone() for name, p in named.items() if p.grad is not None})

    history = train(model, own, replace(QUICK, **changes), on_batch=note)
    return gradients, history["train_loss"].tolist()


def compile_it():  # -> {compiled: what came of it}
    graphs = []
    def count(graph, inputs):  # a backend that compiles nothing
        graphs.append(graph)
        return graph.forward

    torch.compile = partial(torch.compile, backend=count)
    found = {}
    for choice in (False, True):
        model = fresh(norms=True)
        _, losses = learn(model, 250, batch_size=83, compile=choice)
        kinds = {type(norm) for norm in model.norms}
        left = {key for norm in model.norms for key in vars(norm)} - set(vars(nn.BatchNorm2d(1)))
        found[choice] = {"losses": losses, "graphs": len(graphs), "kinds": kinds, "left": left}
    return found


def gather_gradients():  # -> {with an unused parameter: what came of it}
    found = {}
    for unused in (False, True):
        model = fresh(unused=unused)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        gradients = []
        for n in (5, 1):  # shards of 3 and 2 images; of one and none
            gradients += learn(model, n, batch_size=5, weight_decay=0.1)[0]
        named = dict(model.named_parameters())
        stuck = [name for name, p in named.items() if torch.equal(p, before[name])]
        found[unused] = {"gradients": gradients, "stuck": stuck}
    return found


task, path = sys.argv[1:]
torch.save(globals()[task](), f"{path}-{processes.rank()}")
"""
TESTS = Path(__file__).parents[1]
CHANGES = [
    "baseline.epochs=20",
    "baseline.batch_size=5",
    "sensitivity=[]",
    "retrain.epochs=1",
    "scratch=null",
    "continued=false",
]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def start(arguments: list[str], **options) -> subprocess.Popen:
    """Python with these arguments; what it says is kept."""
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    here = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *arguments], env=here, **options)


def test_two_processes_learn_what_one_learns(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    runs = [start([str(tmp_path / "script.py"), str(tmp_path / "one")])]
    runs.append(start([*TORCHRUN, str(tmp_path / "script.py"), str(tmp_path / "two")]))
    said = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    lines = [out.strip().splitlines() for out, _ in said]
    assert ["epoch" in line for line in lines[1][:-1]] == [True, True]  # the first one alone prints
    assert lines[1][0] == "1 of 2 epochs and 2 batches were done before"
    (one, correct, loss), (two, also, same) = (json.loads(line[-1]) for line in lines)
    for column in one:
        assert two[column] == pytest.approx(one[column], rel=1e-5), column
    assert (also, same) == (correct, pytest.approx(loss, rel=1e-5))


def run_small(task: str, folder: Path) -> list[dict]:
    """What a task of the script SMALL finds in a process alone, then in each of two."""
    script = folder / "script.py"
    script.write_text(SMALL)
    for how, name in (([], "one"), (TORCHRUN, "two")):
        run = start([*how, str(script), task, str(folder / name)])
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors
    return [torch.load(folder / name, weights_only=False) for name in ("one-0", "two-0", "two-1")]


@pytest.fixture(scope="module")
def gathered(tmp_path_factory) -> list[dict]:
    return run_small("gather_gradients", tmp_path_factory.mktemp("gradients"))


@pytest.mark.parametrize("unused", [False, True])
def test_gradients_of_uneven_and_empty_shards(gathered, unused):
    one, *two = (process[unused]["gradients"] for process in gathered)
    assert len(one) == 6
    for rank, gradients in enumerate(two):
        for i, (found, expected) in enumerate(zip(gradients, one, strict=True)):
            assert found.keys() == expected.keys()
            for name, gradient in expected.items():
                difference = float((found[name] - gradient).abs().max())
                assert difference <= 1e-15, f"process {rank}, batch {i}, {name}: {difference}"
                assert gradient.abs().max() > 1e-3, name  # or it would say nothing


def test_a_parameter_that_no_forward_uses_stays(gathered):
    for process in gathered:  # weight decay moves what has a gradient, be it zero
        assert process[False]["stuck"] == []
        assert process[True]["stuck"] == ["unused"]


def test_two_processes_compile_and_leave_plain_norms(tmp_path):
    one, *two = run_small("compile_it", tmp_path)
    for process in two:
        plain, compiled = process[False], process[True]
        assert plain["graphs"] == 0 < compiled["graphs"]
        assert compiled["losses"] == pytest.approx(plain["losses"], rel=1e-5)
        assert plain["losses"] == pytest.approx(one[False]["losses"], rel=1e-5)
        for found in (plain, compiled):
            assert found["kinds"] == {nn.BatchNorm2d}
            assert found["left"] == set()


def test_a_synced_norm_is_torchs():
    """For one process: forward, backward and running statistics."""
    torch.manual_seed(0)
    x = torch.randn(6, 5, 4, 4, dtype=torch.float32) * 3 + 1
    ours, theirs = nn.BatchNorm2d(5), nn.BatchNorm2d(5)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.arange(1, 6))
    expected = theirs(b)
    with processes._synced_norms(ours, torch.device("cpu")):
        assert type(ours) is not nn.BatchNorm2d
        out = ours(a)
    assert type(ours) is nn.BatchNorm2d
    for y in (out, expected):
        y.square().mul(torch.arange(4)).sum().backward()
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-3)
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor)


def test_what_a_process_says_that_was_left_alone(monkeypatch, tmp_path):
    def lose(*_, **__):
        raise RuntimeError("Connection reset by peer\nmore")

    monkeypatch.setattr("prunelab.utils.processes.join", lambda device: device)
    monkeypatch.setattr("prunelab.experiments.replay", lose)
    words = r"the same command goes on from there \(Connection reset by peer\)$"
    with pytest.raises(ValueError, match=words):
        _replay_together(load_recipe("digits-quick"), "digits", "cpu", 0, tmp_path)


def test_a_process_that_dies_ends_all_and_the_run_goes_on(folder, tmp_path):
    out = tmp_path / "o"
    command = [*TORCHRUN, "-m", "prunelab", "replay", "digits-quick"]
    command += ["--data", str(folder), "--out", str(out)]
    for change in CHANGES:
        command += ["--set", change]
    run = start(command, start_new_session=True)
    checkpoint, deadline = out / "digits-quick-0" / "baseline.safetensors", time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = subprocess.check_output(["pgrep", "-P", str(run.pid)], text=True).split()
    os.kill(int(workers[1]), signal.SIGKILL)
    _, errors = run.communicate(timeout=120)
    assert run.returncode != 0
    assert "Signal 9" in errors or "the same command goes on from there" in errors
    again = start(command)
    printed, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert "of 20 epochs were done before" in printed
    rows = read_rows(out)
    assert list(rows["kind"]) == ["baseline", "pruned", "retrained"]
    assert set(rows["processes"]) == {2}
    assert set(rows["epochs"]) == {20, 0, 1}
