"""What a worker does: one point, from its files to its files."""

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from prunelab.experiments.notebooks import NotebookFailed, interrupt_kernels
from prunelab.experiments.sweep.points import RECIPES, Point
from prunelab.experiments.sweep.storage import Place
from prunelab.utils.tensors import write_whole

FAILED = "failed.json"
AGAIN = 15.0  # seconds after which a kernel that was interrupted is so once more
_stopped: set[str] = set()  # sweeps that were asked to stop, on this worker
_interrupted: dict[int, float] = {}  # kernels, and when
_lock = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """How a point ended.

    state: done, failed, died (its kernel or its worker did: it may be tried again) or stopped.
    """

    state: str
    error: str = ""
    notebook: str = ""
    seconds: float = 0.0


def run_point(point: Point, address: str, sweep: str) -> Outcome:
    """Run a point to its end, going on from what is there.

    sweep: of which it is a part, for `stop_points`.
    """
    # Dask asks for it: memory is given back at once, and what trains takes it again at every step
    os.environ.pop("MALLOC_TRIM_THRESHOLD_", None)
    place = Place(address, role="work")
    began = time.monotonic()
    for run in filter(None, (RECIPES, point.baseline)):
        place.pull(run)
    place.pull(point.key, exactly=True)
    folder = place.folder / point.key
    (folder / FAILED).unlink(missing_ok=True)
    replay = point.replay(place.folder)
    state, error, notebook = "done", "", ""
    if not replay.is_done:
        with place.pushing(point.key):
            try:
                if sweep in _stopped:
                    raise KeyboardInterrupt
                # one left by a worker that was lost is not alive for long
                notebook = str(replay.run(wait=True, show=False))
            except KeyboardInterrupt as stop:
                return Outcome("stopped", type(stop).__name__)
            except NotebookFailed as failure:
                state = "died" if failure.died else "failed"
                error, notebook = failure.what, str(failure.notebook)
            except (ValueError, OSError) as failure:
                state, error = "failed", str(failure)
            if error:
                note_failure(folder, error, notebook)
    if state == "done" and not point.for_others:
        place.forget(point.key)
    return Outcome(state, error, notebook, time.monotonic() - began)


def note_failure(folder: Path, error: str, notebook: str) -> None:
    """Keep what went wrong with a point in its folder."""
    about = {"error": error, "notebook": notebook, "when": f"{time.strftime('%F %T')}"}
    write_whole(folder / FAILED, json.dumps(about, indent=1))


def stop_points(sweep: str) -> None:
    """Let the points of a sweep that run in this process save and stop, and begin no other."""
    with _lock:
        _stopped.add(sweep)
        recent = [pid for pid, when in _interrupted.items() if time.monotonic() - when < AGAIN]
        for pid in interrupt_kernels(but=recent):
            _interrupted[pid] = time.monotonic()
