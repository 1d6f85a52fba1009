"""What keeps the choice: a recipe, the small network, the lines of code."""

from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path

import ipywidgets as widgets

from prunelab.lab.boxes import make_button
from prunelab.lab.state import State, code_text, save_recipe
from prunelab.models import save_pruned
from prunelab.training import TrainSettings

# the page itself copies: the kernel may be on another computer
COPY = (
    "const own = this.parentNode.querySelector('pre'), chosen = getSelection();"
    "chosen.selectAllChildren(own); document.execCommand('copy'); chosen.removeAllRanges();"
    "this.textContent = 'Copied'"
)


class Saving(widgets.VBox):
    """Save recipe, Save model, Show code."""

    def __init__(self, state: State, settings: Callable[[], TrainSettings]) -> None:
        self.state, self.settings = state, settings
        self.name = widgets.Text(
            "mine",
            description="as",
            tooltip="a name or path, without an ending; its folder must exist",
            layout={"width": "260px"},
            style={"description_width": "initial"},
        )
        self.saved, self.code = widgets.HTML(), widgets.HTML()
        make = partial(make_button, width=110, trouble=self.saved)
        recipe, model = "a YAML that prunelab replay runs", "as safetensors, for load_pruned"
        self.save_recipe = make(self._save_recipe, f"{recipe} as it is", label="Save recipe")
        self.save_model = make(self._save_model, f"the network {model}", label="Save model")
        self.show = make(self._show_code, "the lines that do the same", label="Code")
        buttons = widgets.HBox(
            [self.save_recipe, self.save_model, self.name, self.show],
            layout={"flex_flow": "row wrap", "align_items": "center"},
        )
        super().__init__([buttons, self.saved, self.code])
        state.observe(self._forget, ["plan", "network"])

    def _forget(self, _: object) -> None:
        """What was said of another plan is not said of this one."""
        self.saved.value = self.code.value = ""

    def _save_recipe(self) -> None:
        path = save_recipe(self.state, self._path(), self.settings())
        self.saved.value = f"Saved. To run it: <code>prunelab replay {escape(str(path))}</code>"

    def _save_model(self) -> None:
        state, path = self.state, self._path()
        what = "pruned, not retrained" if state.plan.removed else "whole: nothing was removed"
        if state.trained is not None:
            what = "retrained" if state.plan.removed else "whole, trained on"
        path = path.with_name(path.name.removesuffix(".safetensors") + ".safetensors")
        before = ", in place of the file before" if path.exists() else ""
        saved = save_pruned(path, state.small, state.plan, info={"state": what})
        code = escape(f"load_pruned({str(saved)!r})")
        self.saved.value = f"Saved, {what}{before}. To load it: <code>{code}</code>"

    def _path(self) -> Path:
        name = self.name.value.strip()
        if not name:
            raise ValueError("give it a name first, in the field beside")
        path = Path(name).expanduser().resolve()
        if not path.parent.is_dir():
            raise ValueError(f"there is no folder {path.parent}: make it first, or name another")
        return path

    def _show_code(self) -> None:
        if self.code.value:
            self.code.value = ""
            return
        button = f'<button class="jupyter-button" onclick="{escape(COPY)}">Copy</button>'
        self.code.value = f"<div>{button}<pre>{escape(code_text(self.state))}</pre></div>"
