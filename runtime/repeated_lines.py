"""Log lines that anybody could cause in masses: one at once, then one in a while with a count."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

EVERY_S: Final = 10.0
MAX_KINDS: Final = 100


class RepeatedLines:
    """Says which lines are to be written, one every `every_s` of each kind.

    >>> lines = RepeatedLines(10.0, iter((0.0, 1.0, 2.0, 12.0)).__next__)
    >>> [lines.due("refused") for _ in range(4)]
    [0, None, None, 2]
    """

    def __init__(
        self, every_s: float = EVERY_S, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s, self._now = every_s, monotonic_s
        self._kinds: dict[str, tuple[float, int]] = {}

    def due(self, kind: str) -> int | None:
        """Return how many lines were left out since the last one, or None to leave this one out.

        `kind` must be one of a few: each is remembered.
        """
        now = self._now()
        written, left_out = self._kinds.get(kind, (None, 0))
        if written is not None and now - written < self._every_s:
            self._kinds[kind] = (written, left_out + 1)
            return None
        self._kinds[kind] = (now, 0)
        return left_out


class RepeatedRecords(logging.Filter):
    """A filter for a logger of the standard library: equal texts are written once in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = RepeatedLines()
        self._kinds: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record. Errors with a traceback are always written."""
        if record.exc_info:
            return True
        kind = str(record.msg)
        if len(self._kinds) < MAX_KINDS:
            self._kinds.add(kind)
        more = self._lines.due(kind if kind in self._kinds else "other")
        if more:
            record.msg = f"{record.msg} ({more} more since the last line)"
        return more is not None
