"""A Faust transport that hands the records of some topics to a handler in batches.

It bypasses Faust's per-message machinery at one private seam of faust-streaming 0.15.3 (aiokafka
driver): `_fetch_records` of the thread around aiokafka. Records of batch topics go straight to the
handler; all others continue through `_getmany` to ordinary agents. `perform_seek` is Faust's last
step before records flow after a rebalance; there the handler says where its partitions start.
tests/integration/stream_features/test_host.py fails if a new version of Faust breaks this seam.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import structlog
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP

from runtime.kafka import errors
from runtime.kafka.adaptive_linger import AdaptiveLinger

log = structlog.get_logger(__name__)
FAUST_VERSION: Final = "0.15.3"
FETCH_WAIT_MS: Final = 2
FETCH_MIN_BYTES: Final = 4_000
"""In dense traffic a fetch waits up to FETCH_WAIT_MS for this many bytes, a few dozen records.
Fetched one by one, they would cost the broker and the worker more time than that."""
LONE_WAIT_MS: Final = 100
"""Otherwise a fetch is answered at the first record and waits this long for it."""
SERVE_S: Final = 0.1
"""How long batches are processed before Faust is asked again which partitions are active."""
LOOPS_TO_FETCH: Final = 3
"""Rounds of the event loop that aiokafka needs to send its next fetch before a batch blocks it."""


class BatchHandler(Protocol):
    """Takes the records of the batch topics.

    `handle` runs in aiokafka's thread, `start_at` and `revoked` on Faust's loop.
    """

    @property
    def topics(self) -> frozenset[str]:
        """The names of the batch topics."""

    @property
    def partitions(self) -> int:
        """Partitions of each batch topic from this number on are not read: their records wait."""

    @property
    def generation(self) -> int:
        """A number that changes with every assignment, revocation and seek."""

    def wanted(self, partitions: set[TP]) -> set[TP]:
        """Return the batch partitions to read now; the others are paused (back-pressure)."""

    def poll_timeout(self) -> float:
        """Return the longest wait for records, in seconds."""

    async def handle(self, records: Mapping[TP, Sequence[Any]], ends: Mapping[TP, int]) -> bool:
        """Process the records (aiokafka ConsumerRecord) of one poll, which may be empty.

        May block. Returns False when the positions are lost and `start_at` must be called again.
        """

    async def start_at(self, partitions: set[TP]) -> Mapping[TP, int | None]:
        """Take over `partitions`; return the offset to start at, or None for the beginning."""

    async def revoked(self) -> None:
        """Give up all partitions; `start_at` comes next."""


class BatchConsumerThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's thread around aiokafka, with the group and fetch settings that batches need."""

    consumer: BatchConsumer
    lost = False
    """True when aiokafka's positions differ from the handler's and must be set again."""
    handed: dict[TP, int]
    """The next offset of each batch partition after the last record that the handler was given."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        self._linger, self.handed = AdaptiveLinger(), {}
        consumer = super()._create_worker_consumer(transport)
        # Ranges give the same numbers of every topic to one worker; round robin does not.
        consumer._partition_assignment_strategy = (RangePartitionAssignor,)
        consumer._fetch_max_wait_ms, consumer._fetch_min_bytes = LONE_WAIT_MS, 1
        # What a producer has aborted, or has not committed yet, is nobody's transaction.
        consumer._isolation_level = "read_committed"
        return consumer

    def fetched(self) -> dict[tuple[str, int], int]:
        """Return the next offset to hand over of each partition, as far as known."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        if assignment is None:
            return {}
        states = {at: assignment.state_value(at) for at in assignment.tps}
        return {
            (at.topic, at.partition): state.position
            for at, state in states.items()
            if state is not None and state.has_valid_position
        }

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP] | None,
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Any:
        """Process batch records for SERVE_S; return early with records for agents."""
        handler, loop = self.consumer.handler, asyncio.get_running_loop()
        active = set(active_partitions or ())
        agents = {tp for tp in active if tp.topic not in handler.topics}
        batch = {tp for tp in active - agents if tp.partition < handler.partitions}
        until = loop.time() + SERVE_S
        records: dict[TP, list[Any]] = {}
        while not records and (left := until - loop.time()) > 0:
            generation = handler.generation
            chosen = agents | handler.wanted(batch)
            wait = min(left, handler.poll_timeout())
            if chosen:
                found = await super()._fetch_records(consumer, chosen, wait, max_records)
                records = dict(found)
            else:  # an empty set means "every partition" to aiokafka
                await asyncio.sleep(wait)
            mine = {tp: records.pop(tp) for tp in list(records) if tp.topic in handler.topics}
            if generation != handler.generation or not self.consumer.flow_active:
                # These records are dropped. A new generation may have sought already, and
                # aiokafka's position is now behind them.
                self.lost |= bool(mine)
                break
            dense = self._linger.dense(sum(map(len, mine.values())), loop.time())
            fetcher = consumer._fetcher
            fetcher._fetch_max_wait_ms = FETCH_WAIT_MS if dense else LONE_WAIT_MS
            fetcher._fetch_min_bytes = FETCH_MIN_BYTES if dense else 1
            for _ in range(LOOPS_TO_FETCH if mine else 0):
                await asyncio.sleep(0)
            self.handed.update((tp, some[-1].offset + 1) for tp, some in mine.items() if some)
            ends = {tp: end for tp in batch if (end := self.readable_end(tp)) is not None}
            if not await handler.handle(mine, ends):
                self.lost = True
                break
        return records

    def readable_end(self, tp: TP) -> int | None:
        """Return the end of what can be read of a partition, as far as a fetch has shown it.

        That is where the first open transaction begins. A log may end with what is not a record, such
        as the mark of a commit: once that is passed, the end is behind the last record.
        """
        found: int | None = self._ensure_consumer().last_stable_offset(tp)
        handed = self.handed.get(tp)
        if found is None or handed is None or handed >= found:
            return found
        return handed if self.fetched().get((tp.topic, tp.partition), 0) >= found else found

    async def commit_quietly(self, offsets: Mapping[Any, int]) -> None:
        """Commit positions for lag displays; a failed commit is repeated a second later."""
        consumer = self._ensure_consumer()
        owned = consumer.assignment()
        places = {TopicPartition(*at): offset for at, offset in offsets.items()}
        mine = {at: OffsetAndMetadata(n, "") for at, n in places.items() if at in owned}
        if mine:
            try:
                await consumer.commit(mine)
            except KafkaError as error:
                log.info("offsets not committed", reason=str(error) or type(error).__name__)


