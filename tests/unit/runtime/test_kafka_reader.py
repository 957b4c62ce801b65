"""A read to the end that breaks off loses nothing of what it had."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.kafka import reader as kafka_reader
from runtime.kafka.exclusive_log import KafkaExclusiveLog
from runtime.kafka.protocols import Message
from runtime.kafka.reader import KafkaReader
from runtime.settings import load_settings
from schemas.errors import BrokerUnavailable

PARTITIONS, EACH, AT_ONCE = 2, 6, 5


class Broker:
    """A topic of two partitions, delivered by turns, five at a time; may go away in between."""

    def __init__(self) -> None:
        self.waiting = [
            Message("t", place % PARTITIONS, place // PARTITIONS, 0, None, b"%d" % place)
            for place in range(PARTITIONS * EACH)
        ]
        self.fails_at = {1}
        self.calls = 0

    def list_topics(self, topic: str, **_: float) -> Any:
        found = SimpleNamespace(error=None, partitions=dict.fromkeys(range(PARTITIONS)))
        return SimpleNamespace(topics={topic: found})

    def get_watermark_offsets(self, *_: object, **__: float) -> tuple[int, int]:
        return 0, EACH

    def assign(self, _: object) -> None:
        """All of it is read."""

    def poll_batch(self, *_: object) -> list[Message]:
        self.calls += 1
        if self.calls - 1 in self.fails_at:
            raise BrokerUnavailable("away")
        found, self.waiting = self.waiting[:AT_ONCE], self.waiting[AT_ONCE:]
        return found


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr(kafka_reader, "poll_batch", made.poll_batch)
    monkeypatch.setattr("confluent_kafka.Consumer", lambda _: made)
    return made


def values(messages: list[Message]) -> list[int]:
    return [int(message.value or b"") for message in messages]


IN_ORDER = [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]


def breaks_off(read: Callable[[], object]) -> None:
    with pytest.raises(BrokerUnavailable):
        read()


def test_what_was_read_before_the_failure_comes_with_the_rest(broker: Broker) -> None:
    reader = KafkaReader(load_settings(), "t")
    breaks_off(reader.read_to_end)
    assert len(broker.waiting) < PARTITIONS * EACH
    assert values(reader.read_to_end()) == IN_ORDER
    assert reader.read_to_end() == []


def test_who_polls_after_the_failure_gets_it_too(broker: Broker) -> None:
    reader = KafkaReader(load_settings(), "t")
    breaks_off(reader.read_to_end)
    found: list[Message] = []
    while batch := reader.poll_batch(3):
        assert len(batch) <= AT_ONCE
        found += batch
    assert sorted(values(found)) == sorted(IN_ORDER)


def test_a_writer_decides_on_the_whole_log_after_a_failure(broker: Broker) -> None:
    log = KafkaExclusiveLog(load_settings(), "t")
    breaks_off(log.read)
    assert values(log.read()) == IN_ORDER
