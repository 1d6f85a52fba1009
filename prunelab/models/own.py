"""Networks of the user's own: a function named as `package.module:function`.

A name that the user gives is imported from where the command runs. A name that a file gives is
not, unless the user gave it before: those are noted in a list, as torch.hub notes repositories that
are trusted.
"""

import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from prunelab.utils.checks import did_you_mean
from prunelab.utils.tensors import write_whole


def is_own(name: str) -> bool:
    """Whether a name is that of a function, not of a network of ours or of a library."""
    return ":" in name


def build_own(name: str, num_classes: int) -> nn.Module:
    """The network that the user's function gives; ValueError says what is wrong with it.

    It is looked for where the command runs, then where it was found before.
    """
    with _importing_from(Path.cwd(), *map(Path, reversed(_read_trusted().get(name, [])))):
        model = _call(name, _find_function(name), num_classes)
    _trust(name, _find_folder(name))
    return model


def build_trusted(name: str, num_classes: int) -> nn.Module | None:
    """The network of a name that a file gives; None unless the user gave that name before."""
    folders = _read_trusted().get(name, [])
    here = str(Path.cwd())
    folder = here if here in folders else folders[-1] if folders else None
    if folder is None:
        return None
    with _importing_from(Path(folder)):
        return _call(name, _find_function(name), num_classes)


def is_trusted(name: str) -> bool:
    """Whether a network may be built though a file names it: it is no function, or known.

    Known is the one that would be imported: a file of that name where the command runs is another.
    """
    if not is_own(name):
        return True
    folders, here = _read_trusted().get(name, []), Path.cwd()
    top = name.partition(":")[0].partition(".")[0]
    is_here = (here / top).exists() or (here / f"{top}.py").exists()
    return str(here) in folders if is_here else bool(folders)


def takes_classes(function: Callable[..., Any]) -> bool:
    """Whether a function can be told how many classes there are."""
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == "num_classes" or p.kind is p.VAR_KEYWORD for p in parameters)


def _find_function(name: str) -> Callable[..., Any]:
    home, _, function = name.partition(":")
    if not function or not all(part.isidentifier() for part in (*home.split("."), function)):
        raise ValueError(
            f"{name!r} does not name a function; write package.module:function, such as "
            "mynets:small for small() in mynets.py"
        )
    try:
        module = importlib.import_module(home)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{home}.".startswith(f"{error.name}."):
            raise ValueError(f"{home} cannot be imported ({error})") from error
        raise ValueError(
            f"there is no module {home!r} for {name!r} in {Path.cwd()} or among the packages that "
            "are installed; run from the folder that holds it"
        ) from None
    if not callable(found := getattr(module, function, None)):
        known = [
            key for key, value in vars(module).items() if getattr(value, "__module__", "") == home
        ]
        raise ValueError(
            f"there is no function {function!r} in {home}{did_you_mean(function, known)}"
            f"Known: {', '.join(known)}"
        )
    return found


def _find_folder(name: str) -> Path:
    """The folder that the module of a function was imported from."""
    home = name.partition(":")[0]
    file = Path(sys.modules[home].__file__ or Path.cwd() / "built in").resolve()
    above = home.count(".") + (file.name == "__init__.py")
    return file.parents[above]


def _call(name: str, function: Callable[..., Any], num_classes: int) -> nn.Module:
    if isinstance(function, nn.Module):
        raise ValueError(f"{name} is a network; name a function or a class that gives one")
    given = {"num_classes": num_classes} if takes_classes(function) else {}
    try:
        inspect.signature(function).bind(**given)
    except TypeError as error:
        raise ValueError(
            f"{name} is called with num_classes alone, if it takes that: {error}; give the others "
            "defaults"
        ) from None
    model = function(**given)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name} gives a {type(model).__name__}; it must give a torch.nn.Module")
    return model


@contextmanager
def _importing_from(*folders: Path) -> Iterator[None]:
    paths = [str(folder) for folder in folders]
    sys.path[:0] = paths
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for path in paths:
            sys.path.remove(path)


def _list_path() -> Path:
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "prunelab" / "networks.json"


def _read_trusted() -> dict[str, list[str]]:
    """{name: folders that it was imported from}, the last one last; none where it is unreadable."""
    try:
        found = json.loads(_list_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _trust(name: str, folder: Path) -> None:
    known = _read_trusted()
    folders = [*(f for f in known.get(name, []) if f != str(folder)), str(folder)]
    if folders != known.get(name):
        try:
            write_whole(_list_path(), json.dumps({**known, name: folders}, indent=1))
        except OSError:  # no home to write to: a pruned file then asks for the name again
            return
