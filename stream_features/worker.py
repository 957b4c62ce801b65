"""The batch cycle of one worker: decode → order → compute → commit → publish. `transport` drives it.

It knows nothing of Faust. The position of truth is the cursor in the store. Batch n is acknowledged by Kafka
before batch n + 1 is committed, because the outbox holds one batch a partition; a new owner
republishes it. All methods run on one event loop; blocking steps run in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import structlog

from schemas.errors import Fenced, TemporaryError
from stream_features.ordering import NO_LIMIT, HoldBack, merge_by_heads
from stream_features.outbox import pack, unpack
from stream_features.ports import (
    BatchCommit,
    Computation,
    Computed,
    Decoded,
    Position,
    Publisher,
    Store,
)

log = structlog.get_logger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


class TopicPartition(Protocol):
    """Faust's TP and aiokafka's TopicPartition."""

    @property
    def topic(self) -> str: ...  # noqa: D102

    @property
    def partition(self) -> int: ...  # noqa: D102


class _Unpublished(Exception):
    """Kafka did not confirm the last batch: it must be republished from the outbox."""


class _Superseded(Exception):
    """The assignment changed while a step was being retried; the batch is dropped."""


@dataclass(slots=True)
class _Buffer:
    """Decoded transactions that were read and not yet committed; rows of a partition in order."""

    decoded: Decoded | None = None
    partition: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    offset: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, decoded: Decoded, records: Sequence[Any]) -> None:
        partition = np.fromiter((record.partition for record in records), np.int64, len(records))
        offset = np.fromiter((record.offset for record in records), np.int64, len(records))
        self.decoded = decoded if self.decoded is None else self.decoded.join(decoded)
        self.partition = np.concatenate([self.partition, partition])
        self.offset = np.concatenate([self.offset, offset])

    def keep(self, rows: npt.NDArray[np.int64]) -> None:
        self.decoded = self.decoded.take(rows) if self.decoded is not None and len(rows) else None
        self.partition, self.offset = self.partition[rows], self.offset[rows]

    def count(self, partition: int) -> int:
        return int(np.count_nonzero(self.partition == partition))


class Worker:
    """Owns the assigned partitions of `transactions` and `labels`.

    Args:
        limit: the greatest event time that may be processed now (`ordering.watermark_limit`).
        monotonic: seconds, for the bounded wait.
        max_buffered: records a partition may have waiting before it is no longer read.
        on_ready: told False when the store or Kafka does not answer, True when it does again.
    """

    def __init__(
        self,
        *,
        transactions: str,
        labels: str,
        store: Store,
        publisher: Publisher,
        computation: Computation,
        monotonic: Callable[[], float],
        limit: Callable[[], int] = lambda: NO_LIMIT,
        on_ready: Callable[[bool], None] = lambda _: None,
        max_buffered: int = 20_000,
        max_wait_s: float = 2.0,
        retry_s: float = 0.05,
    ) -> None:
        self.transactions, self.labels = transactions, labels
        self.topics = frozenset({transactions, labels})
        self.generation = 0
        self.cursors: dict[Position, int] = {}
        """Committed next offsets; -1 where the store has none yet."""
        self._store, self._publisher, self._computation = store, publisher, computation
        self._monotonic, self._limit, self._on_ready = monotonic, limit, on_ready
        self._max_buffered, self._retry_s = max_buffered, retry_s
        self._hold = HoldBack(max_wait_s)
        self._epochs: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._read: dict[int, int] = {}
        self._buffer = _Buffer()
        self._turn = asyncio.Lock()

    def wanted(self, partitions: set[Any]) -> set[Any]:
        """Return the partitions to read: all but those whose buffer is full."""
        if len(self._buffer.partition) < self._max_buffered:
            return set(partitions)
        return {
            tp
            for tp in partitions
            if tp.topic == self.labels or self._buffer.count(tp.partition) < self._max_buffered
        }

    def poll_timeout(self) -> float:
        """Return seconds: short while rows are held back, so that a bounded wait ends in time."""
        return 0.02 if len(self._buffer.partition) else 1.0

    async def start_at(self, partitions: Iterable[TopicPartition]) -> dict[Any, int | None]:
        """Take the partitions over, republish their outboxes, and return where to read on.

        Everything buffered is forgotten: it is read again from the cursors. Waits for the store.
        """
        self.generation += 1
        generation = self.generation
        async with self._turn:
            wanted = list(partitions)
            self._forget()
            for number in sorted({tp.partition for tp in wanted}):
                try:
                    owned = await self._retry(generation, self._store.acquire, number)
                    await self._retry(generation, self._republish, number, owned.outbox)
                except _Superseded:
                    return {}
                self._epochs[number] = owned.epoch
                for topic in self.topics:
                    self.cursors[Position(topic, number)] = owned.cursors.get(topic, -1)
                if self.cursors[Position(self.transactions, number)] >= 0:
                    self._read[number] = self.cursors[Position(self.transactions, number)]
        starts = {tp: self.cursors[Position(tp.topic, tp.partition)] for tp in wanted}
        return {tp: None if cursor < 0 else cursor for tp, cursor in starts.items()}

    async def revoked(self) -> None:
        """Let the commit under way end, then forget everything; `start_at` comes next."""
        self.generation += 1
        async with self._turn:
            self._forget()

    async def handle(self, records: Mapping[Any, Sequence[Any]], ends: Mapping[Any, int]) -> bool:
        """Process one poll; False if positions must be taken anew (fenced)."""
        generation = self.generation
        async with self._turn:
            if generation != self.generation:
                return True
            try:
                await self._labels_cycle(generation, records)
                self._accept(records, ends)
                await self._transactions_cycle(generation)
            except (Fenced, _Unpublished) as error:
                log.warning("batch dropped: taking the partitions over anew", reason=str(error))
                self._forget()
                return False
            except _Superseded:
                log.info("batch dropped: assignment changed")
                self._forget()
        return True

    def _forget(self) -> None:
        self._buffer = _Buffer()
        for known in (self._epochs, self._ends, self._read, self.cursors):
            known.clear()

    def _accept(self, records: Mapping[Any, Sequence[Any]], ends: Mapping[Any, int]) -> None:
        fresh: list[Any] = []
        for tp, arrived in records.items():
            if tp.topic == self.transactions and tp.partition in self._epochs and arrived:
                fresh += arrived
                self._read[tp.partition] = arrived[-1].offset + 1
        for tp, end in ends.items():
            if tp.topic == self.transactions:
                self._ends[tp.partition] = end
        if fresh:
            self._buffer.add(self._computation.decode(fresh), fresh)

    async def _transactions_cycle(self, generation: int) -> None:
        buffer = self._buffer
        if buffer.decoded is None:
            return
        numbers = np.array(sorted(self._epochs), np.int64)
        buffered = np.unique(buffer.partition).tolist()
        positions = {number: self._read.get(number, 0) for number in self._epochs}
        waiting = self._hold.unread(positions, self._ends, buffered, self._monotonic())
        rows = merge_by_heads(
            buffer.decoded.time,
            buffer.decoded.ids,
            np.searchsorted(numbers, buffer.partition),
            np.array([number in waiting for number in numbers.tolist()], np.bool_),
            self._limit(),
        )
        if len(rows) == 0:
            return
        batch = buffer.decoded.take(rows)
        nexts = {
            Position(self.transactions, number): int(
                buffer.offset[rows[buffer.partition[rows] == number]].max() + 1
            )
            for number in np.unique(buffer.partition[rows]).tolist()
        }
        await self._retry(
            generation, self._run, lambda: self._computation.transactions(batch), nexts
        )
        left = np.ones(len(buffer.partition), np.bool_)
        left[rows] = False
        buffer.keep(np.flatnonzero(left))

    async def _labels_cycle(self, generation: int, records: Mapping[Any, Sequence[Any]]) -> None:
        arrived: list[Any] = []
        nexts: dict[Position, int] = {}
        for tp, some in records.items():
            if tp.topic == self.labels and tp.partition in self._epochs and some:
                arrived += some
                nexts[Position(self.labels, tp.partition)] = some[-1].offset + 1
        if arrived:
            await self._retry(
                generation, self._run, lambda: self._computation.labels(arrived), nexts
            )

    def _republish(self, number: int, outbox: bytes) -> None:
        self._publisher.produce(number, unpack(outbox))
        self._publisher.flush()

    def _run(self, compute: Callable[[], Computed], nexts: Mapping[Position, int]) -> None:
        """Compute, wait for the last publish, commit, publish. Blocks; runs in a thread."""
        computed = compute()
        try:
            self._publisher.flush()
        except TemporaryError as error:
            raise _Unpublished(str(error)) from error
        outbox = {number: pack(messages) for number, messages in computed.messages.items()}
        touched = {position.partition for position in nexts}
        self._store.commit(
            BatchCommit(
                epochs={number: self._epochs[number] for number in touched},
                advances={at: (self.cursors[at], offset) for at, offset in nexts.items()},
                changes=computed.changes,
                outbox=outbox,
            )
        )
        self.cursors.update(nexts)
        for number, messages in computed.messages.items():
            self._publisher.produce(number, messages)

    async def _retry(
        self, generation: int, step: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run a blocking step in a thread until the world answers or the assignment changes."""
        delay = self._retry_s
        while True:
            try:
                result = await asyncio.to_thread(step, *args, **kwargs)
            except TemporaryError as error:
                self._on_ready(False)
                log.warning("waiting to try again", reason=str(error), seconds=delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 1.0)
                if generation != self.generation:
                    raise _Superseded from error
            else:
                self._on_ready(True)
                return result
