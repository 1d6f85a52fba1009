"""Long work beside the widgets: in a thread, one at a time, with progress; it can be stopped."""

import ctypes
import gc
import sys
import threading
import time
import traceback
from collections.abc import Callable
from html import escape

import ipywidgets as widgets
import traitlets

from prunelab.utils.progress import Report

REDRAW_SECONDS = 0.1  # between two movements of a bar


class Job(traitlets.HasTraits):
    """Work that runs in a thread and tells how far it is.

    Args:
        work: called with `report(done, total)`, which it must call often, and which raises
            KeyboardInterrupt when the job is to stop; it returns what to say at the end. What it
            raises is said instead.
        desk: a lock that jobs share: only one runs at a time.

    Attributes:
        running: whether it is at work (a trait, like the others).
        at: how much is done, and of how much.
        message: what was said at its end.
    """

    running = traitlets.Bool(False)
    at = traitlets.Tuple()
    message = traitlets.Unicode()

    def __init__(self, work: Callable[[Report], str], desk: threading.Lock) -> None:
        super().__init__()
        self._work, self._desk, self.at = work, desk, (0, 0)
        self._stop, self._moved = threading.Event(), 0.0
        self._thread: threading.Thread | None = None
        self.started = 0.0

    def start(self) -> bool:
        """Start the work, unless another job is at it; whether it was started."""
        if not self._desk.acquire(blocking=False):
            self.message = "Something else is running: wait for it, or stop it."
            return False
        self._stop.clear()
        self.started = time.monotonic()
        self.at, self.message, self.running = (0, 0), "", True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return True

    def stop(self) -> None:
        """Ask it to stop; it does at the next report."""
        self._stop.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        if self._thread:
            self._thread.join(timeout)

    def report(self, done: int, total: int) -> None:
        """How far the work is; KeyboardInterrupt when it is to stop."""
        if self._stop.is_set():
            raise KeyboardInterrupt("stopped")
        if time.monotonic() - self._moved > REDRAW_SECONDS or done == total:
            self._moved, self.at = time.monotonic(), (done, total)

    def _run(self) -> None:
        try:
            message = self._work(self.report)
        except KeyboardInterrupt as error:
            message = as_sentence(error) or "Stopped."
        except (ValueError, OSError) as error:
            message = as_sentence(error)
        except Exception as error:  # a fault of ours: said, and printed whole in the log
            traceback.print_exc()
            message = f"{type(error).__name__}: {error}"
        finally:
            self._desk.release()
        self.message, self.running = message, False
        give_back_memory()


def give_back_memory() -> None:
    """Return what was freed to the system: glibc keeps it for the thread that had it."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim:
            trim(0)


def as_sentence(error: BaseException) -> str:
    """What an error says, with a full stop and a capital, unless it begins with a name."""
    text = str(error)
    end = "" if not text or text.endswith((".", "!", "?")) else "."
    if text.split(" ", 1)[0].isalpha():
        text = text[0].upper() + text[1:]
    return text + end


class JobBar(widgets.HBox):
    """A job's start and stop buttons, its bar, and what it says.

    unit: what is counted, "images" say.
    """

    def __init__(
        self,
        job: Job,
        label: str,
        *,
        help: str = "",
        unit: str = "",
        options: tuple[widgets.Widget, ...] = (),
    ) -> None:
        self.job, self.unit = job, unit
        self.start = widgets.Button(
            description=label, button_style="primary", tooltip=help, layout={"width": "110px"}
        )
        self.stop = widgets.Button(
            description="Stop",
            icon="stop",
            tooltip="what is done so far is kept",
            layout={"width": "76px", "display": "none"},
        )
        self.bar = widgets.FloatProgress(max=1.0, layout={"width": "120px", "display": "none"})
        self.text = widgets.HTML(layout={"flex": "1 1 220px", "min_width": "0"})
        self.start.on_click(lambda _: job.start())
        self.stop.on_click(lambda _: job.stop())
        job.observe(self._follow, ["running", "at", "message"])
        super().__init__(
            [self.start, self.stop, *options, self.bar, self.text],
            layout={"flex_flow": "row wrap", "align_items": "center"},
        )

    def _follow(self, change: dict[str, object]) -> None:
        job, (done, total) = self.job, self.job.at
        self.start.disabled = job.running
        self.stop.layout.display = self.bar.layout.display = "" if job.running else "none"
        self.bar.value = done / max(total, 1)
        said = job.message
        if job.running and total:
            said = f"{done:,} of {total:,} {self.unit}".rstrip() + self._left(done, total)
        self.text.value = f'<span style="line-height:1.4">{escape(said)}</span>'

    def _left(self, done: int, total: int) -> str:
        """The time left, once it can be guessed."""
        spent = time.monotonic() - self.job.started
        if spent < 1 or not 0 < done < total:
            return ""
        return f", {say_seconds(spent * (total - done) / done)} left"


def say_seconds(seconds: float) -> str:
    """A time for reading: "40 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
