"""The Faust host on a real Kafka: batches reach the worker once, agents run beside it.

The store is in memory, so that the host alone is looked at.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import confluent_kafka as ck
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions
from structlog.testing import capture_logs

from devstack.stack import Stack
from runtime.clock import SystemClock
from runtime.kafka.clients import KafkaProducer
from runtime.kafka.protocols import TopicPartition
from runtime.kafka.reader import committed_offsets, end_offsets
from runtime.kafka.topic_admin import create_topics
from runtime.settings import load_settings
from schemas.topics import ALERTS
from stream_features.host.app import build_app
from stream_features.worker.assembly import GROUP, topics_of
from stream_features.worker.cycle import Worker
from tests.support.stream_features.stand_ins import Echo, LoggedStore, stand_in_worker
from tests.support.waiting import PATIENCE_S


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


class Slow(Echo):
    """Takes its time for each batch."""

    def transactions(self, batch: Any) -> Any:
        time.sleep(0.002)
        return super().transactions(batch)


class Bench:
    """Topics of its own, one store, and hosts on it."""

    def __init__(self, stack: Stack, data_dir: Path) -> None:
        self.settings = load_settings(
            bootstrap=stack.bootstrap,
            redis_url=stack.redis_url,
            partitions=4,
            topic_prefix=f"h{uuid.uuid4().hex[:8]}-",
        )
        create_topics(self.settings)
        self.data_dir, self.topics = data_dir, topics_of(self.settings)
        self.store, self.producer = LoggedStore(), KafkaProducer(self.settings)
        self.control = self.settings.topic(ALERTS)
        self.controls: list[Any] = []
        self.sent = 0

    def send(self, topic: str, values: range, partitions: int = 4) -> None:
        rows = [(value % partitions, None, str(value).encode()) for value in values]
        self.producer.produce_many(topic, rows)
        self.producer.flush(20)

    async def backlog_until(self, condition: Callable[[], bool]) -> None:
        """Keep a backlog of at least 2,000 transactions until `condition` holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                if self.sent - len(self.store.applied) < 2_000:
                    more = range(self.sent + 1, self.sent + 2_001)
                    await asyncio.to_thread(self.send, self.topics.transactions, more)
                    self.sent += len(more)
                await asyncio.sleep(0.02)

    def worker(self, name: str, computation: Echo | None = None, **options: Any) -> Worker:
        return stand_in_worker(
            self.store,
            self.producer,
            topics=self.topics,
            computation=computation,
            partitions=4,
            name=name,
            now_ms=SystemClock().now_ms(),
            monotonic=time.monotonic,
            **options,
        )

    @asynccontextmanager
    async def running(self, worker: Worker, name: str, metadata_ms: int | None = None) -> Any:
        settings = self.settings.model_copy(update={"worker_id": name})
        app = build_app(settings, worker, self.data_dir / name)
        if metadata_ms is not None:
            app.conf.consumer_metadata_max_age_ms = metadata_ms

        async def control(stream: Any) -> None:
            async for value in stream:
                self.controls.append(value)

        app.agent(app.topic(self.control, value_type=bytes, value_serializer="raw"))(control)
        await app.start()
        try:
            yield app
        finally:
            await worker.revoked()
            await app.stop()

    def applied(self) -> list[int]:
        return [int(value) for value in self.store.applied]


def test_backlog_live_edge_agents_and_restart_from_the_cursor(stack: Stack, tmp_path: Path) -> None:
    async def story() -> None:
        bench = Bench(stack, tmp_path)
        bench.send(bench.topics.transactions, range(1, 5001))
        bench.send(bench.control, range(3), partitions=1)
        async with bench.running(bench.worker("one"), "one"):
            await until(lambda: len(bench.store.applied) >= 5000)
            await until(lambda: len(bench.controls) == 3)
            bench.send(bench.topics.transactions, range(5001, 5101))
            await until(lambda: len(bench.store.applied) >= 5100)
        assert bench.applied()[:5000] == list(range(1, 5001))
        assert sorted(bench.applied()) == list(range(1, 5101))
        bench.send(bench.topics.transactions, range(5101, 5201))
        async with bench.running(bench.worker("one"), "one"):
            await until(lambda: len(bench.store.applied) >= 5200)
        assert sorted(bench.applied()) == list(range(1, 5201))
        assert sum(end_offsets(bench.settings, bench.topics.features).values()) >= 5200

    asyncio.run(story())


