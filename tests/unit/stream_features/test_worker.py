"""The batch cycle against store and broker in memory: once each, in order, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from structlog.testing import capture_logs

from runtime.feature_store.protocol import Commit, PartitionAdvance
from runtime.kafka.memory import MemoryBroker, MemoryProducer
from runtime.kafka.protocols import TopicPartition
from schemas.errors import EmptyStore, UnreadableValue
from stream_features.worker.cross_loop_lock import CrossLoopLock
from stream_features.worker.cycle import Worker
from stream_features.worker.outbox import Messages, pack, unpack
from tests.support.stream_features.stand_ins import NOW, Echo, LoggedStore, Record, stand_in_worker

T0, T1, L0 = TopicPartition("t", 0), TopicPartition("t", 1), TopicPartition("l", 0)
LOGS = {T0: [b"1", b"4", b"5", b"8"], T1: [b"2", b"3", b"9"], L0: [b"70"]}
WHOLE = [b"1", b"2", b"3", b"4", b"5", b"8", b"9"]


class Host:
    """Kafka's part: a log for each partition, read from where the worker says."""

    def __init__(self, logs: dict[TopicPartition, list[bytes]] = LOGS, **options: Any) -> None:
        self.logs = logs
        self.store = LoggedStore()
        self.broker = MemoryBroker(partitions=2)
        self.producer = MemoryProducer(self.broker)
        self.echo = Echo()
        self.at: dict[Any, int] = {}
        self.worker = self.new_worker(**options)

    def new_worker(self, **options: Any) -> Worker:
        return stand_in_worker(self.store, self.producer, computation=self.echo, **options)

    async def seek(self) -> None:
        starts = await self.worker.start_at(self.logs)
        self.at = {tp: start or 0 for tp, start in starts.items()}

    async def poll(self, most: int = 1000, only: set[TopicPartition] | None = None) -> None:
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
        self.producer.flush()

    def sent(self, topic: str = "f") -> list[tuple[int, bytes | None]]:
        logs = (self.broker.log(TopicPartition(topic, number)) for number in range(2))
        return [(message.partition, message.value) for log in logs for message in log]

    def applied(self) -> list[bytes]:
        return [value for value in self.store.applied if value != b"70"]

    def check(self) -> None:
        assert self.applied() == WHOLE
        assert self.store.applied.count(b"70") == 1
        assert set(self.sent()) == {
            (tp.partition, value) for tp in (T0, T1) for value in self.logs[tp]
        }
        assert self.store.positions([0, 1]) == {0: {"t": 4, "l": 1}, 1: {"t": 3}}


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def test_each_record_once_and_in_order_across_partitions() -> None:
    async def story() -> None:
        h = Host()
        await h.seek()
        await h.drain()
        h.check()
        assert len(h.sent()) == len(WHOLE)

    run(story())


def test_small_batches_are_the_same() -> None:
    async def story() -> None:
        h = Host(max_batch=1)
        await h.seek()
        await h.poll()
        h.check()
        assert h.echo.calls == len(WHOLE)

    run(story())


@pytest.mark.parametrize("fault", ["fail_before", "fail_after"])
def test_store_away_before_or_after_the_commit(fault: str) -> None:
    async def story() -> None:
        h = Host()
        await h.seek()
        await h.poll(1)
        setattr(h.store, fault, 1)
        await h.drain()
        h.check()

    run(story())


def test_the_reason_of_waiting_is_told_and_withdrawn() -> None:
    async def story() -> None:
        h = Host()
        assert "no partitions" in h.worker.not_ready()
        await h.seek()
        assert h.worker.not_ready() == ""
        h.store.fail_before = 10**9
        polling = asyncio.create_task(h.poll())
        while "away" not in h.worker.not_ready():
            await asyncio.sleep(0)
        h.store.fail_before = 0
        await polling
        assert h.worker.not_ready() == ""
        await h.drain()
        h.check()

    run(story())


@pytest.mark.parametrize("most", [1, 1000])
def test_what_a_dead_process_did_not_publish_comes_from_the_outbox(most: int) -> None:
    async def story() -> None:
        h = Host(max_batch=most)
        await h.seek()
        h.broker.available = False
        await h.poll()
        assert h.applied() == WHOLE
        assert h.sent() == []
        h.broker.available = True
        h.producer = MemoryProducer(h.broker)
        h.worker = h.new_worker()
        await h.seek()
        h.check()
        assert len(h.sent()) == len(WHOLE)

    run(story())


def test_a_takeover_waits_until_kafka_has_the_outbox_so_that_a_second_crash_loses_nothing() -> None:
    async def story() -> None:
        h = Host()
        await h.seek()
        h.broker.available = False
        await h.poll()
        h.producer = MemoryProducer(h.broker)
        h.worker = h.new_worker()
        taking_over = asyncio.create_task(h.seek())
        async with asyncio.timeout(5):
            while not (taking_over.done() or "broker" in h.worker.not_ready()):
                await asyncio.sleep(0)
        assert not taking_over.done()
        taking_over.cancel()
        await asyncio.wait({taking_over})
        h.broker.available = True
        h.producer = MemoryProducer(h.broker)
        h.worker = h.new_worker()
        await h.seek()
        h.check()

    run(story())


