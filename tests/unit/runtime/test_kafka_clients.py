"""How our Kafka clients are set up, and what a poll does with an error among messages."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import confluent_kafka as ck
import pytest
from confluent_kafka.cimpl import NewTopic
from structlog.testing import capture_logs

from runtime.kafka import topic_admin
from runtime.kafka.clients import KafkaConsumer, KafkaProducer, poll_batch
from runtime.kafka.non_blocking_producer import KafkaNonBlockingProducer
from runtime.kafka.partitioner import partition_of
from runtime.kafka.protocols import BY_KEY, TopicPartition
from runtime.kafka.reader import KafkaReader, offset_bounds
from runtime.kafka.tail import KafkaTail
from runtime.kafka.topic_admin import create_topics
from runtime.metrics import Metrics
from runtime.settings import load_settings
from schemas.errors import BrokerUnavailable, MembershipLost

DAY_MS = 86_400_000


class Client:
    """Any client: notes how it was set up, and knows a topic of two partitions of 100 messages."""

    made: list[dict[str, Any]]

    def __init__(self, config: dict[str, Any]) -> None:
        self.made.append(config)
        self.assigned: list[ck.TopicPartition] = []

    def subscribe(self, *_: object, **__: object) -> None:
        """Nothing comes."""

    def assign(self, places: list[ck.TopicPartition]) -> None:
        self.assigned = places

    def list_topics(self, topic: str, **_: object) -> Any:
        found = SimpleNamespace(error=None, partitions={0: None, 1: None})
        return SimpleNamespace(topics={topic: found})

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return 0, 100

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The settings of every client, in the order in which these were made."""
    noted: list[dict[str, Any]] = []
    kind = type("Noted", (Client,), {"made": noted})
    monkeypatch.setattr(ck, "Consumer", kind)
    monkeypatch.setattr(ck, "Producer", kind)
    return noted


def test_no_reader_sees_what_is_not_committed(made: list[dict[str, Any]]) -> None:
    settings = load_settings()
    KafkaConsumer(settings, "group", ["t"])
    KafkaReader(settings, "t")
    KafkaReader(settings, "t", {0: 5})
    KafkaTail(settings, ["t"])
    offset_bounds(settings, "t")
    assert len(made) >= 5
    assert {config["isolation.level"] for config in made} == {"read_committed"}


def test_only_a_group_that_wants_it_begins_at_the_beginning(made: list[dict[str, Any]]) -> None:
    settings = load_settings()
    KafkaConsumer(settings, "group", ["t"])
    KafkaConsumer(settings, "group", ["t"], from_beginning=False, instance_id="me")
    assert [config["auto.offset.reset"] for config in made] == ["earliest", "latest"]
    assert [config.get("group.instance.id") for config in made] == [None, "me"]
    assert {config["enable.auto.commit"] for config in made} == {False}


def test_producers_lose_nothing_repeat_nothing_and_never_give_up(
    made: list[dict[str, Any]],
) -> None:
    settings = load_settings()
    KafkaProducer(settings)
    KafkaNonBlockingProducer(settings, "t")
    promised = {
        "enable.idempotence": True,
        "acks": "all",
        "message.timeout.ms": 0,
        "partitioner": "murmur2_random",
    }
    assert [{name: config[name] for name in promised} for config in made] == [promised] * 2


def test_a_tail_begins_a_little_before_the_end_of_each_partition(
    made: list[dict[str, Any]],
) -> None:
    tails = [KafkaTail(load_settings(), ["t"], before) for before in (0, 10, 1_000)]
    clients: list[Any] = [tail._consumer for tail in tails]
    starts = [[place.offset for place in client.assigned] for client in clients]
    assert starts == [[100, 100], [95, 95], [0, 0]]