def test_records_that_expired_while_no_worker_ran_are_told(stack: Stack, tmp_path: Path) -> None:
    async def story() -> None:
        bench = Bench(stack, tmp_path)
        topic = bench.topics.transactions
        bench.send(topic, range(1, 101))
        async with bench.running(bench.worker("one"), "one"):
            await until(lambda: len(bench.store.applied) >= 100)
        bench.send(topic, range(101, 201))
        admin = AdminClient({"bootstrap.servers": stack.bootstrap})
        [done] = admin.delete_records([ck.TopicPartition(topic, 2, 40)]).values()
        done.result(PATIENCE_S)
        with capture_logs() as lines:
            async with bench.running(bench.worker("one"), "one"):
                await until(lambda: len(bench.store.applied) >= 185)
        [line] = [each for each in lines if "deleted before they were read" in each["event"]]
        assert (line["topic"], line["partition"], line["records"]) == (topic, 2, 15)

    asyncio.run(story())


def test_a_second_worker_in_the_middle_of_a_backlog(stack: Stack, tmp_path: Path) -> None:
    """Revocation in mid-batch, the same numbers of both topics to each, and back again.

    Records are sent for as long as the rebalances take, so there is always a backlog to divide.
    """

    async def story() -> None:
        bench = Bench(stack, tmp_path)
        first = bench.worker("one", Slow(), max_batch=20)
        second = bench.worker("two", Slow(), max_batch=20)
        async with bench.running(first, "one"):
            await bench.backlog_until(lambda: len(bench.store.applied) >= 2_000)
            assert set(first.epochs) == {0, 1, 2, 3}
            async with bench.running(second, "two"):
                await bench.backlog_until(lambda: len(first.epochs) == len(second.epochs) == 2)
                assert set(first.epochs) | set(second.epochs) == {0, 1, 2, 3}
                for each in (first, second):
                    assert {at.partition for at in each.cursors} == set(each.epochs)
                    assert {at.topic for at in each.cursors} == each.topics
                seen = len(bench.store.applied)
                await bench.backlog_until(lambda: len(bench.store.applied) >= seen + 2_000)
            await bench.backlog_until(lambda: set(first.epochs) == {0, 1, 2, 3})
            await until(lambda: len(bench.store.applied) >= bench.sent)
        assert sorted(bench.applied()) == list(range(1, bench.sent + 1))

    asyncio.run(story())


def test_a_worker_with_a_full_buffer_stops_reading(stack: Stack, tmp_path: Path) -> None:
    async def story() -> None:
        bench = Bench(stack, tmp_path)
        bench.send(bench.topics.transactions, range(1, 30_001))
        bench.store.fail_before = 10**9
        worker = bench.worker("one", max_buffered=500)
        async with bench.running(worker, "one") as app:
            await until(lambda: "away" in worker.not_ready())
            bench.store.fail_before = 0
            most = 0
            deadline = time.monotonic() + PATIENCE_S
            while len(bench.store.applied) < 30_000:
                most = max(most, worker.buffered)
                assert worker.failure is None
                assert time.monotonic() < deadline, (
                    f"{len(bench.store.applied)} applied, {worker.buffered} buffered, read to "
                    f"{app.consumer.fetched()}, cursors {worker.cursors}, ends {worker.ends}, "
                    f"{worker.not_ready()!r}"
                )
                await asyncio.sleep(0.001)
        assert most < 4 * (500 + 4096)
        assert bench.applied() == list(range(1, 30_001))

    asyncio.run(story())


