"""The queue's figures for all open pages and the metrics: counted now and then, not by each."""

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
    """One a process, for several threads. Figures are at most `fresh_s` old."""

    def __init__(
        self, fresh_s: float = FRESH_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._fresh_s, self._monotonic = fresh_s, monotonic
        self._turn = threading.Lock()
        self._found: Counters | None = None
        self._until = 0.0

    def get(self, database: Database, now_ms: int) -> Counters:
        """Return the figures; one thread counts while the others wait for it.

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
        """Count anew when asked next: a person of this process has just changed them."""
        with self._turn:
            self._found = None
