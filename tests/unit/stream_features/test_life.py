"""How long state lives after its last change."""

from __future__ import annotations

import asyncio

import pytest

from runtime.feature_store.protocol import Commit, CommitResult
from runtime.kafka.memory import MemoryBroker, MemoryProducer
from runtime.kafka.protocols import TopicPartition
from runtime.metrics import Metrics
from runtime.settings import load_settings
from stream_features.worker.assembly import build_worker
from stream_features.worker.commits import entity_ttl_ms
from tests.support.stream_features.stand_ins import Echo, LoggedStore, Record

DAY_MS = 86_400_000
EXPECTED = [("7d", 45 * DAY_MS), ("12h", 38 * DAY_MS + DAY_MS // 2), ("60d", 98 * DAY_MS)]


@pytest.mark.parametrize(("delay_ms", "life"), [(0, 38 * DAY_MS), (7 * DAY_MS, 45 * DAY_MS)])
def test_state_outlives_the_windows_the_labels_and_an_outage_of_a_week(
    delay_ms: int, life: int
) -> None:
    assert entity_ttl_ms(delay_ms) == life


class LifeStore(LoggedStore):
    """Remembers how long what was written is to live."""

    def __init__(self) -> None:
        super().__init__()
        self.lives: list[int] = []

    def commit(self, commit: Commit) -> CommitResult:
        self.lives.append(commit.ttl_ms)
        return super().commit(commit)


@pytest.mark.parametrize(("delay", "life"), EXPECTED)
def test_the_worker_writes_state_that_lives_as_long_as_the_label_delay_asks(
    delay: str, life: int
) -> None:
    store = LifeStore()
    worker = build_worker(
        load_settings(label_delay=delay, partitions=1),  # it owns all, so it waits for nobody
        store,
        MemoryProducer(MemoryBroker(1)),
        Metrics("stream_features"),
        name="only",
        positions=lambda numbers: {},
        around=lambda inner: Echo(),
    )
    places = [TopicPartition("transactions", 0), TopicPartition("labels", 0)]
    record = Record("transactions", 0, 0, b"1700000000000")

    async def serve() -> None:
        await worker.start_at(places)
        coming = [record]
        for _ in range(30):
            await worker.handle({places[0]: coming, places[1]: []}, {places[0]: 1, places[1]: 0})
            coming = []

    asyncio.run(serve())
    assert store.lives == [life]
