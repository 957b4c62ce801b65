"""A rebuild after the store was lost: how far it goes and in what order; it publishes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from runtime.feature_store.protocol import Commit, CommitResult
from runtime.kafka.memory import MemoryBroker, MemoryReader
from runtime.kafka.protocols import Message, TopicPartition
from runtime.settings import load_settings
from schemas.codec import avro
from schemas.codec.vectors import encode_feature_vectors
from schemas.errors import ConfigurationError, FatalError, Fenced
from schemas.features import DAY, VECTOR_SIZE
from stream_features.operate import lost_history
from stream_features.operate import rebuild as subject
from stream_features.worker.assembly import topics_of
from tests.support.monitor.traffic import decision_message
from tests.support.stream_features.stand_ins import NOW, Echo, LoggedStore, stand_in_worker

T0, T1 = TopicPartition("transactions", 0), TopicPartition("transactions", 1)
L0 = TopicPartition("labels", 0)
TRANSACTION = {
    "transaction_id": "1",
    "event_time": NOW,
    "card_id": "c",
    "merchant_id": "m",
    "amount": 100,
    "currency": "EUR",
}
BODY = avro.encode("Transaction", TRANSACTION)[len(avro.header("Transaction")) :]


class GapReader(MemoryReader):
    """Reads a log whose last two offsets are a gap, as after a transaction marker."""

    def positions(self) -> dict[int, int]:
        return {number: at + 2 * (at == 3) for number, at in super().positions().items()}


class OneByOne(MemoryReader):
    """Gets a record at a time, as where they are large."""

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        return super().poll_batch(1, timeout_s)


class Thief(Echo):
    """Another worker takes partition 0 over while the first batch is computed."""

    def __init__(self, store: LoggedStore) -> None:
        super().__init__()
        self.store = store

    def transactions(self, batch: Any) -> Any:
        self.store.acquire(0)
        return super().transactions(batch)


class RefusesTheEnd(LoggedStore):
    """Refuses the commit that moves cursors alone."""

    def commit(self, commit: Commit) -> CommitResult:
        if not commit.cards:
            return CommitResult(False, "taken over")
        return super().commit(commit)


class Lost:
    """A lost store, and the Kafka from which it is rebuilt."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = load_settings(partitions=2)
        self.store, self.echo = LoggedStore(), Echo()
        self.broker = MemoryBroker(partitions=2)
        self.committed: dict[TopicPartition, int] = {}
        self.deleted: dict[TopicPartition, int] = {}
        """First offset that Kafka still has."""
        self.progress: list[tuple[int, int]] = []
        self.reader: type[MemoryReader] = MemoryReader

        def worker(settings: Any, store: Any, producer: Any, metrics: Any, **options: Any) -> Any:
            return stand_in_worker(
                store,
                producer,
                topics=topics_of(settings),
                computation=options["around"](self.echo),
                name=options["name"],
                positions=options["positions"](range(2)),
                monotonic=time.monotonic,
                max_wait_s=0.2,
            )

        def reader(settings: Any, topic: str, starts: dict[int, int]) -> MemoryReader:
            first = {n: self.deleted.get(TopicPartition(topic, n), 0) for n in starts}
            return self.reader(self.broker, topic, {n: max(first[n], starts[n]) for n in starts})

        def bounds(settings: Any, topic: str) -> dict[int, tuple[int, int]]:
            places = self.broker.places([topic])
            return {
                at.partition: (self.deleted.get(at, 0), len(self.broker.log(at))) for at in places
            }

        def tail(settings: Any, topic: str, number: int, most: int) -> list[Message]:
            return self.broker.log(TopicPartition(topic, number))[-most:]

        for name, stand_in in {
            "build_worker": worker,
            "KafkaReader": reader,
            "read_tail": tail,
            "end_offsets": lambda settings, topic: {
                n: len(self.broker.log(TopicPartition(topic, n))) for n in range(2)
            },
            "group_positions": lambda settings: lambda numbers: dict(self.committed),
        }.items():
            monkeypatch.setattr(subject, name, stand_in)
        monkeypatch.setattr(lost_history, "KafkaReader", reader)
        monkeypatch.setattr(lost_history, "offset_bounds", bounds)

    def send(self, at: TopicPartition, values: Iterable[int]) -> None:
        for value in values:
            self.broker.append(at.topic, (at.partition, None, str(value).encode()))

    def rebuild(self, **options: Any) -> int:
        return subject.rebuild(
            self.settings,
            self.store,
            lambda done, total: self.progress.append((done, total)),
            **options,
        )

    def decide(self, offset: int, event_time: int) -> None:
        """Put the decision on a transaction of partition 0 on `decisions`."""
        self.broker.append("decisions", (0, None, decision_message(offset, 0.1, event_time, "m")))

    def publish(self, number: int, offsets: Iterable[int]) -> None:
        """Put the vectors of these transactions on `features`."""
        sources = np.array(list(offsets), np.int64)
        encoded = encode_feature_vectors(
            source_partition=np.full(len(sources), number),
            source_offset=sources,
            received_at=np.full(len(sources), NOW),
            computed_at=NOW * 1_000,
            flags=np.zeros(len(sources), np.uint8),
            vectors=np.zeros((len(sources), VECTOR_SIZE), np.float32),
            bodies=[BODY] * len(sources),
        )
        for value in encoded:
            self.broker.append("features", (number, None, value))

    def applied(self) -> list[int]:
        return [int(value) for value in self.store.applied]


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> Lost:
    return Lost(monkeypatch)


