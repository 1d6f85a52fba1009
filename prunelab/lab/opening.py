"""The form that opens another network, weights, or data."""

import threading
from pathlib import Path

import ipywidgets as widgets

from prunelab.data import NAMED
from prunelab.lab.jobs import Job, JobBar
from prunelab.lab.state import State, open_network
from prunelab.models import model_names
from prunelab.utils.paths import data_dir, find_shipped, runs_dir
from prunelab.utils.progress import Report
from prunelab.utils.tensors import write_whole

OURS_LABEL = "our ResNet-20 on digits"
WEIGHTS = (".safetensors", ".pt", ".pth", ".th")
NORMALIZATIONS = ("its own", "imagenet", "cifar10", "cifar100")
DEVICES = ("auto", "cpu", "cuda", "mps")


class Opening(widgets.Accordion):
    """Another network, weights, or data."""

    def __init__(self, state: State, desk: threading.Lock) -> None:
        self.state = state
        row = {"layout": {"width": "auto"}, "style": {"description_width": "92px"}}
        self.model = widgets.Dropdown(
            options=[OURS_LABEL, *model_names()], description="network", **row
        )
        self.weights = widgets.Combobox(
            description="weights",
            options=list_weights(),
            placeholder="a file of weights; empty: fresh ones",
            **row,
        )
        self.upload = widgets.FileUpload(
            accept=",".join(WEIGHTS),
            description="choose a file …",
            tooltip="a file of weights from this computer; it is copied to where the kernel runs",
            layout={"width": "auto", "margin": "2px 2px 2px 96px"},
        )
        self.upload.observe(self._take_file, "value")
        self.data = widgets.Combobox(
            value="digits",
            options=NAMED,
            description="data",
            placeholder="digits, cifar10 … or an image folder",
            **row,
        )
        self.normalization = widgets.Dropdown(
            options=NORMALIZATIONS, description="normalisation", **row
        )
        self.image_size = widgets.BoundedIntText(
            0, min=0, max=4096, description="image size", **row
        )
        self.device = widgets.Dropdown(options=DEVICES, description="device", **row)
        about = widgets.HTML("image size: pixels a side, for image folders; 0 is their own")
        about.add_class("prunelab-about")
        self.bar = JobBar(Job(self._open, desk), "Open", help="trace this network and take it up")
        fields = [self.model, self.weights, self.upload, self.data, self.normalization]
        fields += [self.image_size, about, self.device, self.bar]
        super().__init__([widgets.VBox(fields)], selected_index=None)
        state.observe(self._name, "network")
        self._name()

    def _take_file(self, change: dict[str, tuple[dict[str, object], ...]]) -> None:
        for file in change["new"]:
            path = runs_dir() / "lab" / "weights" / Path(str(file["name"])).name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, bytes(file["content"]))  # type: ignore[call-overload]
            self.weights.value = str(path)
            self.upload.value = ()  # what was read need not stay in memory

    def _open(self, report: Report) -> str:
        name = None if self.model.value == OURS_LABEL else self.model.value
        how: dict[str, object] = {"device": self.device.value}
        if self.normalization.value != NORMALIZATIONS[0]:
            how["normalization"] = self.normalization.value
        if self.image_size.value:
            how["image_size"] = self.image_size.value
        network = open_network(
            name, self.data.value.strip(), self.weights.value.strip() or None, **how
        )
        report(1, 2)
        self.state.show(network)
        fresh = name and not network.weights
        return "With fresh weights: nothing was learned yet." if fresh else ""

    def _name(self, _: object = None) -> None:
        network = self.state.network
        model = network.architecture or type(network.model).__name__
        self.titles = (f"{model} on {network.data.name}: open another",)


def list_weights() -> list[str]:
    """Files of weights that are at hand: those that we trained, and those of runs."""
    folders = [data_dir() / "checkpoints", runs_dir()]
    try:
        folders[0] = find_shipped("data/checkpoints")
    except FileNotFoundError:
        folders.pop(0)
    files = [
        path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.rglob("*"))
        if path.suffix in WEIGHTS
    ]
    return [str(path) for path in files]