class Assigned(Client):
    """Its group has read partition 0 to 20 and partition 1 to 70; the log begins at 50."""

    def __init__(self, _: dict[str, Any]) -> None:
        self.assigned = []

    def committed(self, places: list[ck.TopicPartition], **_: object) -> list[ck.TopicPartition]:
        return [ck.TopicPartition("t", at.partition, (20, 70)[at.partition]) for at in places]

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return 50, 100

    def incremental_assign(self, places: list[ck.TopicPartition]) -> None:
        self.assigned = places


@pytest.mark.parametrize("starts", [None, {TopicPartition("t", 0): 20, TopicPartition("t", 1): 70}])
def test_records_that_expired_before_they_were_read_are_told(
    monkeypatch: pytest.MonkeyPatch, starts: dict[TopicPartition, int] | None
) -> None:
    monkeypatch.setattr(ck, "Consumer", Assigned)
    metrics = Metrics("scorer")
    consumer = KafkaConsumer(load_settings(), "group", ["t"], on_assign=lambda _: starts)
    with capture_logs() as lines:
        places = [ck.TopicPartition("t", number) for number in range(2)]
        consumer._assigned(consumer._consumer, places)
    [line] = [each for each in lines if "deleted before they were read" in each["event"]]
    assert (line["topic"], line["partition"], line["records"]) == ("t", 0, 30)
    counted = b'fraud_kafka_errors_total{error="RECORDS_EXPIRED",service="scorer"} 1.0'
    assert counted in metrics.exposition()


class Polled:
    """A consumer that has all of these at once: values of messages, and errors."""

    def __init__(self, *waiting: bytes | ck.KafkaError) -> None:
        self.waiting = [self.message(offset, each) for offset, each in enumerate(waiting)]

    def message(self, offset: int, each: bytes | ck.KafkaError) -> Any:
        bad = isinstance(each, ck.KafkaError)
        answers = {
            "error": each if bad else None, "topic": "t", "partition": 0, "offset": offset,
            "timestamp": (1, 7), "key": None, "value": None if bad else each,
        }  # fmt: skip
        return SimpleNamespace(**{name: lambda it=it: it for name, it in answers.items()})

    def poll(self, _: float) -> Any:
        return self.waiting.pop(0) if self.waiting else None

    def consume(self, most: int, timeout: float) -> list[Any]:
        found, self.waiting = self.waiting[:most], self.waiting[most:]
        return found


LASTING = ck.KafkaError(ck.KafkaError.TOPIC_AUTHORIZATION_FAILED)
TRANSIENT_ERRORS = ck.KafkaError(ck.KafkaError._ALL_BROKERS_DOWN)
FATAL = ck.KafkaError(ck.KafkaError._FATAL, "fenced", fatal=True)


def test_messages_that_came_with_an_error_are_not_lost() -> None:
    consumer: Any = Polled(b"1", LASTING, b"2")
    assert [message.value for message in poll_batch(consumer, 10, 0.0)] == [b"1", b"2"]


def test_an_error_alone_is_raised_unless_it_passes() -> None:
    lasting: Any = Polled(LASTING)
    with pytest.raises(BrokerUnavailable):
        poll_batch(lasting, 10, 0.0)
    passing: Any = Polled(TRANSIENT_ERRORS)
    assert poll_batch(passing, 10, 0.0) == []


def test_a_member_that_is_fenced_hears_of_it_whatever_came_with_it() -> None:
    consumer: Any = Polled(b"1", FATAL)
    with pytest.raises(MembershipLost):
        poll_batch(consumer, 10, 0.0)


