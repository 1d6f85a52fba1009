"""A run's folder: whose it is, and what is in it."""

from pathlib import Path
from typing import Any

from prunelab.data import DataSplits
from prunelab.experiments.recipe import Recipe, check_recipe, dump_recipe
from prunelab.experiments.results import read_rows, sort_rows, summarise
from prunelab.utils import processes
from prunelab.utils.seals import CHANGED, EVIDENCE, read_note, write_note
from prunelab.utils.tensors import hash_text

FILES = {
    "rows.csv": "a row for each network",
    "plan.json": "which filters stay",
    "pruned.safetensors": "the pruned, retrained network (load_pruned opens it)",
    "pruned.onnx": "the same for onnxruntime and others",
    "pruned.pt2": "the same for torch.export.load",
    "scratch.safetensors": "the same network trained from scratch",
    "continued.safetensors": "the whole network, trained on for as long",
    "baseline.safetensors": "the baseline's training",
    "sensitivity.csv": "accuracy of each layer or stage pruned alone",
    "classes.csv": "test accuracy of each class",
    "history.csv": "every epoch",
    "log.jsonl": "the same, a line as each epoch ends",
    "replay.ipynb": "this notebook, executed",
}


def list_files(folder: Path) -> dict[str, str]:
    """{file: what it is} of what a run left."""
    found = {folder / name: what for name, what in FILES.items()}
    return {str(path): what for path, what in found.items() if path.exists()}


def claim_folder(folder: Path, recipe: Recipe, seed: int, data: DataSplits) -> None:
    """Note in `run.json` whose folder this is; ValueError where it holds work of another run."""
    about = {
        "recipe": _comparable(recipe),
        "seed": seed,
        "data": data.fingerprint,
        "normalization": [list(values) for values in data.normalization],
    }
    path = folder / "run.json"
    made = processes.broadcast(lambda: _read_claim(path))
    if made:
        older = check_recipe(made["recipe"], f"{path} is of another version: its recipe")
        made["recipe"] = _comparable(older)
        odd = _differences(made, about)
        if odd:
            raise ValueError(
                f"{folder} holds another run: {'; '.join(odd)}. Name another folder for runs (out)"
            )
    write_note(path, about)


def _read_claim(path: Path) -> dict[str, Any]:
    """Whose a folder is; nothing of a new one, or of one without work."""
    if not path.exists() or not has_work(path.parent):
        return {}
    made = read_note(path)
    if odd := {"recipe", "seed", "data", "normalization"} ^ made.keys():
        raise ValueError(f"{path} is none of ours ({', '.join(sorted(odd))}): name another folder")
    return made


def has_work(folder: Path) -> bool:
    """Whether anything was trained or measured in a folder, that another run could spoil."""
    return any(any(folder.glob(kind)) for kind in ("*.safetensors", "*.csv", "*.jsonl"))


def _comparable(recipe: Recipe) -> dict[str, Any]:
    """What makes a run another one: not whether torch compiles it, or one more row is made."""
    values = dump_recipe(recipe)
    del values["continued"]
    for part in ("baseline", "fine_tune", "retrain"):
        if values[part] is not None:
            del values[part]["compile"]
    return values


def _differences(before: Any, now: Any, where: str = "") -> list[str]:
    """A phrase for each value that is another one now."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [] if before == now else [f"{where} was {before!r}, not {now!r}"]
    found = []
    for key in {**before, **now}:
        place = f"{where}.{key}".strip(".")
        found += _differences(before.get(key), now.get(key), place)
    return found


class Finished:
    """Whether a replay was run to its end, of just this recipe on just these files.

    It is noted in `finished.json`, so that one called again needs no kernel to know it. data: of
    `sign_data`.
    """

    def __init__(self, folder: Path, recipe: Recipe, seed: int, data: str, to: str) -> None:
        self.folder = folder
        self._about = {
            "recipe": _comparable(recipe) | {"continued": recipe.continued},
            "seed": seed,
            "data": data,
            "to": to,
        }

    def is_so(self) -> bool:
        """Whether it was, and its rows are there as they were measured."""
        path, rows = self.folder / "finished.json", self.folder / "rows.csv"
        if not path.exists() or not rows.exists():
            return False
        try:
            changed = (read_rows(rows)[EVIDENCE] == CHANGED).any()
            return read_note(path) == self._about and not changed
        except ValueError:  # torn or changed: the run looks at all its files again
            return False

    def note(self) -> None:
        """It is, now."""
        write_note(self.folder / "finished.json", self._about)

    def table(self) -> str:
        """Its rows for reading, and its files."""
        rows = sort_rows(read_rows(self.folder / "rows.csv"))
        files = (f"{path}: {what}" for path, what in list_files(self.folder).items())
        return f"{summarise(rows).to_string()}\n\n" + "\n".join(files)


def sign_data(source: str) -> str:
    """A digest of a data set's files, by their names, sizes and times; a name is its own."""
    path = Path(source)
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
    stats = ((str(file), file.stat()) for file in files)
    seen = "\n".join(f"{name} {found.st_size} {found.st_mtime_ns}" for name, found in stats)
    return f"{source} {hash_text(seen)}" if seen else source
