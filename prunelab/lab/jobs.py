"""Long work beside the widgets: in a thread, one at a time, with progress; it can be stopped."""

import threading
import time
import traceback
from collections.abc import Callable
from html import escape

import ipywidgets as widgets
import traitlets

Report = Callable[[int, int], None]
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
        done: how far it is, a fraction.
        message: what was said at its end.
    """

    running = traitlets.Bool(False)
    done = traitlets.Float(0.0)
    message = traitlets.Unicode()

    def __init__(self, work: Callable[[Report], str], desk: threading.Lock) -> None:
        super().__init__()
        self._work, self._desk = work, desk
        self._stop, self._moved = threading.Event(), 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Start the work, unless another job is at it; whether it was started."""
        if not self._desk.acquire(blocking=False):
            self.message = "Something else is running: wait for it, or stop it."
            return False
        self._stop.clear()
        self.done, self.message, self.running = 0.0, "", True
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
            self._moved, self.done = time.monotonic(), done / max(total, 1)

    def _run(self) -> None:
        try:
            message = self._work(self.report)
        except KeyboardInterrupt as error:
            message = _sentence(str(error) or "stopped")
        except (ValueError, OSError) as error:
            message = _sentence(str(error))
        except Exception as error:  # a fault of ours: said, and printed whole in the log
            traceback.print_exc()
            message = f"{type(error).__name__}: {error}"
        finally:
            self._desk.release()
        self.message, self.running = message, False


def _sentence(text: str) -> str:
    end = "" if text.endswith((".", "!", "?")) else "."
    return text[:1].upper() + text[1:] + end


class JobBar(widgets.HBox):
    """A job's start and stop buttons, its bar, and what it says."""

    def __init__(
        self, job: Job, label: str, *, help: str = "", options: tuple[widgets.Widget, ...] = ()
    ) -> None:
        self.job = job
        self.start = widgets.Button(
            description=label, button_style="primary", tooltip=help, layout={"width": "160px"}
        )
        self.stop = widgets.Button(
            description="Stop", icon="stop", disabled=True, layout={"width": "80px"}
        )
        self.bar = widgets.FloatProgress(max=1.0, layout={"width": "120px", "display": "none"})
        self.text = widgets.HTML(layout={"flex": "1 1 260px"})
        self.start.on_click(lambda _: job.start())
        self.stop.on_click(lambda _: job.stop())
        job.observe(self._follow, ["running", "done", "message"])
        super().__init__(
            [self.start, self.stop, *options, self.bar, self.text],
            layout={"flex_flow": "row wrap", "align_items": "center"},
        )

    def _follow(self, change: dict[str, object]) -> None:
        job = self.job
        self.start.disabled, self.stop.disabled = job.running, not job.running
        self.bar.layout.display = "" if job.running else "none"
        self.bar.value = job.done
        self.text.value = f'<span style="line-height:1.4">{escape(job.message)}</span>'