def test_records_that_waited_while_partitions_were_taken_over_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Faust's loop takes over between the fetch in the other thread and its turn."""
    rebalances: list[Coroutine[Any, Any, object]] = []

    class Contended(CrossLoopLock):
        async def __aenter__(self) -> None:
            while rebalances:
                await rebalances.pop()
            await super().__aenter__()

    async def story() -> None:
        monkeypatch.setattr("stream_features.worker.cycle.CrossLoopLock", Contended)
        h = Host()
        await h.seek()
        rebalances.append(h.worker.start_at([T0, T1, L0]))
        stale = {T0: [Record(*T0, 2, b"5")]}
        assert await h.worker.handle(stale, {T0: 4})
        assert h.worker.epochs.keys() == {0, 1}
        assert h.worker.not_ready() == ""
        assert h.worker.buffered == 0
        await h.seek()
        await h.drain()
        h.check()

    run(story())


def test_a_revoked_worker_owns_nothing_and_lets_the_others_go_on() -> None:
    async def story() -> None:
        h = Host(partitions=4, now_ms=NOW + 60_000)
        await h.seek()
        await h.poll(only={T0, T1})
        assert h.store.exchange_watermark("other", 5) == {"one:0,1": 1}
        assert h.worker.buffered == 7
        await h.worker.revoked()
        assert h.store.exchange_watermark("other", 5) == {}
        assert (h.worker.buffered, h.worker.epochs, h.worker.cursors) == (0, {}, {})
        assert "no partitions" in h.worker.not_ready()

    run(story())


def test_a_partition_given_away_is_not_waited_for() -> None:
    async def story() -> None:
        h = Host()
        await h.seek()
        h.logs = {T0: LOGS[T0], L0: LOGS[L0]}
        await h.seek()
        await h.poll()
        assert h.applied() == LOGS[T0]
        assert h.worker.buffered == 0
        assert h.worker.epochs.keys() == {0}

    run(story())


def test_what_a_takeover_has_published_does_not_come_back_to_the_outbox() -> None:
    async def story() -> None:
        h = Host()
        await h.seek()
        h.broker.available = False
        await h.poll(1)
        assert h.applied() == [b"1"]
        await h.worker.revoked()
        h.broker.available = True
        await h.seek()
        assert set(h.sent()) == {(0, b"1")}
        h.broker.available = False
        await h.poll()
        assert unpack(h.store.acquire(0).outbox).vectors == [b"4", b"5", b"8"]
        assert unpack(h.store.acquire(1).outbox).vectors == [b"2", b"3", b"9"]

    run(story())


def test_what_kafka_has_acknowledged_leaves_the_outbox() -> None:
    async def story() -> None:
        h = Host(max_batch=1)
        await h.seek()
        await h.poll()
        assert unpack(h.store.acquire(0).outbox).vectors == [b"8"]

    run(story())


def test_a_commit_waits_when_too_much_is_not_acknowledged() -> None:
    async def story() -> None:
        h = Host(max_batch=2, max_unconfirmed=0)
        await h.seek()
        h.broker.available = False
        polling = asyncio.create_task(h.poll())
        while not h.worker.not_ready():
            await asyncio.sleep(0)
        assert h.applied() == WHOLE[:2]
        h.broker.available = True
        await polling
        h.check()

    run(story())


def test_a_fenced_worker_writes_nothing_and_takes_over_anew() -> None:
    async def story() -> None:
        h = Host()
        await h.seek()
        await h.poll(1)
        applied = list(h.store.applied)
        h.store.acquire(0)
        h.store.acquire(1)
        assert not await h.worker.handle({T0: [Record(*T0, 1, b"4")]}, {T0: 2, T1: 0})
        assert h.store.applied == applied
        await h.seek()
        await h.drain()
        h.check()

    run(story())


def test_revocation_while_the_store_is_away_drops_the_batch() -> None:
    async def story() -> None:
        h = Host()
        await h.seek()
        h.store.fail_before = 10**9
        polling = asyncio.create_task(h.poll())
        while "away" not in h.worker.not_ready():
            await asyncio.sleep(0)
        await h.worker.revoked()
        await polling
        assert h.store.applied == []
        h.store.fail_before = 0
        await h.seek()
        await h.drain()
        h.check()

    run(story())


def test_rows_ahead_wait_for_a_partition_with_unread_records() -> None:
    async def story() -> None:
        h = Host()
        await h.seek()
        await h.poll(only={T0})
        assert h.applied() == []
        assert h.worker.buffered == 4
        assert h.worker.holds(0)
        assert not h.worker.holds(1)
        assert h.worker.poll_timeout() < 0.1
        await h.drain()

    run(story())


