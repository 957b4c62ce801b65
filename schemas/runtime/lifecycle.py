"""Orderly stop: SIGTERM and SIGINT set an event that service loops look at."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import structlog

log = structlog.get_logger(__name__)


class StopSignal:
    """Set once when the process is asked to stop. Create it in the main thread."""

    def __init__(self, *, install: bool = True) -> None:
        self._event = threading.Event()
        if install:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)

    def __bool__(self) -> bool:
        """Tell whether to stop."""
        return self._event.is_set()

    def set(self) -> None:
        """Ask for the stop from within, for example after a fatal error."""
        self._event.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait to be asked to stop; return whether that came."""
        return self._event.wait(timeout_s)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._event.is_set():
            # Asked twice: the loop hangs, so end the way the default handler would.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._event.set()
