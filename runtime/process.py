"""Orderly start and stop: SIGTERM and SIGINT set an event that service loops look at."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

import structlog

from schemas.errors import BrokerUnavailable, DatabaseUnavailable

log = structlog.get_logger(__name__)
Result = TypeVar("Result")


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


def patiently(step: Callable[[], Result], stop: StopSignal) -> Result:
    """Return what `step` gives, waiting for a Kafka or a database that is not there yet.

    Raises:
        SystemExit: it was asked to stop meanwhile.
    """
    while True:
        try:
            return step()
        except (BrokerUnavailable, DatabaseUnavailable) as error:
            log.warning("waiting", reason=str(error))
            if stop.wait(1.0):
                raise SystemExit(0) from error
