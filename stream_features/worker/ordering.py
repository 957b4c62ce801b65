"""Event order across the partitions of one worker, as pure functions.

Within a partition, rows keep their offset order. Across partitions the lowest head goes first, by
(event_time, length of transaction_id, transaction_id). A merge stops at a partition whose next
record has not arrived yet, since it would have to guess the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

NO_TIME: Final = -(2**63)
"""The event time of a refused record, which passes as soon as it heads its partition."""
NO_LIMIT: Final = 2**63 - 1
SLACK_MS: Final = 60_000
"""How far a worker that catches up may be ahead of the slowest one, in event time."""
MAX_WAIT_S: Final = 15.0
"""How long a merge waits for records that Kafka is known to have. It is longer than a broker restart
or a change of leader takes, and shorter than the watchdog waits."""
MAX_STEP_S: Final = 0.1
"""The most that one step adds to that wait. While the store is away or the process is suspended,
nothing polls Kafka, and that time must not count."""

RowNumbers = npt.NDArray[np.int64]


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
) -> RowNumbers:
    """Return the rows that may be processed now, in event order.

    Args:
        time: event times in ms, shape (n,); NO_TIME for a refused record.
        ids: n transaction ids.
        partition: dense partition numbers 0..k-1, shape (n,); rows of one partition are in offset
            order.
        unread: bool, shape (k,): more records of the partition are to come, so nothing may pass it.

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
    merged: RowNumbers = _merge(time, buffer, spans, rows, stops - counts, stops, unread)
    return merged


@dataclass(slots=True)
class HoldBack:
    """Decides which partitions a merge must wait for, each for at most `max_wait` seconds.

    Times are seconds of any monotonic clock, passed in by the caller.
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
        counts as unread), `buffered` the partitions that have rows here. The wait of a partition
        counts only while it has no rows here, because only then is the merge held up.
        """
        here = set(buffered)
        passed, self._looked = min(now - self._looked, MAX_STEP_S), now
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
        """Partitions whose wait had run out at the last call of `unread`."""
        return frozenset(n for n, waited in self._waited.items() if waited >= self.max_wait)


def watermark_limit(lagging: bool, peers: Iterable[int], slack_ms: int = SLACK_MS) -> int:
    """Return the greatest event time this worker may process.

    `peers` are the event times of the other lagging workers. The result is NO_LIMIT if this
    worker does not lag, or if no other does.
    """
    slowest = min(peers, default=NO_LIMIT)
    return slowest + slack_ms if lagging and slowest < NO_LIMIT - slack_ms else NO_LIMIT
