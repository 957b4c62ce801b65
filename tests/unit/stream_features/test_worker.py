"""The batch cycle against an in-memory store and publisher: once each, in order, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from schemas.errors import Fenced, StoreUnavailable
from stream_features.outbox import FEATURES, Outgoing, pack, unpack
from stream_features.ports import BatchCommit, Computed, Ownership, StateChanges
from stream_features.worker import Worker


class At(NamedTuple):
    topic: str
    partition: int


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    value: bytes


@dataclass
class MemoryStore:
    epochs: dict[int, int] = field(default_factory=dict)
    cursors: dict[At, int] = field(default_factory=dict)
    outbox: dict[int, bytes] = field(default_factory=dict)
    applied: list[Any] = field(default_factory=list)
    fail_before: int = 0
    fail_after: int = 0

    def acquire(self, partition: int) -> Ownership:
        self.epochs[partition] = self.epochs.get(partition, 0) + 1
        cursors = {at.topic: next_ for at, next_ in self.cursors.items() if at[1] == partition}
        return Ownership(self.epochs[partition], cursors, self.outbox.get(partition, b""))

    def commit(self, batch: BatchCommit) -> None:
        if self.fail_before:
            self.fail_before -= 1
            raise StoreUnavailable("away")
        for number, epoch in batch.epochs.items():
            if self.epochs[number] != epoch:
                raise Fenced("epoch")
        for at, (expected, _) in batch.advances.items():
            if self.cursors.get(At(*at), -1) != expected:
                raise Fenced("cursor")
        self.cursors.update({At(*at): after for at, (_, after) in batch.advances.items()})
        self.outbox.update(batch.outbox)
        self.applied += batch.changes.cards
        if self.fail_after:
            self.fail_after -= 1
            raise StoreUnavailable("answer lost")


@dataclass
class MemoryPublisher:
    sent: list[tuple[int, bytes]] = field(default_factory=list)
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    lose: int = 0

    def produce(self, partition: int, messages: Sequence[Outgoing]) -> None:
        self.pending += [(partition, message.value) for message in messages]

    def flush(self) -> None:
        pending, self.pending = self.pending, []
        if pending and self.lose:
            self.lose -= 1
            raise StoreUnavailable("broker away: messages timed out")
        self.sent += pending


class Rows:
    def __init__(self, records: Sequence[Record]) -> None:
        self.records = list(records)
        self.time = np.array([int(r.value) for r in records], np.int64)
        self.ids = [r.value for r in records]

    def take(self, rows: npt.NDArray[np.int64]) -> Rows:
        return Rows([self.records[row] for row in rows])

    def join(self, other: Rows) -> Rows:
        return Rows(self.records + other.records)


class Echo:
    """The stand-in computation: a vector is the value, the state a list of values."""

    def decode(self, records: Sequence[Any]) -> Rows:
        return Rows(records)

    def transactions(self, batch: Any) -> Computed:
        messages: dict[int, list[Outgoing]] = {}
        for record in batch.records:
            messages.setdefault(record.partition, []).append(Outgoing(FEATURES, None, record.value))
        return Computed(StateChanges(cards=[r.value for r in batch.records]), messages)

    def labels(self, records: Sequence[Any]) -> Computed:
        return Computed(StateChanges(cards=[r.value for r in records]), {})


T0, T1, L0 = At("t", 0), At("t", 1), At("l", 0)


@dataclass
class Host:
    """Kafka's part: a log for each partition, read from where the worker says."""

    logs: dict[At, list[bytes]]
    store: MemoryStore = field(default_factory=MemoryStore)
    publisher: MemoryPublisher = field(default_factory=MemoryPublisher)
    at: dict[At, int] = field(default_factory=dict)
    ready: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.worker = self.new_worker()

    def new_worker(self, **options: Any) -> Worker:
        return Worker(
            transactions="t",
            labels="l",
            store=self.store,
            publisher=self.publisher,
            computation=Echo(),
            monotonic=lambda: 0.0,
            on_ready=self.ready.append,
            retry_s=0.0,
            **options,
        )

    async def seek(self) -> None:
        starts = await self.worker.start_at(self.logs)
        self.at = {tp: start or 0 for tp, start in starts.items()}

    async def poll(self, most: int = 1000, only: set[At] | None = None) -> None:
        records = {}
        for tp, log in self.logs.items():
            first = self.at[tp]
            some = log[first : first + most] if only is None or tp in only else []
            records[tp] = [Record(*tp, first + n, value) for n, value in enumerate(some)]
            self.at[tp] = first + len(some)
        if not await self.worker.handle(records, {tp: len(log) for tp, log in self.logs.items()}):
            await self.seek()

    async def drain(self) -> None:
        for _ in range(30):
            await self.poll(2)
        await asyncio.to_thread(self.publisher.flush)


