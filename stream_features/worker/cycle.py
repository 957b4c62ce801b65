"""The batch cycle of one worker: decode → order → compute → commit → publish.

It does not depend on Faust. The cursors in the store are the authoritative positions; see
`commits`. A batch is processed, blocking, in the thread that fetched its records, because handing
it to another thread costs more than a few records take. `start_at` and `revoked` may be called
from the event loop of another thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import structlog

from runtime.clock import Clock
from runtime.feature_store.protocol import NO_CURSOR
from runtime.kafka.protocols import TopicPartition
from runtime.metrics import Metrics
from runtime.retries import Retry
from schemas.errors import BadMessage, Fenced, FraudError, TemporaryError
from stream_features.worker.arrival_queue import ArrivalQueue
from stream_features.worker.arrivals import Arrivals
from stream_features.worker.commits import Commits, PublicationFailed, WorkerTopics
from stream_features.worker.computation import Computation, Computed
from stream_features.worker.cross_loop_lock import CrossLoopLock
from stream_features.worker.ordering import MAX_WAIT_S, NO_LIMIT, NO_TIME
from stream_features.worker.stages import StageTimers
from stream_features.worker.watermark_alignment import WatermarkAlignment

log = structlog.get_logger(__name__)
R = TypeVar("R")
LAGGING_MS: Final = 1_000
"""A worker whose next record arrived longer ago than this is catching up."""
ALIGNMENT_WAIT_S: Final = 0.0005
MAX_ALIGNMENT_WAITS: Final = 40
"""How often in one turn a worker checks whether the workers it waits for have moved."""
SERVE_S: Final = 0.5
"""How long a turn may occupy its thread, which also sends Kafka's heartbeats."""


class Assigned(Protocol):
    """A topic partition of Faust (TP) or of aiokafka."""

    @property
    def topic(self) -> str: ...  # noqa: D102

    @property
    def partition(self) -> int: ...  # noqa: D102


class _Superseded(Exception):
    """The assignment changed during a step; uncommitted work is dropped."""


@dataclass(slots=True)
class _Turn:
    """The unprocessed records of one poll, kept so that a failed step can be repeated."""

    transactions: dict[int, Sequence[Any]] = field(default_factory=dict)
    labels: list[Any] = field(default_factory=list)


