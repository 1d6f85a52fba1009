"""Stopping long work: a signal is noted, and obeyed between two steps, where nothing is lost."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # of a person, and of a batch scheduler


class Terminated(KeyboardInterrupt):
    """Work was stopped by SIGTERM."""


class Stops:
    """Whether one was asked to stop, and by which signal."""

    asked: int | None = None

    def obey(self) -> None:
        """Raise KeyboardInterrupt, or Terminated, if one was asked to stop."""
        if self.asked is not None:
            raise Terminated if self.asked == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def noting_stops(
    on_stop: Callable[[], object] | None = None, *, able: bool = True
) -> Iterator[Stops]:
    """Within it, SIGINT and SIGTERM are noted, and `obey` obeys; asked twice, one stops at once.

    A signal that was ignored before still is. Other threads than the main one get no signals.
    on_stop: called when one is asked. able: False leaves signals as they are.
    """
    stops = Stops()

    def note(number: int, _: FrameType | None) -> None:
        again = stops.asked is not None
        stops.asked = number
        if again:
            stops.obey()
        if on_stop:
            on_stop()

    own = {}
    if able and threading.current_thread() is threading.main_thread():
        own = {n: handler for n in SIGNALS if (handler := signal.getsignal(n)) != signal.SIG_IGN}
    try:
        for number in own:
            signal.signal(number, note)
        yield stops
    finally:
        for number, handler in own.items():
            signal.signal(number, handler or signal.SIG_DFL)
