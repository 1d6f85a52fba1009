"""Where a sweep's runs are kept: a folder, or any address of fsspec's, such as s3://bucket/sweeps.

Work is done in a folder here; for an address, what changes in it is copied there, now and then and
at the end. Each file has one writer: the worker that has its point, or the sweep.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec

from prunelab.utils.ownership import NAME as OWNER
from prunelab.utils.ownership import find_owner
from prunelab.utils.tensors import hash_text

LOOK = 5.0  # seconds between two looks at who has a run
EVERY = 20.0  # seconds between two copies of a run that goes on
LAST = "finished.json"  # is copied when all else is there
# of these a table is made; the rest stays where it is
SMALL = ("rows.csv", "finished.json", "failed.json", "log.jsonl", "sweep.json", OWNER)


class Place:
    """A folder of runs, at an address or just here.

    Args:
        address: a folder, or an address with a protocol.
        role: of who asks: a worker (`work`), the sweep (`run`) or a reader (`look`); each has a
            copy of its own of what is at an address.

    Attributes:
        folder: where work is done.
        is_remote: whether that is a copy.
    """

    def __init__(self, address: str | Path, *, role: str = "look") -> None:
        self.address = str(address).removeprefix("file://")
        self.is_remote = "://" in self.address
        self._sent: dict[Path, tuple[int, int]] = {}
        self._lock = threading.Lock()
        if not self.is_remote:
            self.folder = Path(self.address).resolve()
            self.address = str(self.folder)  # workers may have another current folder
            return
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise ValueError(
                f"{self.address} cannot be used ({error}); an address needs its package, such as "
                "s3fs for s3:// (pip install s3fs)"
            ) from None
        base = Path(tempfile.gettempdir()) / f"prunelab-{os.getuid()}"
        self.folder = base / f"{hash_text(self.address, 12)}-{role}"

    @property
    def is_here_alone(self) -> bool:
        """Whether only this process sees it."""
        return self.address.startswith("memory://")

    def pull(self, run: str, *, exactly: bool = False) -> None:
        """Bring the files of a run here that are not; exactly: and leave no others."""
        if not self.is_remote:
            return
        found = self._list_there(run)
        names = {self._name_here(there) for there in found}
        for path in self._list_here(run) if exactly else ():
            if path not in names and path.name != OWNER:
                path.unlink(missing_ok=True)
        for there, about in found.items():
            if not there.endswith(f"/{OWNER}") and not self._is_here(there, about):
                self._bring(there, about)

    def wait_for_owner(self, run: str) -> None:
        """Wait while a worker on another machine has a run of an address."""
        if not self.is_remote:
            return
        here = self.folder / run / OWNER
        while found := self._list_there(f"{run}/{OWNER}"):
            there, about = next(iter(found.items()))
            if not here.exists() or here.stat().st_mtime < (_find_time(about) or 0):
                self._bring(there, about)
            if find_owner(self.folder / run) is None:
                return
            time.sleep(LOOK)

    def _is_here(self, there: str, about: dict[str, Any]) -> bool:
        """Whether a file at an address was brought before, and is not another one since."""
        here, when = self._name_here(there), _find_time(about)
        same = here.exists() and here.stat().st_size == about["size"]
        return same and when is not None and here.stat().st_mtime == when

    def pull_small(self, runs: Iterable[str] = ("",)) -> None:
        """Bring what tables are made of, of some runs or all, as far as it changed."""
        if not self.is_remote:
            return
        found = {there: a for run in runs for there, a in self._list_there(run).items()}
        names = {self._name_here(there) for there in found}
        for run in runs:
            for path in self._list_here(run):
                if path not in names:  # it is no more
                    path.unlink(missing_ok=True)
        for there, about in found.items():
            if there.rpartition("/")[2] in SMALL and not self._is_here(there, about):
                with suppress(FileNotFoundError):  # it was taken away meanwhile
                    self._bring(there, about)

    def push(self, run: str) -> None:
        """Copy what changed of a run, the mark that it is finished last."""
        if not self.is_remote:
            return
        with self._lock:
            files = self._list_here(run)
            for path in sorted(files, key=lambda path: path.name == LAST):
                try:
                    found = path.stat()
                    now = (found.st_size, found.st_mtime_ns)
                    if self._sent.get(path) != now:
                        with self._reaching():
                            self._fs.put_file(str(path), self._name_there(path))
                        self._sent[path] = now
                except FileNotFoundError:
                    continue  # it was renamed meanwhile
            own = self.folder / run
            gone = [p for p in self._sent if p.is_relative_to(own) and not p.exists()]
            for path in gone:
                del self._sent[path]
                with suppress(FileNotFoundError), self._reaching():
                    self._fs.rm_file(self._name_there(path))

    def forget(self, run: str) -> None:
        """Take away what is here of a run that is kept at an address."""
        if self.is_remote:
            shutil.rmtree(self.folder / run, ignore_errors=True)

    @contextmanager
    def pushing(self, run: str) -> Iterator[None]:
        """Within it, a run's files are copied every few seconds, and at the end."""
        if not self.is_remote:
            yield
            return
        ended = threading.Event()

        def keep_on() -> None:
            while not ended.wait(EVERY):
                with suppress(OSError):  # the next time, or at the end
                    self.push(run)

        thread = threading.Thread(target=keep_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.push(run)

    def _bring(self, there: str, about: dict[str, Any]) -> None:
        here, when = self._name_here(there), _find_time(about)
        here.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=here.parent, prefix=f".{here.name}.")
        os.close(handle)
        with self._reaching():
            self._fs.get_file(there, part)
        if when is not None:  # signs of life are told by it
            os.utime(part, (when, when))
        os.replace(part, here)
        found = here.stat()
        self._sent[here] = (found.st_size, found.st_mtime_ns)

    def _list_there(self, run: str) -> dict[str, dict[str, Any]]:
        root = f"{self._root}/{run}".rstrip("/")
        self._fs.invalidate_cache()
        with suppress(FileNotFoundError), self._reaching():
            found: dict[str, dict[str, Any]] = self._fs.find(root, detail=True)
            return found
        return {}

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Within it, whatever an address's package raises is an OSError that says the address."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            why = str(error).partition("\n")[0] or type(error).__name__
            raise OSError(f"{self.address} cannot be reached ({why})") from error

    def _list_here(self, run: str) -> list[Path]:
        own = self.folder / run
        files = [own] if own.is_file() else [path for path in own.rglob("*") if path.is_file()]
        return [path for path in files if path.name == OWNER or not path.name.startswith(".")]

    def _name_here(self, there: str) -> Path:
        return self.folder / there.removeprefix(self._root).lstrip("/")

    def _name_there(self, path: Path) -> str:
        return f"{self._root}/{path.relative_to(self.folder).as_posix()}"


def _find_time(about: dict[str, Any]) -> float | None:
    """When a file at an address was written, if that is told."""
    names = ("mtime", "LastModified", "last_modified", "updated", "created")
    when = next((about[name] for name in names if about.get(name)), None)
    when = when.timestamp() if isinstance(when, datetime) else when
    return float(when) if isinstance(when, int | float) else None
