"""One owner for a folder at a time: who writes there says so, and others wait or end.

The owner is a file that one process makes and touches every few seconds, so that one left by a
process that was killed is known for what it is, also on a disk that several machines share. What
a process starts works for it, and is no other owner.
"""

import atexit
import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psutil

NAME = ".owner.json"
TOUCH = 5.0  # seconds between two signs of life
DEAD = 60.0  # seconds without one, after which an owner on another machine is taken for dead
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)  # of some disks


class Held(OSError):
    """A folder has another owner."""


@dataclass(frozen=True)
class Owner:
    """A process that works in a folder."""

    host: str
    pid: int
    began: float  # when the process did: a later one may have the same number
    since: str

    @classmethod
    def me(cls) -> "Owner":
        """This process, from now on."""
        began = psutil.Process().create_time()
        return cls(socket.gethostname(), os.getpid(), began, f"{datetime.now():%Y-%m-%d %H:%M:%S}")

    def is_above(self) -> bool:
        """Whether this process was started by it, or is it."""
        mine = [psutil.Process(), *psutil.Process().parents()]
        own = {(process.pid, process.create_time()) for process in mine}
        return self.host == socket.gethostname() and (self.pid, self.began) in own

    def is_dead(self, path: Path) -> bool:
        """Whether it has ended; path: of its file."""
        try:
            if self.host == socket.gethostname():
                return psutil.Process(self.pid).create_time() != self.began
            return _now(path.parent) - path.stat().st_mtime > DEAD
        except (psutil.Error, FileNotFoundError):
            return True


_uses: dict[Path, int] = {}  # of folders that this process owns: how many times it does
_lock = threading.RLock()
_process = 0  # whose these are: a fork has none


@contextmanager
def owning(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Own a folder for a while; a process may own it several times over.

    wait: until another owner has ended; else Held says who it is.
    """
    release = own(folder, wait=wait)
    try:
        yield
    finally:
        release()


def own(folder: Path, *, wait: bool = False) -> Callable[[], None]:
    """Own a folder until what is returned is called; as `owning`."""
    global _process
    folder = folder.resolve()
    with _lock:
        if _process != os.getpid():
            _uses.clear()
            _process = os.getpid()
        if folder not in _uses and not _take(folder, wait):
            return lambda: None  # who started this process owns it
        _uses[folder] = _uses.get(folder, 0) + 1
        if sum(_uses.values()) == 1:
            threading.Thread(target=_touch, args=[_process], daemon=True).start()
    left = [folder]

    def release() -> None:
        with _lock:
            # at the end of a process all is given up, before or after this
            if not left or _process != os.getpid() or folder not in _uses:
                return
            _uses[left.pop()] -= 1
            if not _uses[folder]:
                del _uses[folder]
                (folder / NAME).unlink(missing_ok=True)

    return release


def _take(folder: Path, wait: bool) -> bool:
    """Make the owner's file; False where one above us has."""
    folder.mkdir(parents=True, exist_ok=True)
    path, said = folder / NAME, False
    while not _create(path):
        owner = _read(path)
        if owner is None or _is_gone(owner, path):
            _remove(path, owner)
            continue
        if owner.is_above():
            return False
        who = f"process {owner.pid} on {owner.host}, since {owner.since}"
        if not wait:
            raise Held(f"{folder} is in use by {who}: let it end, or wait for it (--wait)")
        if not said:
            print(f"waiting for {who}, which works in {folder}", flush=True)
        said = True
        time.sleep(1)
    return True


def _is_gone(owner: Owner, path: Path) -> bool:
    """Whether an owner has ended; one elsewhere, by a second look: a clock may have jumped."""
    if owner.host == socket.gethostname():
        return owner.is_dead(path)
    try:
        before = path.stat().st_mtime_ns
        if abs(_now(path.parent) - before / 1e9) <= DEAD:
            return False
        time.sleep(2 * TOUCH)
        return path.stat().st_mtime_ns == before
    except FileNotFoundError:
        return True


def _create(path: Path) -> bool:
    """Make the owner's file, whole, unless there is one."""
    text = json.dumps(asdict(Owner.me()))
    whole = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        whole.write_text(text, encoding="utf-8")
    except OSError as error:
        whole.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"{path.parent} cannot be written to ({error.strerror})"
        ) from error
    try:
        os.link(whole, path)  # fails where the name is taken, also over a network
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            return False
    finally:
        whole.unlink()
    return True


def _read(path: Path) -> Owner | None:
    """Who owns it; None where it was just given up, or the file is none of ours."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def find_owner(folder: Path) -> Owner | None:
    """Who works in a folder now; None where no one does."""
    owner = _read(folder / NAME)
    return None if owner is None or owner.is_dead(folder / NAME) else owner


def _remove(path: Path, owner: Owner | None) -> None:
    """Take a dead owner's file away; of several who try, one does."""
    grave = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        os.rename(path, grave)
    except FileNotFoundError:
        return
    if _read(grave) == owner:
        grave.unlink()
    else:  # another process was faster, and this is its own
        os.rename(grave, path)


def _now(folder: Path) -> float:
    """The time by the clock of the disk, which may be another machine's."""
    mark = folder / f"{NAME}.{uuid.uuid4().hex}"
    try:
        mark.touch()
    except OSError:  # one who may only read
        return time.time()
    try:
        return mark.stat().st_mtime
    finally:
        mark.unlink()


def _touch(process: int) -> None:
    """Signs of life, as long as something is owned."""
    while True:
        time.sleep(TOUCH)
        with _lock:
            if not _uses or _process != process:
                return
            folders = list(_uses)
        for folder in folders:
            with suppress(OSError):
                os.utime(folder / NAME)


@atexit.register
def _give_up() -> None:
    with _lock:
        if _process == os.getpid():
            for folder in _uses:
                (folder / NAME).unlink(missing_ok=True)
            _uses.clear()
