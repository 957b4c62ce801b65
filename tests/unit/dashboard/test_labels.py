"""The sender of verdicts: when, once, and what happens when Kafka or the database is away."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.review import label_sender
from dashboard.review.case_counts import CaseCounts
from dashboard.review.label_sender import LabelSender
from database.core.database import Database
from database.review import case_work
from database.review.case_labels import LEASE_MS
from database.review.cases import read_case
from runtime.clock import ManualClock
from runtime.kafka.memory import MemoryBroker, MemoryProducer, MemoryReader
from runtime.kafka.protocols import Message
from runtime.metrics import Metrics, read_exposition
from runtime.settings import load_settings
from schemas.codec import avro
from schemas.errors import BrokerUnavailable, DeliveryRejected
from tests.support.dashboard.queued import review, stored
from tests.support.dashboard.site import START
from tests.support.waiting import until

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
UNDO = 60_000


class Bench:
    """A sender on a broker in memory, and cases that are decided."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = ManualClock(START)
        self.broker = MemoryBroker(2, self.clock)
        self.metrics = Metrics("dashboard")
        self.refused = 0
        self.opened = 0
        self.sender = self.another()

    def another(self) -> LabelSender:
        return LabelSender(
            self.database, self.connect, topic="labels", undo_ms=UNDO, clock=self.clock,
            metrics=self.metrics, counts=CaseCounts(0.0),
        )  # fmt: skip

    def connect(self) -> MemoryProducer:
        return Refusing(self)

    def decide(self, *numbers: int) -> None:
        for case in stored(self.database, [review(number) for number in numbers]):
            if case.verdict is None:
                with self.database.begin() as connection:
                    case_work.claim(connection, case.case_id, "ann", START, UNDO)
                    case_work.decide(
                        connection, case.case_id, "ann", "FRAUD", "", self.clock.now_ms()
                    )

    def messages(self) -> list[Message]:
        return MemoryReader(self.broker, "labels").read_to_end()

    def labels(self) -> list[dict[str, Any]]:
        return [avro.decode(message.value or b"")[1] for message in self.messages()]

    def gauge(self, state: str) -> float:
        text = self.metrics.exposition().decode()
        return next(
            value
            for name, labels, value in read_exposition(text)
            if name == "fraud_cases" and labels["state"] == state
        )


class Refusing(MemoryProducer):
    """Refuses as often as its bench says."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.broker)
        self._bench = bench
        bench.opened += 1

    def close(self) -> None:
        super().close()
        self._bench.opened -= 1

    def flush(self, timeout_s: float = 10.0) -> None:
        if self._bench.refused:
            self._bench.refused -= 1
            raise DeliveryRejected("not authorised")
        super().flush(0.0)


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


def test_a_verdict_becomes_a_label_when_it_is_final(bench: Bench) -> None:
    bench.decide(1)
    assert bench.sender.step() == 0
    bench.clock.advance(UNDO - 1)
    assert bench.sender.step() == 0
    bench.sender.count()
    assert bench.gauge("label_unsent") == 1
    bench.clock.advance(1)
    assert bench.sender.step() == 1
    assert bench.sender.step() == 0
    bench.sender.count()
    assert bench.gauge("label_unsent") == 0
    (message,) = bench.messages()
    assert message.key == b"card-1"
    assert bench.labels() == [
        {
            "transaction_id": "tx-1",
            "card_id": "card-1",
            "label": "FRAUD",
            "source": "ANALYST",
            "transaction_time": START,
            "label_time": START,
        }
    ]
    with bench.database.read() as connection:
        case = read_case(connection, 1)
    assert case is not None
    assert case.label_sent_at == START + UNDO


def test_without_kafka_verdicts_wait_and_nothing_is_sent_twice(bench: Bench) -> None:
    bench.decide(1, 2)
    bench.clock.advance(UNDO)
    bench.broker.available = False
    for _ in range(3):
        with pytest.raises(BrokerUnavailable):
            bench.sender.step()
        bench.clock.advance(2 * LEASE_MS)
    bench.broker.available = True
    assert bench.sender.step() == 2
    assert len(bench.messages()) == 2


def test_what_a_dead_sender_took_is_sent_by_another_the_same_bytes(bench: Bench) -> None:
    bench.decide(1)
    bench.clock.advance(UNDO)
    bench.broker.available = False
    with pytest.raises(BrokerUnavailable):
        bench.sender.step()
    other = bench.another()
    assert other.step() == 0  # it may yet be sent by the first
    bench.clock.advance(LEASE_MS)
    bench.broker.available = True
    assert other.step() == 1
    assert bench.sender.step() == 1  # the first was not dead after all
    first, second = bench.messages()
    assert first.value == second.value


def test_a_refused_label_goes_through_a_new_producer(bench: Bench) -> None:
    bench.decide(1)
    bench.clock.advance(UNDO)
    bench.refused = 2
    for _ in range(2):
        with pytest.raises(DeliveryRejected):
            bench.sender.step()
    assert bench.sender.step() == 1


def test_the_thread_says_its_trouble_and_goes_on(bench: Bench) -> None:
    bench.decide(1)
    bench.clock.advance(UNDO)
    bench.broker.available = False
    with bench.sender:
        until(lambda: "Verdicts are waiting" in bench.sender.trouble, "trouble")
        bench.broker.available = True
        until(lambda: not bench.sender.trouble, "no trouble")
        until(lambda: bench.gauge("label_unsent") == 0, "the label")
    assert {label["transaction_id"] for label in bench.labels()} == {"tx-1"}


def test_what_waits_is_counted_while_kafka_takes_nothing(bench: Bench) -> None:
    bench.decide(1)
    bench.clock.advance(UNDO)
    bench.refused = 1_000_000
    with bench.sender:
        until(lambda: bool(bench.sender.trouble), "Kafka refuses")
        assert bench.gauge("label_unsent") == 1


def test_a_producer_that_was_refused_or_is_needed_no_more_is_closed(bench: Bench) -> None:
    bench.decide(1)
    bench.clock.advance(UNDO)
    bench.refused = 1
    with pytest.raises(DeliveryRejected):
        bench.sender.step()
    assert bench.opened == 0
    with bench.sender:
        until(lambda: bench.opened == 1, "a new producer")
    assert bench.opened == 0


def test_the_sender_of_the_settings_waits_for_the_undo_and_sends_to_the_topic(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_sender, "create_topics", lambda *_: None)
    monkeypatch.setattr(label_sender, "KafkaProducer", lambda settings: bench.connect())
    settings = load_settings(case_undo="90s", case_claim="15m", topic_prefix="here.")
    sender = label_sender.label_sender(
        settings, bench.database, bench.clock, bench.metrics, CaseCounts(0.0)
    )
    bench.decide(1)
    bench.clock.advance(89_999)
    assert sender.step() == 0
    bench.clock.advance(1)
    assert sender.step() == 1
    assert len(MemoryReader(bench.broker, "here.labels").read_to_end()) == 1
