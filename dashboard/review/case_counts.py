"""Counts of the review queue, cached for all open pages and the metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from database.core.database import Database
from database.review.cases import Counters, count_cases
from schemas.features import DAY

FRESH_S: Final = 2.0


class CaseCounts:
    """Counts that are at most `fresh_s` old. Thread-safe; a process shares one."""

    def __init__(
        self, fresh_s: float = FRESH_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._fresh_s, self._monotonic = fresh_s, monotonic
        self._turn = threading.Lock()
        self._found: Counters | None = None
        self._until = 0.0

    def get(self, database: Database, now_ms: int) -> Counters:
        """Return the counts; one thread queries while the others wait for it.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        with self._turn:
            if self._found is None or self._monotonic() >= self._until:
                with database.read() as connection:
                    self._found = count_cases(connection, now_ms, now_ms - now_ms % DAY)
                self._until = self._monotonic() + self._fresh_s
            return self._found

    def forget(self) -> None:
        """Make the next `get` count again, after a change by this process."""
        with self._turn:
            self._found = None
