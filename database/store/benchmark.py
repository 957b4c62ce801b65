"""Benchmark of the store, without Kafka.

Sample vectors and decisions come from memory; the real store decodes and writes them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from database.core.opening import open_database
from database.store.expiry import Retention
from database.store.rows import label_reader
from database.store.store import SERVICE, Store, StoreSources, report
from runtime.clock import SystemClock
from runtime.kafka.memory import MemoryBroker, MemoryReader
from runtime.kafka.protocols import TopicPartition
from runtime.metrics import Metrics
from runtime.settings import load_settings
from schemas.codec.decisions import encode_decisions
from schemas.codec.samples import sample_vectors
from schemas.codec.vectors import decode_feature_vectors
from schemas.currency import CurrencyTable
from schemas.errors import ConfigurationError

KEEP_MS: Final = 10_000 * 86_400_000
REVIEWED_EVERY: Final = 100


@dataclass(frozen=True, slots=True)
class _PreparedTopics:
    """The vectors and decisions of `rows` transactions on an in-memory broker."""

    broker: MemoryBroker
    rows: int

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        return {0: (0, len(self.broker.log(TopicPartition(topic, 0))))}


def measure(rows: int, url: str | None = None) -> dict[str, Any]:
    """Store `rows` decisions with their vectors, 1% of them for review; return the figures.

    Args:
        url: an empty database; by default SQLite in a temporary folder.

    Raises:
        ConfigurationError: the database has already been used for a measurement.
    """
    prepared = _prepare(rows)
    with TemporaryDirectory(prefix="fraud-store-") as folder:
        return _store(prepared, url or f"sqlite:///{Path(folder) / 'fraud.db'}")


def _store(prepared: _PreparedTopics, url: str) -> dict[str, Any]:
    with open_database(load_settings(database_url=url)) as database:
        sources = StoreSources(
            decisions="bench.decisions",
            features="bench.features",
            labels="bench.labels",
            policy="bench.policy",
            open_reader=lambda topic, starts: MemoryReader(prepared.broker, topic, starts),
            bounds=prepared.bounds,
            read_label=label_reader(),
        )
        store = Store(
            database,
            sources,
            keep=Retention(decisions_ms=KEEP_MS, cases_ms=KEEP_MS, audit_ms=KEEP_MS),
            currencies=CurrencyTable(),
            clock=SystemClock(),
            metrics=Metrics(SERVICE),
        )
        store.open()
        try:
            if any(sum(read.values()) for read in store.read.values()):
                raise ConfigurationError(
                    f"{database.name} was measured before: pass an empty database to --database"
                )
            began, cpu = time.monotonic(), time.process_time()
            while store.counts.stored["decisions"] < prepared.rows:
                store.step()
            figures = report(store, time.monotonic() - began, time.process_time() - cpu)
        finally:
            store.close()
        size = database.file.stat().st_size if database.file else None
        return {
            "database": database.name,
            **figures,
            "bytes_per_decision": size and size / prepared.rows,
        }


def _prepare(rows: int) -> _PreparedTopics:
    broker = MemoryBroker(1)
    messages = sample_vectors(rows)
    for start in range(0, rows, 2_000):
        some = messages[start : start + 2_000]
        count = len(some)
        no_model = np.full(count, -1, np.int64)
        decisions = encode_decisions(
            decode_feature_vectors(some),
            action=(np.arange(start, start + count) % REVIEWED_EVERY == 0).astype(np.uint8),
            score=np.full(count, 0.5),
            anomaly=np.full(count, np.nan),
            model=no_model,
            model_ids=[],
            role=np.zeros(count, np.uint8),
            policy_version="bench",
            explanations={},
            decided_at=time.time_ns() // 1000,
        )
        for vector, decision in zip(some, decisions, strict=True):
            broker.append("bench.features", (0, b"", vector))
            broker.append("bench.decisions", (0, b"", decision))
    return _PreparedTopics(broker, rows)