class Admin:
    """A cluster without topics."""

    def __init__(self) -> None:
        self.created: dict[str, NewTopic] = {}
        self.validated = False

    def create_topics(
        self, topics: list[NewTopic], *, validate_only: bool, **_: object
    ) -> dict[str, Future[None]]:
        done: Future[None] = Future()
        done.set_result(None)
        if validate_only:
            self.validated = True
        else:
            assert self.validated, "nothing is created before all is verified"
            self.created = {topic.topic: topic for topic in topics}
        return {topic.topic: done for topic in topics}

    def describe_topics(self, topics: Any, **_: object) -> dict[str, Future[Any]]:
        answers = {}
        for name in topics.topic_names:
            answers[name] = future = Future[Any]()
            if name in self.created:
                topic = self.created[name]
                replicas = [SimpleNamespace(replicas=[0] * topic.replication_factor)]
                future.set_result(
                    SimpleNamespace(
                        partitions=replicas * topic.num_partitions, authorized_operations=None
                    )
                )
            else:
                unknown = ck.KafkaError(ck.KafkaError.UNKNOWN_TOPIC_OR_PART)
                future.set_exception(ck.KafkaException(unknown))
        return answers

    def describe_configs(self, resources: list[Any], **_: object) -> dict[Any, Future[Any]]:
        answers = {}
        for resource in resources:
            answers[resource] = future = Future[Any]()
            config = self.created[resource.name].config or {}
            future.set_result({k: SimpleNamespace(value=v) for k, v in config.items()})
        return answers


def test_topics_are_created_as_the_settings_and_the_table_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin = Admin()
    monkeypatch.setattr(topic_admin, "AdminClient", lambda _: admin)
    create_topics(load_settings(topic_prefix="eu.", partitions=6, replication=3))
    assert {topic.replication_factor for topic in admin.created.values()} == {3}
    assert {name: topic.num_partitions for name, topic in admin.created.items()} == {
        "eu.transactions": 6, "eu.features": 6, "eu.decisions": 6, "eu.labels": 6, "eu.models": 1,
        "eu.policy": 1, "eu.retrain-requests": 1, "eu.alerts": 1, "eu.dead-letter": 1,
    }  # fmt: skip
    config = {name: dict(topic.config or {}) for name, topic in admin.created.items()}
    days = {
        name: int(given["retention.ms"]) / DAY_MS
        for name, given in config.items()
        if given["cleanup.policy"] == "delete"
    }
    assert days == {
        "eu.transactions": 7, "eu.features": 7, "eu.decisions": 30, "eu.labels": 90,
        "eu.retrain-requests": 30, "eu.alerts": 30, "eu.dead-letter": 30,
    }  # fmt: skip
    for name in ("eu.models", "eu.policy"):
        assert config[name]["cleanup.policy"] == "compact"
    for name in ("eu.transactions", "eu.labels", "eu.retrain-requests"):
        assert config[name]["message.timestamp.type"] == "LogAppendTime"


def test_who_is_in_no_group_needs_no_right_on_one() -> None:
    error = ck.KafkaError(ck.KafkaError.GROUP_AUTHORIZATION_FAILED)
    reader: Any = Polled(error, b"1")
    assert [message.value for message in poll_batch(reader, 10, 0.0)] == [b"1"]
    member: Any = Polled(error)
    with pytest.raises(BrokerUnavailable, match="Group authorization"):
        poll_batch(member, 10, 0.0, member=True)


@pytest.mark.parametrize(("kind", "arrived"), [(0, "now"), (1, "now"), (2, 7)])
def test_only_the_broker_s_timestamp_is_taken_for_the_arrival(
    kind: int, arrived: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 99_000_000)
    consumer: Any = Polled(b"1")
    consumer.waiting[0].timestamp = lambda: (kind, 7)
    [message] = poll_batch(consumer, 10, 0.0)
    assert message.timestamp == 7
    assert message.arrived == (99 if arrived == "now" else arrived)
    assert message.timestamp_type == (kind == ck.TIMESTAMP_LOG_APPEND_TIME)


