"""Stand-ins for the parts around a worker: a computation without an engine, a store with a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from runtime.clock import ManualClock
from runtime.feature_store.memory import MemoryFeatureStore
from runtime.feature_store.protocol import Commit, CommitResult
from runtime.kafka.protocols import Producer, TopicPartition
from runtime.metrics import Metrics
from schemas.columns import empty_columns
from schemas.errors import BadMessage, StoreUnavailable, TemporaryError
from schemas.features import DAY
from stream_features.worker.arrival_times import BY_BROKER
from stream_features.worker.arrivals import Arrivals
from stream_features.worker.commits import Commits, WorkerTopics, entity_ttl_ms
from stream_features.worker.computation import Computed
from stream_features.worker.cycle import Worker
from stream_features.worker.ordering import NO_TIME
from stream_features.worker.outbox import Messages
from stream_features.worker.stages import StageTimers
from stream_features.worker.watermark_alignment import WatermarkAlignment

TOPICS = WorkerTopics(transactions="t", labels="l", features="f", dead_letter="d", partitions=4)
NOW = 1_700_000_000_000


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    value: bytes
    key: bytes | None = None
    timestamp: int = NOW
    timestamp_type: int = BY_BROKER


class LoggedStore(MemoryFeatureStore):
    """Remembers what was applied, in order; can fail before a commit, or lose its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.applied: list[bytes] = []
        self.fail_before = 0
        self.fail_after = 0

    def commit(self, commit: Commit) -> CommitResult:
        if self.fail_before:
            self.fail_before -= 1
            raise StoreUnavailable("away")
        result = super().commit(commit)
        if result.accepted:
            self.applied += [value for _, value in commit.cards]
        if self.fail_after:
            self.fail_after -= 1
            raise StoreUnavailable("answer lost")
        return result


class Echo:
    """A transaction's value is its event time, its id and its vector; "x" is refused at decoding.

    `poison` are values that `transactions` and `labels` raise for; `away` counts how often
    `transactions` cannot reach the world.
    """

    def __init__(self) -> None:
        self.poison: set[bytes] = set()
        self.away = 0
        self.calls = 0

    def decode(self, records: Mapping[int, Sequence[Any]]) -> Arrivals:
        flat = [record for some in records.values() for record in some]
        columns = empty_columns(len(flat))
        values = [record.value for record in flat]
        columns.time[:] = [NO_TIME if value == b"x" else int(value) for value in values]
        return Arrivals(
            np.array([record.partition for record in flat], np.int64),
            np.array([record.offset for record in flat], np.int64),
            np.array([record.timestamp for record in flat], np.int64),
            columns,
            values,
            values,
            values,
            {(r.partition, r.offset): (r.key, b"dead") for r in flat if r.value == b"x"},
        )

    def transactions(self, batch: Arrivals) -> Computed:
        self.calls += 1
        if self.away:
            self.away -= 1
            raise TemporaryError("registry away")
        if self.poison & set(batch.bodies):
            raise ZeroDivisionError("poisoned")
        messages: dict[int, Messages] = {}
        for number, offset, body in zip(
            batch.partition.tolist(), batch.offset.tolist(), batch.bodies, strict=True
        ):
            into = messages.setdefault(number, Messages())
            if (number, offset) in batch.dead:
                into.dead_keys.append(batch.dead[number, offset][0])
                into.dead_letters.append(batch.dead[number, offset][1])
            else:
                into.keys.append(body)
                into.vectors.append(body)
        return Computed(cards=[(body, body) for body in batch.bodies], messages=messages)

    def labels(self, records: Sequence[Any]) -> Computed:
        if self.poison & {record.value for record in records}:
            raise BadMessage("poisoned label")
        return Computed(cards=[(b"l" + record.value, record.value) for record in records])

    def refuse_transaction(self, row: Arrivals, error: Exception) -> Computed:
        assert len(row) == 1
        return Computed(
            messages={int(row.partition[0]): Messages([], [], [None], [str(error).encode()])}
        )

    def refuse_label(self, record: Any, error: Exception) -> Computed:
        return Computed(
            messages={record.partition: Messages([], [], [None], [str(error).encode()])}
        )


def stand_in_worker(
    store: MemoryFeatureStore,
    producer: Producer,
    *,
    topics: WorkerTopics = TOPICS,
    computation: Echo | None = None,
    partitions: int = 2,
    positions: Mapping[TopicPartition, int] | None = None,
    name: str = "one",
    now_ms: int = NOW,
    max_unconfirmed: int = 500_000,
    **options: Any,
) -> Worker:
    """Return a worker whose clocks stand still."""
    metrics = Metrics("test")
    stages = StageTimers(metrics)
    monotonic = options.pop("monotonic", lambda: 0.0)
    return Worker(
        topics=topics,
        commits=Commits(
            topics=topics,
            store=store,
            producer=producer,
            positions=lambda numbers: {
                at: n for at, n in (positions or {}).items() if at.partition in numbers
            },
            metrics=metrics,
            stages=stages,
            ttl_ms=entity_ttl_ms(7 * DAY),
            max_unconfirmed=max_unconfirmed,
        ),
        computation=computation or Echo(),
        alignment=WatermarkAlignment(store, name, partitions, monotonic),
        clock=ManualClock(now_ms),
        monotonic=monotonic,
        metrics=metrics,
        stages=stages,
        retry_s=0.0,
        **options,
    )
