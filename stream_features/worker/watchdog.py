"""Finds a worker that stands still while records wait for it, as consumers did after rebalances.

`run` asks it every few seconds and restarts the process if it must.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from runtime.kafka.protocols import TopicPartition
from runtime.metrics import Metrics
from schemas.errors import TemporaryError

STALL_S: Final = 30.0


class Watched(Protocol):
    """What the watchdog sees of a worker."""

    cursors: dict[TopicPartition, int]

    def holds(self, partition: int) -> bool:
        """Whether transactions of this partition number were read and not yet committed."""

    def held_by_others(self) -> bool:
        """Whether it waits on purpose, for workers that are further back in event time."""


class Watchdog:
    """Compares log ends with cursors over time. `look` blocks; call it from one thread.

    Args:
        ping: returns if the store answers; raises TemporaryError.
        ends: the broker's own log ends of the partitions of a worker; raises TemporaryError.
        fetched: the consumer's positions: behind a log end there may be nothing but gaps.
        monotonic: seconds.
    """

    def __init__(
        self,
        worker: Watched,
        *,
        ping: Callable[[], None],
        ends: Callable[[], Mapping[TopicPartition, int]],
        fetched: Callable[[], Mapping[TopicPartition, int]],
        metrics: Metrics,
        monotonic: Callable[[], float],
        stall_s: float = STALL_S,
    ) -> None:
        self.unreachable = ""
        """Why store or broker do not answer, "" if they do."""
        self._worker, self._ping, self._ends, self._fetched = worker, ping, ends, fetched
        self._metrics, self._monotonic, self._stall_s = metrics, monotonic, stall_s
        self._still: dict[TopicPartition, tuple[int, float]] = {}

    def look(self) -> str:
        """Return "" or which partitions stand still; also keeps the lag gauges."""
        self.unreachable, ends = self._asked()
        cursors = dict(self._worker.cursors)
        if ends is not None:
            self._show_lag(cursors, ends)
        if ends is None or self.unreachable:
            self._still.clear()
            return ""
        fetched, now = self._fetched(), self._monotonic()
        stalled = []
        for at, cursor in cursors.items():
            end = ends.get(at, 0)
            waiting = fetched.get(at, 0) < end or self._worker.holds(at.partition)
            if end <= cursor or not waiting or self._worker.held_by_others():
                self._still.pop(at, None)
                continue
            seen, since = self._still.get(at, (cursor, now))
            self._still[at] = (cursor, since if seen == cursor else now)
            if now - self._still[at][1] >= self._stall_s:
                stalled.append(f"{at.topic}[{at.partition}] at {cursor} of {end}")
        for at in self._still.keys() - cursors.keys():
            del self._still[at]
        return ", ".join(stalled)

    def _asked(self) -> tuple[str, Mapping[TopicPartition, int] | None]:
        """Return why store or broker do not answer, and the log ends if the broker does."""
        reason, ends = "", None
        try:
            self._ping()
        except TemporaryError as error:
            reason = str(error)
        self._metrics.set("reachable", 0 if reason else 1, dependency="redis")
        try:
            ends = self._ends()
        except TemporaryError as error:
            reason = reason or str(error)
        self._metrics.set("reachable", 0 if ends is None else 1, dependency="kafka")
        return reason, ends

    def _show_lag(
        self, cursors: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> None:
        self._metrics.forget("lag")
        for at, cursor in cursors.items():
            lag = max(ends.get(at, 0) - max(cursor, 0), 0)
            self._metrics.set("lag", lag, topic=at.topic, partition=str(at.partition))