def test_transactions_are_replayed_up_to_the_last_vector_and_labels_to_the_committed_ones(
    lost: Lost,
) -> None:
    lost.send(T0, [1, 4, 5, 8])
    lost.send(T1, [2, 3, 9])
    lost.send(L0, [70, 71, 72])
    lost.publish(0, [0, 2, 1])  # once more after a crash: the last one is not the newest
    lost.publish(1, [0, 1])
    lost.committed = {T0: 1, T1: 3, L0: 2}
    assert lost.rebuild() == 7
    assert lost.applied() == [70, 71, 1, 2, 3, 4, 5]
    assert lost.store.positions([0, 1]) == {
        0: {"transactions": 3, "labels": 2},
        1: {"transactions": 2},
    }
    assert lost.progress[-1] == (7, 7)


def test_a_partition_that_was_never_read_is_not_waited_for(lost: Lost) -> None:
    """Kafka knows no position of it, so its end has to be taken as known."""
    lost.committed = {T0: 1, L0: 2}
    assert subject.targets(lost.settings).positions == {
        T0: 1,
        T1: 0,
        L0: 2,
        TopicPartition("labels", 1): 0,
    }


def test_all_labels_come_before_the_first_transaction(lost: Lost) -> None:
    lost.reader = OneByOne
    lost.send(T0, [1, 2])
    lost.send(L0, [70, 71, 72])
    lost.committed = {T0: 2, L0: 3}
    assert lost.rebuild() == 5
    assert lost.applied() == [70, 71, 72, 1, 2]


def test_a_rebuild_publishes_nothing_and_leaves_nothing_to_be_published(lost: Lost) -> None:
    lost.send(T0, range(10))
    lost.echo.poison = {b"4"}
    lost.committed = {T0: 10}
    assert lost.rebuild() == 10
    assert lost.broker.log(TopicPartition("features", 0)) == []
    assert lost.broker.log(TopicPartition("dead-letter", 0)) == []
    assert lost.store.acquire(0).outbox == b""


def test_an_interrupted_rebuild_goes_on_where_it_stood(lost: Lost) -> None:
    lost.send(T0, range(6))
    lost.committed = {T0: 4}
    lost.rebuild()
    lost.committed = {T0: 6}
    assert lost.rebuild() == 2
    assert lost.applied() == [0, 1, 2, 3, 4, 5]
    assert lost.rebuild() == 0


def test_gaps_in_front_of_the_target_are_passed(lost: Lost) -> None:
    """Offsets without a record are not waited for."""
    lost.send(T0, range(3))
    lost.committed = {T0: 5, L0: 0}
    lost.reader = GapReader
    assert lost.rebuild() == 3
    assert lost.store.positions([0]) == {0: {"transactions": 5}}


