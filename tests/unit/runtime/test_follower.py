"""One follower of topics: what it hands on, what stops it, and what it does without Kafka."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from runtime.kafka import follower as module
from runtime.kafka.follower import Feed, Follower
from runtime.kafka.protocols import Message
from schemas.errors import BrokerUnavailable, ConfigurationError
from tests.support.waiting import PATIENCE_S


class Script:
    """A source that gives, or raises, what it was given, and then nothing."""

    def __init__(self, *parts: list[Message] | Exception) -> None:
        self.parts, self.closed = list(parts), False

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        if not self.parts:
            return []
        part = self.parts.pop(0)
        if isinstance(part, Exception):
            raise part
        return part

    def close(self) -> None:
        self.closed = True


class Taken:
    """Collects messages; `enough` is set when so many have come."""

    def __init__(self, wanted: int) -> None:
        self.offsets: list[int] = []
        self.wanted, self.enough = wanted, threading.Event()

    def __call__(self, messages: Sequence[Message]) -> None:
        self.offsets += [message.offset for message in messages]
        if len(self.offsets) >= self.wanted:
            self.enough.set()


def message(offset: int) -> Message:
    return Message("topic", 0, offset, 0, None, b"")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.001)


def test_each_message_is_handed_on_once_and_in_order_through_an_absence_of_kafka() -> None:
    taken, problems = Taken(3), list[str]()
    source = Script([message(1)], BrokerUnavailable("away"), [message(2), message(3)])
    follower = Follower("a topic", lambda: [Feed(source, taken, 0.001)], problems.append)
    follower.start()
    assert taken.enough.wait(PATIENCE_S)
    assert follower.dead() == ""
    follower.stop()
    assert taken.offsets == [1, 2, 3]
    assert problems == ["away", ""]
    assert source.closed


def test_an_error_of_the_taker_ends_it_and_it_says_so() -> None:
    seen = threading.Event()

    def take(messages: Sequence[Message]) -> None:
        seen.set()
        raise ValueError("a fault")

    follower = Follower("models", lambda: [Feed(Script([message(1)]), take, 0.001)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda _: None)
        follower.start()
        assert seen.wait(PATIENCE_S)
        follower._thread.join(PATIENCE_S)
    assert follower.dead() == "models is no longer followed: restart this process"
    follower.stop()
    assert follower.dead() == ""  # asked to stop: nothing is wrong


def test_without_kafka_a_start_fails_and_a_patient_start_waits() -> None:
    taken, problems = Taken(1), list[str]()
    answers = [ConfigurationError("topic t has 1 partition"), BrokerUnavailable("away")]
    source = Script([message(7)])

    def open_feeds() -> list[Feed]:
        if answers:
            raise answers.pop(0)
        return [Feed(source, taken, 0.001)]

    impatient = Follower("a topic", open_feeds)
    with pytest.raises(ConfigurationError):
        impatient.start()
    patient = Follower("a topic", open_feeds, problems.append)
    patient.start_patiently()
    assert taken.enough.wait(PATIENCE_S)
    patient.stop()
    assert taken.offsets == [7]
    assert problems == ["away", ""]


def test_a_taker_may_replace_its_source() -> None:
    taken = Taken(2)
    first, second = Script([message(1)]), Script([message(2)])

    def take(messages: Sequence[Message]) -> None:
        taken(messages)
        if feed.source is first:
            first.close()
            feed.source = second

    feed = Feed(first, take, 0.001)
    follower = Follower("a topic", lambda: [feed])
    follower.start()
    assert taken.enough.wait(PATIENCE_S)
    follower.stop()
    assert (taken.offsets, second.closed) == ([1, 2], True)


def test_a_stop_does_not_wait_for_a_feed_that_keeps_its_messages() -> None:
    reached = threading.Event()
    follower: Follower

    def take(messages: Sequence[Message]) -> None:
        reached.set()
        while not follower.stopping:
            threading.Event().wait(0.001)

    source = Script([message(1)])
    follower = Follower("decisions", lambda: [Feed(source, take, 0.001)])
    follower.start()
    assert reached.wait(PATIENCE_S)
    follower.stop()
    assert source.closed
