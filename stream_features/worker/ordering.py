"""Event order across the partitions of one worker: pure functions; the batch cycle calls them.

Within a partition the order is that of its offsets. Across partitions the lowest head goes first,
by (event_time, length of transaction_id, transaction_id). A merge stops where it would have to
guess: at a partition whose next record is not here yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

NO_TIME: Final = -(2**63)
"""Event time of a rejected record: it passes as soon as it is the head of its partition."""
NO_LIMIT: Final = 2**63 - 1
SLACK_MS: Final = 60_000
"""How far (event time) a worker in catch-up may be ahead of the slowest one."""
MAX_WAIT_S: Final = 15.0
"""How long a merge waits for records that Kafka is known to have: longer than a broker restarts or a
partition changes its leader, shorter than the watchdog's patience."""
LOOK_S: Final = 0.1
"""Longest part of that wait that counts from one look to the next: while a store is away or the
process stands still, nobody asks Kafka for records."""

Rows = npt.NDArray[np.int64]


@njit(cache=True)
def _earlier(time, ids, spans, left, right):  # type: ignore[no-untyped-def]  # pragma: no cover
    if time[left] != time[right]:
        return time[left] < time[right]
    left_size = spans[left + 1] - spans[left]
    right_size = spans[right + 1] - spans[right]
    if left_size != right_size:
        return left_size < right_size
    for place in range(left_size):
        a = ids[spans[left] + place]
        b = ids[spans[right] + place]
        if a != b:
            return a < b
    return False


@njit(cache=True)
def _merge(time, ids, spans, rows, heads, stops, unread):  # type: ignore[no-untyped-def]  # pragma: no cover
    out = np.empty(len(rows), np.int64)
    count = 0
    partitions = len(heads)
    while True:
        best = -1
        for partition in range(partitions):
            if heads[partition] == stops[partition]:
                if unread[partition]:
                    return out[:count]
            elif best < 0 or _earlier(time, ids, spans, rows[heads[partition]], rows[heads[best]]):
                best = partition
        if best < 0:
            return out[:count]
        out[count] = rows[heads[best]]
        count += 1
        heads[best] += 1


def merge_by_heads(
    time: npt.NDArray[np.int64],
    ids: Sequence[bytes],
    partition: npt.NDArray[np.int64],
    unread: npt.NDArray[np.bool_],
) -> Rows:
    """Return the rows that may be processed now, in order; the others stay buffered.

    Args:
        time: event times in ms, shape (n,); NO_TIME for a rejected record.
        ids: n transaction ids.
        partition: dense partition numbers 0..k-1, shape (n,); rows of one partition stand in offset
            order.
        unread: shape (k,): the partition has records beyond those given, so nothing may pass it.

    >>> merge_by_heads(np.array([5, 9, 7]), [b"a", b"b", b"c"], np.array([0, 0, 1]),
    ...                np.array([False, True])).tolist()
    [0, 2]
    """
    rows = np.argsort(partition, kind="stable")
    counts = np.bincount(partition, minlength=len(unread))
    stops = np.cumsum(counts)
    spans = np.zeros(len(ids) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, ids), np.int64, len(ids)), out=spans[1:])
    buffer = np.frombuffer(b"".join(ids) or b"\0", np.uint8)
    merged: Rows = _merge(time, buffer, spans, rows, stops - counts, stops, unread)
    return merged


@dataclass(slots=True)
class HoldBack:
    """Which partitions must be waited for; the wait for one that sends nothing is bounded.

    `now` is any monotonic clock in seconds, injected by the caller.
    """

    max_wait: float = MAX_WAIT_S
    _waited: dict[int, float] = field(default_factory=dict)
    _looked: float = 0.0

    def unread(
        self,
        positions: Mapping[int, int],
        ends: Mapping[int, int],
        buffered: Iterable[int],
        now: float,
    ) -> frozenset[int]:
        """Return the partitions with records in Kafka beyond `positions` that block a merge.

        `positions` are the next offsets to read, `ends` the known log ends (a partition without one
        counts as unread), `buffered` the partitions that have rows here. The clock of a partition
        runs only while it has no rows, because only then does anything wait for it.
        """
        here = set(buffered)
        passed, self._looked = min(now - self._looked, LOOK_S), now
        blocking: set[int] = set()
        silent: dict[int, float] = {}
        for partition, position in positions.items():
            end = ends.get(partition)
            if end is not None and position >= end:
                continue
            if partition in here:
                blocking.add(partition)
                continue
            before = self._waited.get(partition)
            silent[partition] = 0.0 if before is None else before + passed
            if silent[partition] < self.max_wait:
                blocking.add(partition)
        self._waited = silent
        return frozenset(blocking)

    @property
    def overdue(self) -> frozenset[int]:
        """Partitions that are no longer waited for, as of the last look."""
        return frozenset(n for n, waited in self._waited.items() if waited >= self.max_wait)


def watermark_limit(lagging: bool, peers: Iterable[int], slack_ms: int = SLACK_MS) -> int:
    """Return the greatest event time this worker may process.

    `peers` are the event times of the other workers that lag; without a backlog of our own, or
    without lagging peers, there is no limit.
    """
    slowest = min(peers, default=NO_LIMIT)
    return slowest + slack_ms if lagging and slowest < NO_LIMIT - slack_ms else NO_LIMIT
