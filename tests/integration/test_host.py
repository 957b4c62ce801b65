"""The Faust host on a real Kafka: batches reach the worker once, agents run beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from devstack.stack import Stack
from stream_features.app import HostSettings, build_app
from stream_features.worker import Worker
from tests.unit.stream_features.test_worker import Echo, MemoryPublisher, MemoryStore

DEADLINE_S = 40.0


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack.bootstrap


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)


class Bench:
    """Topics of its own, one store, and hosts on it."""

    def __init__(self, bootstrap: str, data_dir: Path) -> None:
        self.bootstrap, self.data_dir, self.prefix = bootstrap, data_dir, f"t{uuid4().hex[:8]}-"
        self.transactions, self.labels, self.control = (
            self.prefix + name for name in ("transactions", "labels", "control")
        )
        self.store, self.publisher = MemoryStore(), MemoryPublisher()
        self.controls: list[Any] = []
        admin = AdminClient({"bootstrap.servers": bootstrap})
        topics = [
            NewTopic(self.transactions, 2, 1),
            NewTopic(self.labels, 2, 1),
            NewTopic(self.control, 1, 1),
        ]
        for done in admin.create_topics(topics).values():
            done.result(20)

    def send(self, topic: str, values: range, partitions: int = 2) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for value in values:
            producer.produce(topic, str(value).encode(), partition=value % partitions)
        assert producer.flush(20) == 0

    def host(self, instance: str) -> tuple[Any, Worker]:
        import time

        worker = Worker(
            transactions=self.transactions,
            labels=self.labels,
            store=self.store,
            publisher=self.publisher,
            computation=Echo(),
            monotonic=time.monotonic,
        )
        settings = HostSettings(
            bootstrap=self.bootstrap,
            group=self.prefix + "group",
            instance=instance,
            data_dir=self.data_dir / instance,
        )
        app = build_app(settings, worker)

        async def control(stream: Any) -> None:
            async for value in stream:
                self.controls.append(value)

        app.agent(app.topic(self.control, value_type=bytes, value_serializer="raw"))(control)
        return app, worker

    def applied(self) -> list[int]:
        return [int(value) for value in self.store.applied]


def test_backlog_live_agents_and_restart_from_the_cursor(kafka: str, tmp_path: Path) -> None:
    async def story() -> None:
        bench = Bench(kafka, tmp_path)
        bench.send(bench.transactions, range(1, 5001))
        bench.send(bench.control, range(3), partitions=1)
        app, _ = bench.host("one")
        await app.start()
        try:
            await until(lambda: len(bench.store.applied) >= 5000)
            await until(lambda: len(bench.controls) == 3)
            bench.send(bench.transactions, range(5001, 5101))
            await until(lambda: len(bench.store.applied) >= 5100)
        finally:
            await app.stop()
        assert bench.applied()[:5000] == list(range(1, 5001))
        assert sorted(bench.applied()) == list(range(1, 5101))
        bench.send(bench.transactions, range(5101, 5201))
        again, _ = bench.host("one")
        await again.start()
        try:
            await until(lambda: len(bench.store.applied) >= 5200)
        finally:
            await again.stop()
        assert sorted(bench.applied()) == list(range(1, 5201))

    asyncio.run(story())
