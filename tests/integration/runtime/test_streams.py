"""One suite, two brokers: in memory and a real Kafka."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from devstack.stack import Stack
from runtime.kafka.access.connection import connection
from runtime.kafka.clients import KafkaConsumer, KafkaProducer
from runtime.kafka.memory import (
    MemoryBroker,
    MemoryConsumer,
    MemoryProducer,
    MemoryReader,
)
from runtime.kafka.partitioner import partition_of
from runtime.kafka.protocols import (
    Consumer,
    Message,
    OnAssign,
    Producer,
    Reader,
    TopicPartition,
)
from runtime.kafka.reader import KafkaReader, end_offsets, read_all, read_tail
from runtime.kafka.topic_admin import create_topics
from runtime.settings import Settings, load_settings
from schemas.errors import BrokerUnavailable, ConfigurationError, DeliveryRejected
from schemas.topics import ALL_TOPICS, DEAD_LETTER, MAX_MESSAGE_BYTES, TRANSACTIONS
from tests.support.waiting import PATIENCE_S

PARTITIONS = 4


@dataclass(frozen=True)
class Broker:
    """Ways to make the parts on either broker; `topic` has PARTITIONS partitions."""

    topic: str
    producer: Callable[[], Producer]
    consumer: Callable[[OnAssign | None], Consumer]
    reader: Callable[[], Reader]


def kafka_settings(stack: Stack) -> Settings:
    """Return settings of a prefix of their own, with the topics created."""
    settings = load_settings(
        bootstrap=stack.bootstrap, topic_prefix=f"{uuid.uuid4().hex}.", partitions=PARTITIONS
    )
    create_topics(settings)
    return settings


@pytest.fixture
def on_kafka(stack: Stack) -> Settings:
    return kafka_settings(stack)


@pytest.fixture(params=["memory", "kafka"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    opened: list[Any] = []

    def kept(part: Any) -> Any:
        opened.append(part)
        return part

    if request.param == "memory":
        memory = MemoryBroker(PARTITIONS)
        yield Broker(
            TRANSACTIONS.name,
            lambda: MemoryProducer(memory),
            lambda told: MemoryConsumer(memory, "group", [TRANSACTIONS.name], on_assign=told),
            lambda: MemoryReader(memory, TRANSACTIONS.name),
        )
    else:
        settings = kafka_settings(request.getfixturevalue("stack"))
        topic = settings.topic(TRANSACTIONS)
        group = settings.group("group")
        yield Broker(
            topic,
            lambda: kept(KafkaProducer(settings)),
            lambda told: kept(KafkaConsumer(settings, group, [topic], on_assign=told)),
            lambda: kept(KafkaReader(settings, topic)),
        )
    for part in opened:
        part.close()


def take(source: Consumer | Reader, count: int) -> list[Message]:
    """Poll until `count` messages are here."""
    found: list[Message] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} messages came"
        found += source.poll_batch(timeout_s=0.2)
    assert len(found) == count
    return found


def test_keys_choose_partitions_as_kafkas_own_clients_do(broker: Broker) -> None:
    keys = [b"card-%d" % number for number in range(60)] + [b"", b"1", b"\xff\xfe\xfd", b"x" * 99]
    producer, reader = broker.producer(), broker.reader()
    producer.produce_many(broker.topic, [(-1, key, b"value") for key in keys])
    producer.flush()
    found = {message.key: message.partition for message in reader.read_to_end()}
    assert found == {key: partition_of(key, PARTITIONS) for key in keys}


def test_order_within_an_explicit_partition(broker: Broker) -> None:
    producer, reader = broker.producer(), broker.reader()
    producer.produce_many(broker.topic, [(2, None, b"%d" % number) for number in range(3000)])
    producer.produce(broker.topic, b"key", b"last", 2)
    producer.flush()
    found = reader.read_to_end()
    assert {message.partition for message in found} == {2}
    assert [message.offset for message in found] == list(range(3001))
    values = [message.value for message in found]
    assert values == [b"%d" % number for number in range(3000)] + [b"last"]
    assert abs(found[-1].timestamp - time.time() * 1000) < 60_000


def test_a_batch_is_bounded_and_nothing_is_an_empty_list(broker: Broker) -> None:
    producer, reader = broker.producer(), broker.reader()
    assert reader.poll_batch(timeout_s=0.01) == []
    producer.produce_many(broker.topic, [(1, None, b"%d" % number) for number in range(25)])
    producer.flush()
    sizes: list[int] = []
    while sum(sizes) < 25:
        sizes.append(len(reader.poll_batch(max_records=10, timeout_s=1)))
    assert max(sizes) <= 10


def test_a_reader_reads_to_the_end_and_then_follows(broker: Broker) -> None:
    producer, reader = broker.producer(), broker.reader()
    assert reader.read_to_end() == []
    producer.produce_many(broker.topic, [(n, b"key", b"%d" % n) for n in range(PARTITIONS)])
    producer.flush()
    assert sorted(message.value or b"" for message in take(reader, 4)) == [b"0", b"1", b"2", b"3"]
    producer.produce(broker.topic, b"key", None, 0)
    producer.flush()
    assert [message.value for message in reader.read_to_end()] == [None]


def test_a_member_goes_on_where_the_group_committed(broker: Broker) -> None:
    producer = broker.producer()
    producer.produce_many(broker.topic, [(0, None, b"%d" % number) for number in range(10)])
    producer.flush()
    told: list[TopicPartition] = []
    first = broker.consumer(lambda new: told.extend(new))
    take(first, 10)
    at = TopicPartition(broker.topic, 0)
    assert sorted(told) == sorted(first.assignment())
    assert sorted(told) == [TopicPartition(broker.topic, n) for n in range(PARTITIONS)]
    assert first.lag()[at] == 0
    first.commit({at: 7})
    first.close()
    second = broker.consumer(None)
    assert [message.value for message in take(second, 3)] == [b"7", b"8", b"9"]
    second.seek(at, 5)
    assert [message.offset for message in take(second, 5)] == [5, 6, 7, 8, 9]


def test_positions_given_at_assignment_win(broker: Broker) -> None:
    producer = broker.producer()
    producer.produce_many(broker.topic, [(0, None, b"%d" % number) for number in range(10)])
    producer.produce_many(broker.topic, [(1, None, b"other")])
    producer.flush()
    at = TopicPartition(broker.topic, 0)
    consumer = broker.consumer(lambda told: {at: 8} if at in told else None)
    found = [(message.partition, message.offset) for message in take(consumer, 3)]
    assert sorted(found) == [(0, 8), (0, 9), (1, 0)]


def test_topics_are_created_once_as_the_table_says(on_kafka: Settings) -> None:
    create_topics(on_kafka)
    topics = AdminClient(connection(on_kafka)).list_topics(timeout=10).topics
    for spec in ALL_TOPICS:
        found = topics[on_kafka.topic(spec)]
        assert len(found.partitions) == (PARTITIONS if spec.partitioned else 1)
    other = on_kafka.model_copy(update={"partitions": PARTITIONS + 1})
    with pytest.raises(ConfigurationError, match="FRAUD_PARTITIONS"):
        create_topics(other)


def test_a_dead_letter_may_carry_the_largest_input(on_kafka: Settings) -> None:
    producer = KafkaProducer(on_kafka)
    topic = on_kafka.topic(DEAD_LETTER)
    producer.produce(topic, b"key", b"x" * 1_500_000)
    producer.flush()
    producer.close()
    [message] = read_all(on_kafka, topic)
    assert len(message.value or b"") == 1_500_000


def test_what_kafka_never_takes_is_rejected(on_kafka: Settings) -> None:
    producer = KafkaProducer(on_kafka)
    topic = on_kafka.topic(TRANSACTIONS)
    huge = b"x" * (MAX_MESSAGE_BYTES + 1)
    with pytest.raises(DeliveryRejected, match="transactions"):
        producer.produce_many(topic, [(0, None, b"good"), (0, None, huge)])
    with pytest.raises(DeliveryRejected, match="transactions"):
        producer.produce(topic, None, huge)
    producer.produce(topic, None, b"x" * 3_900_000)  # within our bound, beyond the topic's
    with pytest.raises(DeliveryRejected, match="transactions"):
        producer.flush(30)
    producer.close()


def test_messages_outlive_a_broker_that_is_away(on_kafka: Settings, stack: Stack) -> None:
    producer = KafkaProducer(on_kafka)
    topic = on_kafka.topic(TRANSACTIONS)
    producer.produce(topic, None, b"before", 0)
    producer.flush()
    stack.kafka.kill()
    try:
        producer.produce_many(topic, [(0, None, b"%d" % number) for number in range(100)])
        with pytest.raises(BrokerUnavailable, match="100"):
            producer.flush(0.3)
    finally:
        stack.kafka.start()
    producer.flush(60)
    producer.close()
    values = [message.value for message in read_all(on_kafka, topic)]
    assert values == [b"before"] + [b"%d" % number for number in range(100)]


def test_tails_and_ends(on_kafka: Settings) -> None:
    producer = KafkaProducer(on_kafka)
    topic = on_kafka.topic(TRANSACTIONS)
    producer.produce_many(topic, [(3, None, b"%d" % number) for number in range(50)])
    producer.flush()
    producer.close()
    assert end_offsets(on_kafka, topic) == {0: 0, 1: 0, 2: 0, 3: 50}
    assert [message.offset for message in read_tail(on_kafka, topic, 3, 4)] == [46, 47, 48, 49]
    assert len(read_tail(on_kafka, topic, 3, 400)) == 50
    assert read_tail(on_kafka, topic, 3, 0) == []
    assert read_tail(on_kafka, topic, 0, 10) == []
    assert read_tail(on_kafka, topic, PARTITIONS, 10) == [], "it has no such partition"


def test_a_memory_broker_that_is_away_keeps_what_was_handed_over() -> None:
    broker = MemoryBroker(1)
    producer = MemoryProducer(broker)
    broker.available = False
    producer.produce("topic", None, b"value")
    with pytest.raises(BrokerUnavailable):
        producer.flush()
    broker.available = True
    producer.flush()
    assert [message.value for message in MemoryReader(broker, "topic").read_to_end()] == [b"value"]
