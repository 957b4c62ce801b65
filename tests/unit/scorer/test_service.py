"""The scoring loop on Kafka in memory: one answer a position, whatever happens in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.clock import ManualClock
from runtime.kafka.memory import MemoryBroker, MemoryConsumer, MemoryProducer
from runtime.kafka.protocols import Message, Outgoing, TopicPartition
from runtime.metrics import Metrics, read_exposition
from runtime.process import StopSignal
from schemas.codec import avro
from schemas.errors import BrokerUnavailable, FatalError, MembershipLost
from scorer.answered import Answered
from scorer.decision.decide import Serving
from scorer.service import GROUP, Scorer
from tests.support.scorer.stand_ins import vector

FEATURES, DECISIONS, DEAD = "features", "decisions", "dead-letter"


class Holding(MemoryProducer):
    """Sends nothing before it is told to."""

    def produce_many(self, topic: str, records: Iterable[Outgoing]) -> None:
        self._waiting += [(topic, record) for record in records]


class Bench:
    """A broker, and scorers on it one after the other."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(partitions=2)
        self.kind = MemoryProducer
        self.start()

    def start(self) -> None:
        """Start a scorer anew, as after a crash: nothing of the old one is left."""
        self.metrics = Metrics("scorer")
        self.producer = self.kind(self.broker)
        self.scorer = Scorer(
            producer=self.producer,
            decisions=DECISIONS,
            dead_letter=DEAD,
            serving=Serving,
            tail=lambda partition: self.log(DECISIONS, partition)[-20:],
            clock=ManualClock(1_700_000_001_000),
            metrics=self.metrics,
            monotonic=lambda: 0.0,
        )
        self.consumer = MemoryConsumer(
            self.broker, GROUP, [FEATURES],
            on_assign=self.scorer.assigned, on_revoke=self.scorer.revoked,
        )  # fmt: skip

    def log(self, topic: str, partition: int) -> list[Message]:
        return self.broker.log(TopicPartition(topic, partition))

    def publish(self, partition: int, offset: int) -> None:
        value = vector((partition, offset))
        self.broker.append(FEATURES, (partition, b"card", value))

    def step(self) -> None:
        self.scorer.step(self.consumer)

    def answered(self) -> list[tuple[int, int]]:
        found = []
        for partition in range(2):
            for message in self.log(DECISIONS, partition):
                _, decision = avro.decode(message.value or b"")
                assert decision["source_partition"] == partition
                found.append((partition, decision["source_offset"]))
        return found

    def metric(self, name: str) -> float:
        text = self.metrics.exposition().decode()
        return sum(value for found, _, value in read_exposition(text) if found == name)


