"""Keeps workers that catch up close together in event time.

Otherwise one worker could add events to a merchant's state that lie in the future of the events
that another worker is still processing. A lagging worker publishes the event time of its next
record in the store and stays within a minute of the slowest other one. A worker at the live edge,
or one that owns every partition, has nothing to wait for and saves the round trip.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from runtime.feature_store.protocol import FeatureStore
from stream_features.worker.ordering import NO_LIMIT, NO_TIME, SLACK_MS, watermark_limit

INTERVAL_S: Final = 0.5
"""How often the watermarks of the others are fetched while nothing else demands it."""
PATIENCE_S: Final = 2.0
"""How long a lagging worker waits after an assignment to learn the owners of all partitions."""


class WatermarkAlignment:
    """The event-time limit of one worker. Calls may block for a round trip.

    Every method may raise StoreUnavailable.

    Args:
        worker: the unique name of the worker.
        partitions: the total number of partition numbers.
        monotonic: returns seconds.
    """

    def __init__(
        self, store: FeatureStore, worker: str, partitions: int, monotonic: Callable[[], float]
    ) -> None:
        self._store, self._worker, self._monotonic = store, worker, monotonic
        self._partitions = partitions
        self._name = ""
        self._owned: frozenset[int] = frozenset()
        self._assigned_at = 0.0
        self._asked_at = 0.0
        self._published = NO_TIME
        self._peers: dict[str, int] = {}

    def assign(self, owned: Collection[int]) -> None:
        """Withdraw the published watermark and start over with these partition numbers."""
        self.withdraw()
        self._owned = frozenset(owned)
        self._name = f"{self._worker}:{','.join(map(str, sorted(owned)))}"
        self._assigned_at = self._monotonic()
        self._asked_at = -INTERVAL_S
        self._peers = {}

    def withdraw(self) -> None:
        """Withdraw the published watermark, so that no worker waits for this one."""
        if self._name:
            self._store.exchange_watermark(self._name, None)
            self._name = ""

    def limit(self, head: int, lagging: bool) -> int:
        """Return the greatest event time that may be processed now.

        `head` is the event time (ms) of the next record, or `ordering.NO_TIME` if that one was
        refused and need not wait. `lagging` says whether this worker is catching up.
        """
        if len(self._owned) == self._partitions or not self._owned:
            return NO_LIMIT
        if lagging and head == NO_TIME:
            return NO_LIMIT
        now = self._monotonic()
        limit = watermark_limit(lagging, self._peers.values())
        moved = lagging and head - self._published > SLACK_MS // 4
        unheard = lagging and now - self._assigned_at < PATIENCE_S and not self._complete()
        if moved or unheard or head > limit or now - self._asked_at >= INTERVAL_S:
            self._published = head if lagging else NO_LIMIT
            self._peers = self._store.exchange_watermark(self._name, self._published)
            self._asked_at = now
            limit = watermark_limit(lagging, self._peers.values())
            unheard = unheard and not self._complete()
        return NO_TIME if unheard else limit

    def _complete(self) -> bool:
        """Return whether the owners of all partition numbers are known."""
        owned = set(self._owned)
        for name in self._peers:
            numbers = name.rpartition(":")[2].split(",")
            owned.update(int(number) for number in numbers if number.isdecimal())
        return len(owned) >= self._partitions
