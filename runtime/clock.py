"""Time as ms since the epoch (UTC), injected wherever it is read, so that tests can set it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now_ms(self) -> int:
        """Return ms since the epoch, UTC."""

    def now_us(self) -> int:
        """Return microseconds since the epoch, UTC."""


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Return ms since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def now_us(self) -> int:
        """Return microseconds since the epoch, UTC."""
        return time.time_ns() // 1_000


class ManualClock:
    """A clock that stands still until moved; for tests and replay."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Return the time to which it was set."""
        return self._now_ms

    def now_us(self) -> int:
        """Return that time in microseconds."""
        return self._now_ms * 1_000

    def advance(self, ms: int) -> None:
        """Move on by `ms`."""
        self._now_ms += ms
