"""Transactions between poll and engine: first as they arrived, then in event order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import structlog

from stream_features.worker.arrivals import Arrivals
from stream_features.worker.ordering import HoldBack, merge_by_heads

log = structlog.get_logger(__name__)


class ArrivalQueue:
    """Rows that were read and are not committed yet.

    `order` merges the partitions by event time as far as the order is certain and moves those rows
    to the ordered part, which `next` and `done` consume. Use it from one thread at a time.
    """

    def __init__(self, max_wait_s: float) -> None:
        self.read: dict[int, int] = {}
        """The next offset to read of each partition number owned."""
        self._hold = HoldBack(max_wait_s)
        self._overdue: frozenset[int] = frozenset()
        self._unordered: Arrivals | None = None
        self._ordered: Arrivals | None = None
        self._done = 0

    def __len__(self) -> int:
        """Return the number of waiting rows."""
        ordered = 0 if self._ordered is None else len(self._ordered) - self._done
        return ordered + (0 if self._unordered is None else len(self._unordered))

    def forget(self) -> None:
        """Drop all rows and all partitions."""
        self._unordered = self._ordered = None
        self._done = 0
        self.read.clear()

    def add(self, arrived: Arrivals) -> None:
        """Append rows, which must follow the earlier rows of their partitions."""
        self._unordered = arrived if self._unordered is None else self._unordered.join(arrived)

    def counts(self) -> dict[int, int]:
        """Return the number of waiting rows by partition number."""
        held = np.zeros(max(self.read, default=0) + 1, np.int64)
        if self._unordered is not None:
            held += np.bincount(self._unordered.partition, minlength=len(held))
        if self._ordered is not None:
            held += np.bincount(self._ordered.partition[self._done :], minlength=len(held))
        return dict(enumerate(held.tolist()))

    def order(self, ends: Mapping[int, int], now: float) -> bool:
        """Order as many rows as possible; return whether any row is ordered now.

        `ends` are the log ends by partition number, as far as known; `now` is monotonic, in
        seconds. Rows wait for partitions with unread records, but not for ever.
        """
        if self._ordered is not None:
            return True
        rows = self._unordered
        if rows is None:
            return False
        if len(self.read) == 1:  # nothing to merge
            self._ordered, self._done, self._unordered = rows, 0, None
            return True
        numbers = np.array(sorted(self.read), np.int64)
        here = np.unique(rows.partition).tolist()
        waiting = self._hold.unread(self.read, ends, here, now)
        self._warn_overdue(ends)
        due = merge_by_heads(
            rows.time,
            rows.ids,
            np.searchsorted(numbers, rows.partition),
            np.isin(numbers, list(waiting)),
        )
        if len(due) == 0:
            return False
        self._ordered, self._done = rows.take(due), 0
        left = np.ones(len(rows), np.bool_)
        left[due] = False
        rest: Any = np.flatnonzero(left)
        self._unordered = rows.take(rest) if len(rest) else None
        return True

    def _warn_overdue(self, ends: Mapping[int, int]) -> None:
        for number in sorted(self._hold.overdue - self._overdue):
            log.warning(
                "a partition delivers nothing: its records will be processed out of event order",
                partition=number,
                position=self.read[number],
                end=ends.get(number),
            )
        self._overdue = self._hold.overdue

    def head(self) -> tuple[int, int] | None:
        """Return event time and arrival time (ms) of the next row, or None if none is ordered."""
        if self._ordered is None:
            return None
        return int(self._ordered.time[self._done]), int(self._ordered.received_at[self._done])

    def next(self, limit: int, max_rows: int) -> Arrivals | None:
        """Return at most `max_rows` rows, up to the first whose event time exceeds `limit` (ms)."""
        if self._ordered is None:
            return None
        last = min(self._done + max_rows, len(self._ordered))
        beyond = np.flatnonzero(self._ordered.time[self._done : last] > limit)
        if len(beyond):
            last = self._done + int(beyond[0])
        return self._ordered.cut(self._done, last) if last > self._done else None

    def done(self, rows: int) -> None:
        """Drop the next `rows` ordered rows, which are committed."""
        self._done += rows
        if self._ordered is not None and self._done >= len(self._ordered):
            self._ordered = None