class Worker:
    """Processes the assigned partitions of `transactions` and `labels`.

    Args:
        clock, monotonic: the wall clock (ms), and the clock of bounded waits (seconds).
        max_buffered: waiting transactions at which a partition is not read any further.
        max_batch: transactions in one commit.
        max_wait_s: how long a merge waits for a partition that delivers nothing.
        retry_s: the first wait before a failed step is repeated; it doubles from there.
    """

    def __init__(
        self,
        *,
        topics: WorkerTopics,
        commits: Commits,
        computation: Computation,
        alignment: WatermarkAlignment,
        clock: Clock,
        monotonic: Callable[[], float],
        metrics: Metrics,
        stages: StageTimers,
        max_buffered: int = 20_000,
        max_batch: int = 2_048,
        max_wait_s: float = MAX_WAIT_S,
        retry_s: float = 0.05,
    ) -> None:
        self.topics = frozenset({topics.transactions, topics.labels})
        self.partitions = topics.partitions
        self.generation = 0
        self.cursors = commits.cursors
        self.epochs = commits.epochs
        self.ends: dict[TopicPartition, int] = {}
        """Log ends, as far as the fetches have shown them."""
        self.failure: Exception | None = None
        """The error because of which this process must end, or None."""
        self.waiting_for = ""
        """The reason why this worker is waiting, or "" """
        self._names, self._commits = topics, commits
        self._computation, self._alignment = computation, alignment
        self._clock, self._monotonic = clock, monotonic
        self._metrics, self._stages = metrics, stages
        self._max_buffered, self._max_batch = max_buffered, max_batch
        self._retry_policy = Retry(metrics=metrics, on_wait=self._waits_for, first_wait_s=retry_s)
        self._thread = ThreadPoolExecutor(1, "worker")
        self._queue = ArrivalQueue(max_wait_s)
        self._held_by_alignment = False
        self._lock = CrossLoopLock()

    def not_ready(self) -> str:
        """Return "" while the worker serves, otherwise the reason why not."""
        if self.failure is not None:
            return str(self.failure)
        return self.waiting_for or ("" if self.epochs else "no partitions are assigned yet")

    @property
    def buffered(self) -> int:
        """The number of transactions read and not yet committed."""
        return len(self._queue)

    def holds(self, partition: int) -> bool:
        """Return whether uncommitted transactions of a partition number are waiting here."""
        return self._queue.counts().get(partition, 0) > 0

    def held_by_others(self) -> bool:
        """Return whether it is waiting for workers that are further back in event time."""
        return self._held_by_alignment

    def wanted(self, partitions: set[Any]) -> set[Any]:
        """Return the partitions to read: those whose buffer is not full."""
        if self.failure is not None:
            return set()
        if len(self._queue) < self._max_buffered:
            return set(partitions)
        counts = self._queue.counts().items()
        full = {number for number, count in counts if count >= self._max_buffered}
        return {
            tp for tp in partitions if tp.topic == self._names.labels or tp.partition not in full
        }

    def poll_timeout(self) -> float:
        """Return the poll time-out (s), which is short while rows wait for their order."""
        if self._held_by_alignment:
            return 0.001
        return 0.02 if len(self._queue) else 0.5

    async def start_at(self, partitions: Iterable[Assigned]) -> dict[Any, int | None]:
        """Take the partitions over, publish their outboxes again, and return where to start.

        The value is None for a partition without a cursor. Buffered rows are dropped, since they
        are read again from the cursors. Waits for the store.
        """
        self.generation += 1
        generation = self.generation
        async with self._lock:
            wanted = list(partitions)
            self._forget()
            try:
                numbers = {tp.partition for tp in wanted}
                await self._retry(generation, partial(self._in_thread, self._take_over, numbers))
            except _Superseded:
                return {}
            except FraudError as error:
                self._fail(error)
                return {}
            starts = {tp: self.cursors[TopicPartition(tp.topic, tp.partition)] for tp in wanted}
        log.info("partitions taken over", cursors=[[*at, n] for at, n in self.cursors.items()])
        return {tp: None if cursor == NO_CURSOR else cursor for tp, cursor in starts.items()}

    async def revoked(self) -> None:
        """Wait for the current commit, then forget everything; `start_at` must come next."""
        self.generation += 1
        async with self._lock:
            self._forget()
            try:
                await self._in_thread(self._alignment.withdraw)
            except TemporaryError as error:
                log.warning("watermark not withdrawn, it will expire", reason=str(error))

    async def handle(self, records: Mapping[Any, Sequence[Any]], ends: Mapping[Any, int]) -> bool:
        """Process one poll; return False if the partitions must be taken over again."""
        generation = self.generation
        async with self._lock:
            if generation != self.generation or self.failure is not None:
                return True
            turn = self._accept(records, ends)
            try:
                await self._retry(generation, partial(self._served, generation, turn))
            except (Fenced, PublicationFailed) as error:
                self._metrics.count("fenced")
                log.warning("batch dropped: taking the partitions over again", reason=str(error))
                self._forget()
                return False
            except _Superseded:
                log.info("batch dropped: assignment changed")
                self._forget()
            except FraudError as error:
                self._fail(error)
        return True

    def _fail(self, error: Exception) -> None:
        log.error("cannot go on", reason=str(error), kind=type(error).__name__)
        self._forget()
        self.failure = error

    def _forget(self) -> None:
        self._queue.forget()
        self._held_by_alignment = False
        self._commits.forget()
        self.ends.clear()

    def _take_over(self, numbers: set[int]) -> None:
        self._commits.take_over(numbers)
        for number in numbers:
            cursor = self.cursors[TopicPartition(self._names.transactions, number)]
            self._queue.read[number] = max(cursor, 0)
        self._alignment.assign(numbers)

    def _accept(self, records: Mapping[Any, Sequence[Any]], ends: Mapping[Any, int]) -> _Turn:
        turn = _Turn()
        for tp, some in records.items():
            if not some or tp.partition not in self.epochs:
                continue
            self._metrics.count("records", len(some), topic=tp.topic)
            if tp.topic == self._names.labels:
                turn.labels += some
            else:
                turn.transactions[tp.partition] = some
                self._queue.read[tp.partition] = some[-1].offset + 1
        self.ends.update({TopicPartition(tp.topic, tp.partition): end for tp, end in ends.items()})
        return turn

    def _advance(self, generation: int, turn: _Turn) -> None:
        """Process for at most SERVE_S. Blocks; may be called again after a TemporaryError."""
        until = self._monotonic() + SERVE_S
        if turn.transactions:
            with self._stages.time("decode"):
                self._queue.add(self._computation.decode(turn.transactions))
            turn.transactions = {}
        while turn.labels:
            self._check(generation)
            self._serve_labels(turn, turn.labels[: self._max_batch])
        waits = 0
        while self._in_order() and waits < MAX_ALIGNMENT_WAITS and self._monotonic() < until:
            self._check(generation)
            batch = self._queue.next(self._limit(), self._max_batch)
            if batch is not None:
                self._serve(batch)
            else:
                waits += 1
                time.sleep(ALIGNMENT_WAIT_S)
        self._held_by_alignment = waits >= MAX_ALIGNMENT_WAITS
        if self._caught_up():
            self._alignment.limit(NO_TIME, lagging=False)

    def _check(self, generation: int) -> None:
        if generation != self.generation:
            raise _Superseded

    def _in_order(self) -> bool:
        if not len(self._queue):
            return False
        with self._stages.time("order"):
            return self._queue.order(self._transaction_ends(), self._monotonic())

    def _limit(self) -> int:
        """Return the greatest event time that may be processed now."""
        head = self._queue.head()
        if head is None:
            return NO_LIMIT
        event_time, received_at = head
        waited = self._clock.now_ms() - received_at
        return self._alignment.limit(event_time, lagging=waited > LAGGING_MS)

    def _transaction_ends(self) -> dict[int, int]:
        topic = self._names.transactions
        return {at.partition: end for at, end in self.ends.items() if at.topic == topic}

    def _caught_up(self) -> bool:
        ends = self._transaction_ends()
        read = self._queue.read.items()
        return not len(self._queue) and all(ends.get(n, at + 1) <= at for n, at in read)

    def _serve(self, batch: Arrivals) -> None:
        """Compute and commit a batch; if it fails, halve it until the faulty record is alone."""
        try:
            computed = self._computation.transactions(batch)
        except Exception as error:
            if not _is_poison(error):
                raise
            if len(batch) > 1:
                half = len(batch) // 2
                self._serve(batch.cut(0, half))
                self._serve(batch.cut(half, len(batch)))
                return
            log.exception(
                "a transaction was refused",
                position=[int(batch.partition[0]), int(batch.offset[0])],
            )
            computed = self._computation.refuse_transaction(batch, error)
        numbers, last = np.unique(batch.partition[::-1], return_index=True)
        nexts = batch.offset[::-1][last] + 1
        topic = repeat(self._names.transactions)
        places = map(TopicPartition, topic, numbers.tolist())
        self._commit(
            computed, dict(zip(places, nexts.tolist(), strict=True)), self._queue.done, len(batch)
        )
        self._metrics.observe("batch_rows", len(batch))
        now = self._clock.now_ms()
        self._metrics.observe("latency_seconds", max(now - int(batch.received_at.min()), 0) / 1000)
        newest = int(batch.time.max())
        if newest != NO_TIME:
            self._metrics.set("freshness_seconds", max(now - newest, 0) / 1000)

    def _serve_labels(self, turn: _Turn, records: Sequence[Any]) -> None:
        try:
            computed = self._computation.labels(records)
        except Exception as error:
            if not _is_poison(error):
                raise
            if len(records) > 1:
                half = len(records) // 2
                self._serve_labels(turn, records[:half])
                self._serve_labels(turn, records[half:])
                return
            log.exception("a label was refused", position=[records[0].partition, records[0].offset])
            computed = self._computation.refuse_label(records[0], error)
        nexts = {
            TopicPartition(self._names.labels, record.partition): record.offset + 1
            for record in records
        }
        self._commit(
            computed, nexts, lambda rows: turn.labels.__delitem__(slice(rows)), len(records)
        )

    def _commit(
        self,
        computed: Computed,
        nexts: Mapping[TopicPartition, int],
        done: Callable[[int], None],
        rows: int,
    ) -> None:
        """Commit, call `done(rows)`, then publish."""
        self._commits.write(computed, nexts)
        done(rows)
        self._commits.publish(computed.messages)

    async def _retry(self, generation: int, step: Callable[[], Awaitable[R]]) -> R:
        """Repeat a step while it raises TemporaryError, until the assignment changes."""

        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds)
            if generation != self.generation:
                raise _Superseded

        result = await self._retry_policy.run_async(step, sleep)
        self.waiting_for = ""
        return result

    def _waits_for(self, error: TemporaryError) -> None:
        self.waiting_for = str(error)

    async def _served(self, generation: int, turn: _Turn) -> None:
        self._advance(generation, turn)

    async def _in_thread(self, step: Callable[..., R], *args: object) -> R:
        """Run a blocking step; a cancellation takes effect only after it has ended."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, partial(step, *args))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait({future})
            raise


def _is_poison(error: Exception) -> bool:
    """Return whether a record caused the error, rather than the store or the process."""
    return isinstance(error, BadMessage) or not isinstance(error, FraudError | MemoryError)