class Sending:
    """A producer of librdkafka: notes what it is handed, and when everything is acknowledged."""

    def __init__(self, _: dict[str, Any]) -> None:
        self.handed: list[Any] = []
        self.reports: list[Any] = []
        self.away = False

    def list_topics(self, topic: str, **_: object) -> Any:
        found = SimpleNamespace(error=None, partitions=dict.fromkeys(range(4)))
        return SimpleNamespace(topics={topic: found})

    def produce_batch(self, _: str, batch: list[dict[str, Any]], partition: int) -> None:
        self.handed.append((partition, [each["value"] for each in batch]))

    def produce(self, _: str, *, value: bytes, partition: int, on_delivery: Any, **__: Any) -> None:
        self.handed.append((partition, value))
        self.reports.append(on_delivery)

    def flush(self, _: float) -> int:
        self.handed.append("acknowledged")
        return int(self.away)

    def poll(self, _: float) -> None:
        """Nothing comes by itself."""

    def __len__(self) -> int:
        return len(self.reports)


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ck, "Producer", Sending)


@pytest.mark.usefixtures("sending")
def test_the_first_message_to_a_partition_is_acknowledged_before_the_next_is_sent() -> None:
    """A broker that is just becoming the leader may refuse the first and accept the second."""
    producer = KafkaProducer(load_settings())
    noted: Any = producer._producer
    producer.produce_many("t", [(1, None, b"a"), (2, None, b"b"), (1, None, b"c")])
    assert noted.handed == [(1, [b"a"]), (2, [b"b"]), "acknowledged", (1, [b"c"])]
    noted.handed.clear()
    producer.produce_many("t", [(1, None, b"d"), (2, None, b"e"), (2, None, b"f")])
    assert noted.handed == [(1, [b"d"]), (2, [b"e", b"f"])]
    noted.handed.clear()
    producer.produce("t", None, b"g", 3)
    producer.produce("t", None, b"h", 3)
    producer.produce("t", None, b"i", 3)
    assert noted.handed == [(3, [b"g"]), "acknowledged", (3, [b"h"]), (3, [b"i"])]


@pytest.mark.usefixtures("sending")
def test_a_message_behind_a_first_one_is_not_queued_while_the_broker_is_away() -> None:
    producer = KafkaProducer(load_settings())
    noted: Any = producer._producer
    noted.away = True
    producer.produce("t", None, b"a", 0)
    with pytest.raises(BrokerUnavailable):
        producer.produce("t", None, b"b", 0)
    assert noted.handed == [(0, [b"a"]), "acknowledged"]


@pytest.mark.usefixtures("sending")
def test_a_key_leads_to_the_partition_that_kafkas_own_partitioner_chooses() -> None:
    producer = KafkaProducer(load_settings())
    noted: Any = producer._producer
    keys = [b"", b"card-1", b"card-2", b"card-3"]
    producer.produce_many("t", [(BY_KEY, key, key) for key in keys])
    found = {value: at for at, values in filter(lambda each: each != "acknowledged", noted.handed)
             for value in values}  # fmt: skip
    assert found == {key: partition_of(key, 4) for key in keys}


@pytest.mark.usefixtures("sending")
def test_a_producer_that_must_not_block_holds_what_follows_a_first_message() -> None:
    producer = KafkaNonBlockingProducer(load_settings(partitions=1), "t", max_unacknowledged=3)
    noted: Any = producer._producer
    acknowledged: list[int] = []

    def note(_: int, offset: int) -> None:
        acknowledged.append(offset)

    for value in (b"a", b"b", b"c"):
        producer.send(b"key", value, note)
    assert noted.handed == [(0, b"a")]
    with pytest.raises(BrokerUnavailable):
        producer.send(b"key", b"d", note)
    assert producer.flush(1.0) == 2
    noted.handed.clear()
    first = noted.reports.pop(0)
    first(None, SimpleNamespace(partition=lambda: 0, offset=lambda: 7))
    assert acknowledged == [7]
    assert noted.handed == [(0, b"b"), (0, b"c")]
    producer.send(b"key", b"d", note)
    assert noted.handed[-1] == (0, b"d")
