"""Detects a worker that makes no progress although records are waiting.

Consumers have hung like this after rebalances; only a restart of the process helps then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from runtime.kafka.protocols import TopicPartition
from runtime.metrics import Metrics
from schemas.errors import TemporaryError

STALL_S: Final = 30.0
"""How long a partition may stand still before the watchdog reports it."""


class WatchedWorker(Protocol):
    """The part of a worker that the watchdog looks at."""

    cursors: dict[TopicPartition, int]

    def holds(self, partition: int) -> bool:
        """Return whether uncommitted transactions of a partition number are waiting."""

    def held_by_others(self) -> bool:
        """Return whether it is waiting for workers that are further back in event time."""


class Watchdog:
    """Compares log ends with cursors over time. `look` blocks; use it from one thread.

    Args:
        look_at_store: returns what is wrong with a store that answers, or "", and otherwise raises
            TemporaryError.
        ends: asks the broker for the log ends; may raise TemporaryError.
        fetched: returns the consumer's positions. A cursor below the log end is not a stall if the
            consumer has passed the rest, which then consists of gaps.
        monotonic: returns seconds.
    """

    def __init__(
        self,
        worker: WatchedWorker,
        *,
        look_at_store: Callable[[], str],
        ends: Callable[[], Mapping[TopicPartition, int]],
        fetched: Callable[[], Mapping[TopicPartition, int]],
        metrics: Metrics,
        monotonic: Callable[[], float],
        stall_s: float = STALL_S,
    ) -> None:
        self.unreachable = ""
        """The reason why the store or the broker is unreachable, or ""."""
        self.store_fault = ""
        """What is wrong with the store although it answers, or ""."""
        self._worker, self._look_at_store = worker, look_at_store
        self._ends, self._fetched = ends, fetched
        self._metrics, self._monotonic, self._stall_s = metrics, monotonic, stall_s
        self._still: dict[TopicPartition, tuple[int, float]] = {}

    def look(self) -> str:
        """Return the stalled partitions as text, or ""; also updates the lag gauges."""
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
        """Return why the store or broker is unreachable, and the log ends or None."""
        reason, ends = "", None
        try:
            self.store_fault = self._look_at_store()
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