def test_positions_in_kafka_follow_the_cursors(stack: Stack, tmp_path: Path) -> None:
    async def story() -> None:
        bench = Bench(stack, tmp_path)
        bench.send(bench.topics.transactions, range(1, 401))
        worker = bench.worker("one")
        async with bench.running(worker, "one") as app:
            await until(lambda: len(bench.store.applied) >= 400)
            at = TopicPartition(bench.topics.transactions, 2)
            stranger = TopicPartition(bench.topics.transactions, 9)
            await app.consumer.commit_positions({at: worker.cursors[at], stranger: 5})
            assert app.consumer.fetched()[tuple(at)] == 100
        group = bench.settings.group(GROUP)
        assert await asyncio.to_thread(committed_offsets, bench.settings, group, [at]) == {at: 100}

    asyncio.run(story())


def test_partitions_that_are_added_while_it_runs_are_assigned_and_not_read(
    stack: Stack, tmp_path: Path
) -> None:
    async def story() -> None:
        bench = Bench(stack, tmp_path)
        worker = bench.worker("one")
        async with bench.running(worker, "one", metadata_ms=500) as app:
            await until(lambda: set(worker.epochs) == {0, 1, 2, 3})
            admin = AdminClient({"bootstrap.servers": bench.settings.bootstrap})
            grown = [NewPartitions(topic, 6) for topic in sorted(worker.topics)]
            for done in admin.create_partitions(grown).values():
                await asyncio.to_thread(done.result, PATIENCE_S)
            await until(lambda: len(app.consumer.assignment()) == 2 * 6 + 1)
            await until(lambda: set(worker.epochs) == {0, 1, 2, 3})
            producer = KafkaProducer(bench.settings)
            rows = [(value % 6, None, b"%d" % value) for value in range(6, 606)]
            producer.produce_many(bench.topics.transactions, rows)
            producer.flush(PATIENCE_S)
            await until(lambda: len(bench.store.applied) >= 400)
            assert worker.failure is None
        assert sorted(bench.applied()) == [value for value in range(6, 606) if value % 6 < 4]

    asyncio.run(story())


def test_only_what_a_transaction_has_committed_is_read(stack: Stack, tmp_path: Path) -> None:
    async def story() -> None:
        bench = Bench(stack, tmp_path)
        topic = bench.topics.transactions

        def transaction(name: str, values: range) -> Producer:
            producer = Producer(
                {
                    "bootstrap.servers": bench.settings.bootstrap,
                    "transactional.id": bench.settings.topic_prefix + name,
                }
            )
            producer.init_transactions(PATIENCE_S)
            producer.begin_transaction()
            for value in values:
                producer.produce(topic, value=b"%d" % value, partition=0)
            producer.flush(PATIENCE_S)
            return producer

        worker = bench.worker("one")
        with capture_logs() as logs:
            await read_beside(bench, worker, transaction)
        assert sorted(bench.applied()) == list(range(11, 41))
        assert not [line for line in logs if "delivers nothing" in line["event"]]

    async def read_beside(bench: Bench, worker: Worker, transaction: Any) -> None:
        topic = bench.topics.transactions
        async with bench.running(worker, "one"):
            transaction("aborted", range(1, 11)).abort_transaction(PATIENCE_S)
            transaction("committed", range(11, 21)).commit_transaction(PATIENCE_S)
            slow = transaction("slow", range(21, 31))
            bench.send(topic, range(31, 41))  # in all partitions, also behind the open transaction
            await until(lambda: len(bench.store.applied) >= 17)
            assert not {value for value in bench.applied() if value < 11 or 20 < value < 31}
            slow.commit_transaction(PATIENCE_S)
            await until(lambda: len(bench.store.applied) >= 30)

    asyncio.run(story())