def host() -> Host:
    return Host({T0: [b"1", b"4", b"5", b"8"], T1: [b"2", b"3", b"9"], L0: [b"70"]})


WHOLE = [b"1", b"2", b"3", b"4", b"5", b"8", b"9"]


def check(h: Host) -> None:
    assert [value for value in h.store.applied if value != b"70"] == WHOLE
    assert h.store.applied.count(b"70") == 1
    assert sorted(set(h.publisher.sent), key=lambda s: s[1]) == [
        (0 if value in h.logs[T0] else 1, value) for value in WHOLE
    ]
    assert h.store.cursors == {T0: 4, T1: 3, L0: 1}


def test_each_record_once_and_in_order_across_partitions() -> None:
    async def story() -> None:
        h = host()
        await h.seek()
        await h.drain()
        check(h)
        assert len(h.publisher.sent) == len(WHOLE)

    asyncio.run(story())


@pytest.mark.parametrize("fault", ["fail_before", "fail_after"])
def test_store_away_before_or_after_the_commit(fault: str) -> None:
    async def story() -> None:
        h = host()
        await h.seek()
        await h.poll(1)
        setattr(h.store, fault, 1)
        await h.drain()
        check(h)
        assert False in h.ready
        assert h.ready[-1] is True

    asyncio.run(story())


def test_messages_that_kafka_lost_are_republished_from_the_outbox() -> None:
    async def story() -> None:
        h = host()
        await h.seek()
        h.publisher.lose = 1
        await h.drain()
        check(h)

    asyncio.run(story())


def test_crash_between_commit_and_publish() -> None:
    async def story() -> None:
        h = host()
        await h.seek()
        await h.poll(2)
        h.publisher.pending.clear()
        h.worker = h.new_worker()
        await h.seek()
        await h.drain()
        check(h)

    asyncio.run(story())


def test_a_fenced_worker_writes_nothing_and_takes_over_anew() -> None:
    async def story() -> None:
        h = host()
        await h.seek()
        await h.poll(1)
        applied = list(h.store.applied)
        h.store.acquire(0)
        h.store.acquire(1)
        assert not await h.worker.handle({T0: [Record(*T0, 1, b"4")]}, {T0: 2, T1: 0})
        assert h.store.applied == applied
        await h.seek()
        await h.drain()
        check(h)

    asyncio.run(story())


def test_revocation_while_the_store_is_away_drops_the_batch() -> None:
    async def story() -> None:
        h = host()
        await h.seek()
        h.store.fail_before = 10**9
        polling = asyncio.create_task(h.poll())
        while False not in h.ready:
            await asyncio.sleep(0)
        await h.worker.revoked()
        await polling
        assert h.store.applied == []
        h.store.fail_before = 0
        await h.seek()
        await h.drain()
        check(h)

    asyncio.run(story())


def test_rows_ahead_wait_for_a_partition_with_unread_records() -> None:
    async def story() -> None:
        h = host()
        await h.seek()
        await h.poll(only={T0})
        assert h.store.applied == []
        assert h.worker.poll_timeout() < 1.0
        await h.drain()

    asyncio.run(story())


def test_a_full_partition_is_not_read_but_the_others_are() -> None:
    async def story() -> None:
        h = host()
        h.worker = h.new_worker(max_buffered=4)
        await h.seek()
        await h.poll(only={T0})
        assert h.worker.wanted({T0, T1, L0}) == {T1, L0}

    asyncio.run(story())


def test_outbox_round_trip() -> None:
    messages = [Outgoing(0, b"k", b"v"), Outgoing(1, None, b""), Outgoing(0, b"", b"x" * 300)]
    assert unpack(pack(messages)) == messages