def test_a_partition_that_sends_nothing_for_too_long_is_passed_and_told() -> None:
    async def story() -> None:
        now = [0.0]
        h = Host(max_wait_s=1.0, monotonic=lambda: now[0])
        await h.seek()
        with capture_logs() as logs:
            for _ in range(8):
                await h.poll(only={T0})
                now[0] += 0.1
            assert h.applied() == []
            for _ in range(8):
                await h.poll(only={T0})
                now[0] += 0.1
        assert h.applied() == LOGS[T0]
        told = [line for line in logs if line["log_level"] == "warning"]
        assert [(line["partition"], line["position"], line["end"]) for line in told] == [(1, 0, 3)]

    run(story())


def test_a_silent_partition_is_waited_for_longer_than_a_broker_restarts() -> None:
    """The wait is 15 s: the watchdog would start the process anew after 30."""

    async def story() -> None:
        now = [0.0]
        h = Host(monotonic=lambda: now[0])
        await h.seek()
        while now[0] < 14:
            await h.poll(only={T0})
            now[0] += 0.1
        assert h.applied() == []
        while now[0] < 16:
            await h.poll(only={T0})
            now[0] += 0.1
        assert h.applied() == LOGS[T0]

    run(story())


def test_a_full_partition_is_not_read_but_the_others_are() -> None:
    async def story() -> None:
        h = Host(max_buffered=4)
        await h.seek()
        await h.poll(only={T0})
        assert h.worker.wanted({T0, T1, L0}) == {T1, L0}

    run(story())


@pytest.mark.parametrize("bad", [b"1", b"4", b"9"])
def test_one_poisoned_record_is_refused_and_the_rest_served(bad: bytes) -> None:
    async def story() -> None:
        h = Host()
        h.echo.poison = {bad}
        await h.seek()
        await h.poll()
        h.producer.flush()
        assert h.applied() == [value for value in WHOLE if value != bad]
        assert h.sent("d") == [(0, b"poisoned")]
        assert h.store.positions([0, 1]) == {0: {"t": 4, "l": 1}, 1: {"t": 3}}

    run(story())


def test_a_poisoned_label_is_refused_and_the_rest_served() -> None:
    async def story() -> None:
        h = Host({L0: [b"70", b"71", b"72"]})
        h.echo.poison = {b"71"}
        await h.seek()
        await h.poll()
        assert h.store.applied == [b"70", b"72"]
        assert h.sent("d") == [(0, b"poisoned label")]

    run(story())


def test_a_temporary_error_is_not_poison() -> None:
    async def story() -> None:
        h = Host()
        h.echo.away = 3
        await h.seek()
        await h.drain()
        h.check()
        assert h.sent("d") == []

    run(story())


def test_an_undecodable_record_does_not_hold_anything_up() -> None:
    async def story() -> None:
        h = Host({T0: [b"1", b"x", b"4"], T1: [b"2", b"x"]})
        await h.seek()
        await h.poll()
        assert h.sent("d") == [(0, b"dead"), (0, b"dead")]
        assert {value for _, value in h.sent()} == {b"1", b"2", b"4"}

    run(story())


def test_an_empty_store_is_refused_when_kafka_has_positions() -> None:
    async def story() -> None:
        h = Host(positions={T1: 3})
        assert await h.worker.start_at([T0, T1, L0]) == {}
        assert isinstance(h.worker.failure, EmptyStore)
        assert "rebuild" in h.worker.not_ready()
        assert h.worker.wanted({T0}) == set()

    run(story())


def test_a_store_that_is_emptied_while_running_is_refused_too() -> None:
    async def story() -> None:
        h = Host(positions={T0: 1})
        first = h.store.acquire(0)
        h.store.commit(Commit(epochs={0: first.epoch}, advances=[PartitionAdvance("t", 0, -1, 1)]))
        await h.seek()
        assert h.at[T0] == 1
        LoggedStore.__init__(h.store)
        await h.poll()
        assert isinstance(h.worker.failure, EmptyStore)
        assert h.store.applied == []

    run(story())


def test_outbox_round_trip() -> None:
    messages = Messages([b"k", None, b""], [b"v", b"", b"x" * 300], [None], [b"dead"])
    assert unpack(pack(messages)) == messages
    assert unpack(pack(Messages())) == Messages()
    twice = unpack(pack(messages) + pack(messages))
    assert twice.vectors == messages.vectors * 2


def test_a_damaged_outbox_is_refused() -> None:
    whole = pack(Messages([b"k"], [b"v" * 30], [None], [b"dead"]))
    for size in range(1, len(whole)):
        with pytest.raises(UnreadableValue, match="damaged"):
            unpack(whole[:size])


def test_a_damaged_outbox_stops_the_worker_with_its_key_and_the_remedy() -> None:
    async def story() -> None:
        h = Host()
        epoch = h.store.acquire(0).epoch
        h.store.commit(Commit(epochs={0: epoch}, outbox={0: b"\xff" * 9}))
        assert await h.worker.start_at([T0, L0]) == {}
        assert isinstance(h.worker.failure, UnreadableValue)
        assert "p:0:outbox" in h.worker.not_ready()
        assert "rebuild" in h.worker.not_ready()
        assert h.sent() == []

    run(story())
