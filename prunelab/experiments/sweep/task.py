"""What a worker does: one point, from its files to its files."""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from prunelab.experiments.notebooks import AGAIN, NotebookFailed, interrupt_kernels
from prunelab.experiments.sweep.points import RECIPES, Point
from prunelab.experiments.sweep.storage import Place
from prunelab.utils.ownership import NAME as OWNER
from prunelab.utils.ownership import owning
from prunelab.utils.seals import write_note

FAILED = "failed.json"
_stopped: set[str] = set()  # sweeps that were asked to stop, on this worker
_interrupted: dict[int, float] = {}  # kernels, and when
_running: dict[str, str] = {}  # {point: its sweep}, in this process
_lock = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """How a point ended.

    state: done, failed, died (its kernel or its worker did: it may be tried again) or stopped.
    """

    state: str
    error: str = ""
    notebook: str = ""


def run_point(point: Point, address: str, sweep: str) -> Outcome:
    """Run a point to its end, going on from what is there.

    sweep: of which it is a part, for `stop_points`.
    """
    # Dask asks for it: memory is given back at once, and what trains takes it again at every step
    os.environ.pop("MALLOC_TRIM_THRESHOLD_", None)
    place = Place(address, role="work")
    try:
        for run in filter(None, (RECIPES, point.baseline)):
            place.pull(run)
        # an owner that was lost is not taken for alive for long
        place.wait_for_owner(point.key)
        with place.pushing(point.key), owning(place.folder / point.key, wait=True):
            place.push(f"{point.key}/{OWNER}")
            place.pull(point.key, exactly=True)
            outcome = _run(point, place, sweep)
    except OSError as failure:  # a disk or an address that is away
        outcome = Outcome("died" if place.is_remote else "failed", str(failure))
    except Exception as failure:
        told = str(failure) if isinstance(failure, ValueError) else repr(failure)
        outcome = Outcome("failed", told)
    if outcome.state == "done" and not point.for_others:
        place.forget(point.key)
    return outcome


def _run(point: Point, place: Place, sweep: str) -> Outcome:
    folder = place.folder / point.key
    (folder / FAILED).unlink(missing_ok=True)
    replay = point.replay(place.folder)
    if replay.is_done:
        return Outcome("done")
    try:
        if sweep in _stopped:
            raise KeyboardInterrupt
        _running[point.key] = sweep
        replay.run(wait=True, show=False)
        return Outcome("done")
    except KeyboardInterrupt as stop:
        return Outcome("stopped", type(stop).__name__)
    except NotebookFailed as failure:
        note_failure(folder, failure.what, str(failure.notebook))
        state = "died" if failure.died else "failed"
        return Outcome(state, failure.what, str(failure.notebook))
    finally:
        _running.pop(point.key, None)


def note_failure(folder: Path, error: str, notebook: str) -> None:
    """Keep what went wrong with a point in its folder."""
    about = {"error": error, "notebook": notebook, "when": f"{time.strftime('%F %T')}"}
    write_note(folder / FAILED, about)


def stop_points(sweep: str) -> bool:
    """Let the points of a sweep that run in this process save and stop, and begin no other.

    Whether some still run: asked again, those that did not hear it are told again.
    """
    with _lock:
        _stopped.add(sweep)
        if sweep not in _running.values():
            return False
        recent = [pid for pid, when in _interrupted.items() if time.monotonic() - when < AGAIN]
        for pid in interrupt_kernels(but=recent):
            _interrupted[pid] = time.monotonic()
    return sweep in _running.values()