class BatchConsumer(Consumer):  # type: ignore[misc]
    """Faust's aiokafka consumer with a shortcut for the batch topics."""

    handler: BatchHandler
    _thread: BatchConsumerThread

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def commit_positions(self, offsets: Mapping[Any, int]) -> None:
        """Commit the next offsets of batch partitions, by (topic, partition)."""
        await self._thread.call_thread(self._thread.commit_quietly, offsets)

    def fetched(self) -> dict[tuple[str, int], int]:
        """Return the next offset to read of each partition, by (topic, partition)."""
        return self._thread.fetched()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Skip the batch topics, which Faust sees no stream for; our watchdog covers them."""
        if tp.topic not in self.handler.topics:
            super().verify_event_path(now, tp)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        records = await super()._getmany(active_partitions, timeout)
        if self._thread.lost:
            self._thread.lost = False
            await self.seek_batches()
        return records

    async def perform_seek(self) -> None:
        """Seek agents' topics to the committed offset and batch topics to their cursors."""
        await super().perform_seek()
        await self.seek_batches()

    async def seek_batches(self) -> None:
        """Ask the handler where the assigned batch partitions start, and seek there."""
        handler = self.handler
        mine = {
            tp
            for tp in self.assignment()
            if tp.topic in handler.topics and tp.partition < handler.partitions
        }
        if not mine:
            return
        starts = await handler.start_at(mine)
        beginnings = await self.earliest_offsets(*starts)
        for tp, offset in starts.items():
            if offset is not None:
                errors.look_for_expired(tp.topic, tp.partition, offset, beginnings[tp])
        wanted = {tp: beginnings[tp] if offset is None else offset for tp, offset in starts.items()}
        self._thread.handed = dict(wanted)
        await self.seek_wait(wanted)


def batch_transport(handler: BatchHandler) -> type[Transport]:
    """Return a Faust transport class whose consumer feeds `handler`."""
    consumer = type("BoundBatchConsumer", (BatchConsumer,), {"handler": handler})
    return type("BatchTransport", (Transport,), {"Consumer": consumer})
