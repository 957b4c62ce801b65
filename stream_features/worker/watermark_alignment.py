"""Workers that catch up stay close together in event time, so that none shows a merchant its own future.

A worker that lags publishes the event time of its next record in the store and goes no further than
a minute beyond the slowest of the others. At the live edge, and for a worker that owns every
partition, there is no limit and no round trip. `worker` asks before each merge.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from runtime.feature_store.protocol import FeatureStore
from stream_features.worker.ordering import NO_LIMIT, NO_TIME, SLACK_MS, watermark_limit

INTERVAL_S: Final = 0.5
PATIENCE_S: Final = 2.0
"""How long after an assignment a worker that lags waits to hear of the owners of all partitions."""


class Pace:
    """The limit of one worker. Blocks for a round trip at most; raises StoreUnavailable.

    Args:
        worker: unique name of the worker.
        partitions: how many partition numbers there are in all.
        monotonic: seconds.
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
        """Start anew with these partition numbers, after withdrawing what was published."""
        self.withdraw()
        self._owned = frozenset(owned)
        self._name = f"{self._worker}:{','.join(map(str, sorted(owned)))}"
        self._assigned_at = self._monotonic()
        self._asked_at = -INTERVAL_S
        self._peers = {}

    def withdraw(self) -> None:
        """Take back what was published, so that nobody waits for this worker."""
        if self._name:
            self._store.exchange_watermark(self._name, None)
            self._name = ""

    def limit(self, head: int, lagging: bool) -> int:
        """Return the greatest event time that may be processed now.

        `head` is the event time of the next record (`ordering.NO_TIME` for a refused one, which
        waits for nothing).
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
        """Whether every partition number has an owner that was heard of."""
        owned = set(self._owned)
        for name in self._peers:
            owned.update(map(int, name.rpartition(":")[2].split(",")))
        return len(owned) >= self._partitions