def test_a_crash_before_the_commit_gives_no_second_answer() -> None:
    bench = Bench()
    for offset in range(30):
        bench.publish(offset % 2, offset // 2)
    bench.step()
    assert len(bench.answered()) == 30
    assert bench.broker.committed == {}  # crashes here: everything is read again
    bench.start()
    bench.publish(0, 15)
    bench.step()
    assert Counter(bench.answered()) == Counter([(n % 2, n // 2) for n in range(30)] + [(0, 15)])
    assert bench.metric("fraud_answered_before_total") == 30


def test_offsets_are_committed_only_after_kafka_has_the_decisions() -> None:
    bench = Bench()
    now = [0.0]
    bench.scorer._monotonic = lambda: now[0]
    bench.publish(0, 0)
    bench.step()
    bench.publish(0, 1)
    bench.step()
    assert bench.broker.committed == {}
    bench.producer.flush = _away  # type: ignore[method-assign]
    now[0] = 1.0
    bench.publish(0, 2)
    with pytest.raises(BrokerUnavailable):
        bench.step()
    assert bench.broker.committed == {}
    del bench.producer.flush
    bench.publish(0, 3)
    bench.step()
    assert bench.broker.committed == {(GROUP, TopicPartition(FEATURES, 0)): 4}
    assert bench.answered() == [(0, 0), (0, 1), (0, 2), (0, 3)]


@pytest.mark.parametrize("still_s", [4.5, 60.0])
def test_a_process_that_stood_still_publishes_nothing_and_reads_again(still_s: float) -> None:
    bench = Bench()
    bench.publish(0, 0)
    bench.step()
    times = iter([0.0, 0.0, 0.0, still_s])
    bench.scorer._monotonic = lambda: next(times, still_s)
    for offset in (1, 2, 3):
        bench.publish(0, offset)
    bench.step()
    assert bench.answered() == [(0, 0)]
    bench.step()
    assert bench.answered() == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert bench.metric("fraud_retries_total") == 1


def test_a_slow_batch_is_not_a_standstill() -> None:
    bench = Bench()
    bench.publish(0, 0)
    times = iter([0.0, 0.0, 0.0])
    bench.scorer._monotonic = lambda: next(times, 3.5)
    bench.step()
    assert bench.answered() == [(0, 0)]
    assert bench.metric("fraud_retries_total") == 0


def test_what_was_answered_is_sent_before_somebody_else_takes_the_partition() -> None:
    bench = Bench()
    bench.kind = Holding
    bench.start()
    bench.publish(0, 0)
    bench.step()
    assert bench.answered() == [], "it is still held"
    before = bench.producer
    bench.consumer.close()
    assert bench.answered() == [(0, 0)]
    bench.start()
    bench.step()
    before.flush()
    bench.producer.flush()
    assert bench.answered() == [(0, 0)], "the next owner knows of it"


def test_of_a_partition_that_was_let_go_nothing_is_committed() -> None:
    bench = Bench()
    now = [0.0]
    bench.scorer._monotonic = lambda: now[0]
    bench.publish(0, 0)
    bench.publish(1, 0)
    bench.step()
    bench.scorer.revoked([TopicPartition(FEATURES, 0)])
    now[0] = 1.0
    bench.publish(1, 1)
    bench.step()
    assert bench.broker.committed == {(GROUP, TopicPartition(FEATURES, 1)): 2}


def test_after_half_a_batch_it_ends_so_that_its_successor_reads_what_arrived() -> None:
    bench = Bench()

    def half(topic: str, records: Iterable[Outgoing]) -> None:
        bench.broker.append(topic, next(iter(records)))
        raise BrokerUnavailable("the queue is full")

    bench.producer.produce_many = half  # type: ignore[method-assign]
    for offset in range(3):
        bench.publish(0, offset)
    with pytest.raises(FatalError, match="only part"):
        bench.step()
    bench.start()
    bench.step()
    assert bench.answered() == [(0, 0), (0, 1), (0, 2)]


def test_a_vector_in_a_partition_that_it_does_not_name_is_refused() -> None:
    bench = Bench()
    bench.broker.append(FEATURES, (0, b"card", vector((1, 5))))
    bench.publish(0, 1)
    bench.publish(1, 3)
    bench.step()
    assert bench.answered() == [(0, 1), (1, 3)]
    letters = [each for partition in range(2) for each in bench.log(DEAD, partition)]
    [letter] = [avro.decode(each.value or b"")[1] for each in letters]
    assert (letter["field"], letter["partition"], letter["offset"]) == ("source_partition", 0, 0)


def _away(timeout_s: float = 10.0) -> None:
    raise BrokerUnavailable("away")


def test_a_foreign_message_among_the_decisions_does_not_hide_what_was_answered() -> None:
    bench = Bench()
    bench.publish(0, 7)
    bench.step()
    bench.broker.append(DECISIONS, (0, b"card", b"noise"))
    bench.start()
    bench.publish(0, 7)
    bench.publish(0, 8)
    bench.step()
    assert len(bench.log(DECISIONS, 0)) == 3


def test_a_decision_of_another_partition_does_not_hide_what_is_to_be_answered() -> None:
    bench = Bench()
    bench.publish(1, 7)
    bench.step()
    [strange] = bench.log(DECISIONS, 1)
    bench.broker.append(DECISIONS, (0, b"card", strange.value))
    bench.start()
    bench.publish(0, 3)
    bench.step()
    _, decision = avro.decode(bench.log(DECISIONS, 0)[-1].value or b"")
    assert (decision["source_partition"], decision["source_offset"]) == (0, 3)


@given(st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), max_size=8), max_size=6))
def test_each_position_is_fresh_once_however_re_emissions_are_cut(
    blocks: list[list[tuple[int, int]]],
) -> None:
    """Each block emits a run from some earlier position on; batches cut anywhere."""
    answered, taken = Answered(), []
    ends = {0: 0, 1: 0}
    for block in blocks:
        rows = []
        for partition, back in block:
            start = max(ends[partition] - back, 0)
            stop = ends[partition] + 2
            rows += [(partition, offset) for offset in range(start, stop)]
            ends[partition] = stop
        if not rows:
            continue
        partitions, offsets = map(np_array, zip(*rows, strict=True))
        fresh = answered.fresh(partitions, offsets)
        answered.note(partitions[fresh], offsets[fresh])
        taken += [row for row, new in zip(rows, fresh, strict=True) if new]
    assert Counter(taken) == Counter((p, n) for p, end in ends.items() for n in range(end))


def np_array(values: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def test_a_member_that_lost_its_place_joins_again() -> None:
    bench = Bench()
    bench.publish(0, 5)
    stop = StopSignal(install=False)

    class Lost(MemoryConsumer):
        def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
            raise MembershipLost("fenced")

    class Last(MemoryConsumer):
        def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
            found = super().poll_batch(max_records, timeout_s)
            stop.set()
            return found

    kinds = iter([Lost, Last])

    def join() -> MemoryConsumer:
        return next(kinds)(
            bench.broker, GROUP, [FEATURES],
            on_assign=bench.scorer.assigned, on_revoke=bench.scorer.revoked,
        )  # fmt: skip

    bench.scorer.run(join, stop)
    assert bench.answered() == [(0, 5)]
    committed = {(GROUP, TopicPartition(FEATURES, 0)): 1}
    assert bench.broker.committed == committed, "told to stop, it commits what it has answered"