def test_positions_that_the_store_does_not_accept_end_the_rebuild(lost: Lost) -> None:
    lost.send(T0, range(3))
    lost.committed = {T0: 5}
    lost.reader, lost.store = GapReader, RefusesTheEnd()
    with pytest.raises(Fenced, match="taken over"):
        lost.rebuild()


def test_a_worker_that_takes_a_partition_over_ends_the_rebuild(lost: Lost) -> None:
    lost.send(T0, range(3))
    lost.committed = {T0: 3}
    lost.echo = Thief(lost.store)
    with pytest.raises(FatalError, match="stop every `stream_features run`"):
        lost.rebuild()
    assert lost.applied() == []


def aged(lost: Lost, oldest_days: int) -> None:
    """A day has one transaction, the last of them yesterday; Kafka has deleted the first six."""
    lost.send(T0, [NOW - days * DAY for days in range(oldest_days, 0, -1)])
    lost.publish(0, range(oldest_days))
    lost.deleted = {T0: 6}


def test_a_history_that_kafka_has_deleted_is_told_and_refused(lost: Lost) -> None:
    aged(lost, 20)
    lost.decide(2, NOW - 18 * DAY)
    with pytest.raises(ConfigurationError) as raised:
        lost.rebuild()
    assert str(raised.value) == (
        "6 transactions, of event days from 2023-10-27 (or earlier) to 2023-10-31, are no longer "
        "in Kafka (transactions[0] offsets 0 to 5): features that look back up to 30 days are too "
        "small until 2023-11-30. Restore a backup of Redis and rebuild from there, or give "
        "--incomplete to go on without them."
    )
    assert lost.applied() == []
    assert lost.store.positions([0]) == {0: {}}


def test_an_operator_may_do_without_what_is_deleted(lost: Lost) -> None:
    aged(lost, 20)
    lost.decide(6, NOW - 14 * DAY)  # on the first one that is there: it tells nothing of the others
    told: list[str] = []
    assert lost.rebuild(incomplete=True, warn=told.append) == 14
    [text] = told
    assert "6 transactions, of event days until 2023-10-31, are no longer" in text
    assert lost.store.positions([0]) == {0: {"transactions": 20}}
    assert lost.rebuild() == 0  # nothing is missing of what is left to be done


def test_a_backup_of_redis_needs_only_what_came_after_it(lost: Lost) -> None:
    aged(lost, 20)
    lost.deleted = {}
    lost.committed, published = {T0: 8}, lost.broker.log(TopicPartition("features", 0))
    kept = published[:]
    published.clear()
    lost.rebuild()
    published.extend(kept)
    lost.deleted = {T0: 6}
    assert lost.rebuild() == 12


def test_what_the_state_would_no_longer_hold_is_not_missed(lost: Lost) -> None:
    """The first transaction that is there is 37 days older than the newest vector."""
    aged(lost, 43)
    assert lost.rebuild() == 37


def test_nothing_left_of_a_partition_is_too_small_from_the_newest_vector_on(lost: Lost) -> None:
    aged(lost, 8)
    lost.deleted = {T0: 8}
    with pytest.raises(ConfigurationError, match=r"offsets 0 to 7\).* too small until 2023-12-14"):
        lost.rebuild()
    assert lost.rebuild(incomplete=True) == 0


def test_deleted_labels_are_missed_until_their_transactions_are_too_old(lost: Lost) -> None:
    aged(lost, 20)
    lost.deleted = {L0: 2}
    label = {"transaction_id": "t", "card_id": "c", "label": "FRAUD", "source": "CHARGEBACK"}
    for days in (60, 50, 36):
        time = {"transaction_time": NOW - 90 * DAY, "label_time": NOW - days * DAY}
        lost.broker.append("labels", (0, None, json.dumps(label | time).encode()))
    lost.committed = {L0: 3}
    with pytest.raises(ConfigurationError) as raised:
        lost.rebuild()
    assert str(raised.value).startswith(
        "2 labels from before 2023-10-09 are no longer in Kafka (labels[0] offsets 0 to 1)"
    )
    lost.deleted = {L0: 1}  # the first one that is there is from 50 days ago
    assert lost.rebuild() == 22
