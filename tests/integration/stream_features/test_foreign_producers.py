"""What producers of other teams send: compressed batches, their own timestamps, other partitioners.

One stream processor on real Kafka and Redis serves all of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from devstack.service_process import Service
from devstack.stack import Stack
from schemas.topics import DEAD_LETTER, FEATURES, LABELS, TRANSACTIONS, TopicSpec
from tests.integration.runtime.test_registered_schemas import (
    FAULTS_OF_THE_MESSAGE,
    Registry,
    framed,
)
from tests.support.http_server import serving
from tests.support.pipeline import Pipeline
from tests.support.waiting import PATIENCE_S, until

CODECS = ("lz4", "snappy", "zstd", "gzip")
EACH = 200
HOUR_MS = 3_600_000


@pytest.fixture
def pipeline(stack: Stack, tmp_path: Path) -> Iterator[Pipeline]:
    with Pipeline(stack, tmp_path) as made:
        yield made


def transaction(name: str, card: str) -> bytes:
    return json.dumps(
        {
            "transaction_id": name,
            "event_time": time.time_ns() // 1_000_000,
            "card_id": card,
            "merchant_id": "shop",
            "amount": 100,
            "currency": "EUR",
        }
    ).encode()


def label(name: str, card: str) -> bytes:
    now = time.time_ns() // 1_000_000
    return json.dumps(
        {
            "transaction_id": name,
            "card_id": card,
            "label": "GENUINE",
            "source": "CHARGEBACK",
            "transaction_time": now,
            "label_time": now,
        }
    ).encode()


def configure(pipeline: Pipeline, spec: TopicSpec, name: str, value: str) -> None:
    admin = AdminClient({"bootstrap.servers": pipeline.stack.bootstrap})
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(
        ResourceType.TOPIC, pipeline.settings.topic(spec), incremental_configs=[entry]
    )
    [done] = admin.incremental_alter_configs([resource]).values()
    done.result(PATIENCE_S)


def send(
    pipeline: Pipeline,
    names: list[str],
    spec: TopicSpec = TRANSACTIONS,
    *,
    codec: str = "none",
    partitioner: str = "murmur2_random",
) -> None:
    """Send one message a name, in large batches; the card is the name without its last letter."""
    producer = Producer(
        {
            "bootstrap.servers": pipeline.stack.bootstrap,
            "linger.ms": 200,
            "partitioner": partitioner,
            "compression.type": codec,
        }
    )
    value = transaction if spec is TRANSACTIONS else label
    for name in names:
        card = name[:-1]
        producer.produce(pipeline.settings.topic(spec), key=card, value=value(name, card))
    producer.flush(PATIENCE_S)


def metric(service: Service, name: str) -> float:
    """Return the sum of a metric's series."""
    with urlopen(f"http://127.0.0.1:{service.health_port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(each.rpartition(" ")[2]) for each in lines if each.startswith(name + "{"))


def test_every_codec_is_read_whoever_compressed(pipeline: Pipeline) -> None:
    pipeline.start("stream_features")
    sent = []
    for codec in CODECS:
        names = [f"{codec}-{number}" for number in range(EACH)]
        send(pipeline, names, codec=codec)
        send(pipeline, names, LABELS, codec=codec)
        sent += names
    for codec in CODECS:  # compressed by the broker, whatever the producer did
        for spec in (TRANSACTIONS, LABELS):
            configure(pipeline, spec, "compression.type", codec)
        names = [f"topic-{codec}-{number}" for number in range(EACH)]
        send(pipeline, names)
        send(pipeline, names, LABELS)
        sent += names
    found = pipeline.wait_for(FEATURES, len(sent))
    assert sorted(each["transaction"]["transaction_id"] for each in found) == sorted(sent)
    until(lambda: pipeline.labels_processed() == len(sent), "all labels")
    assert pipeline.messages(DEAD_LETTER) == []


def test_timestamps_of_producers_decide_nothing(pipeline: Pipeline) -> None:
    """They may be seconds, the time of an event a year ago, or ahead of our clock."""
    for spec in (TRANSACTIONS, LABELS):
        configure(pipeline, spec, "message.timestamp.type", "CreateTime")
        configure(pipeline, spec, "message.timestamp.before.max.ms", str(2**63 - 1))
    [service] = pipeline.start("stream_features")
    now = time.time_ns() // 1_000_000
    stamps = {
        "epoch": 1,
        "seconds": now // 1000,
        "a year ago": now - 365 * 24 * HOUR_MS,
        "ahead": now + HOUR_MS // 2,
        "now": now,
    }
    for name, stamp in stamps.items():
        for spec, value in ((TRANSACTIONS, transaction), (LABELS, label)):
            producer = Producer({"bootstrap.servers": pipeline.stack.bootstrap})
            producer.produce(
                pipeline.settings.topic(spec),
                key=name,
                value=value(name, name),
                timestamp=stamp,
                partition=0,
            )
            producer.flush(PATIENCE_S)
    future = json.loads(transaction("tomorrow", "tomorrow"))
    future["event_time"] += 24 * HOUR_MS
    pipeline.send(TRANSACTIONS, "tomorrow", json.dumps(future).encode())
    pipeline.producer.flush(PATIENCE_S)
    found = pipeline.wait_for(FEATURES, len(stamps))
    assert {each["transaction"]["transaction_id"] for each in found} == set(stamps)
    received = {each["transaction"]["transaction_id"]: each["received_at"] for each in found}
    assert all(abs(at - now) < HOUR_MS / 4 for at in received.values()), received
    until(lambda: pipeline.labels_processed() == len(stamps), "all labels")
    [letter] = pipeline.wait_for(DEAD_LETTER, 1)
    assert letter["field"] == "event_time"
    assert "ahead of our clock" in letter["reason"]
    assert metric(service, "fraud_dead_letters_total") == 1


def test_cards_where_their_key_does_not_lead_are_counted_and_served(pipeline: Pipeline) -> None:
    [service] = pipeline.start("stream_features")
    names = [f"card-{number:03}x" for number in range(EACH)]
    send(pipeline, names)
    pipeline.wait_for(FEATURES, EACH)
    assert metric(service, "fraud_misplaced_total") == 0
    send(pipeline, [f"{name[:-1]}y" for name in names], partitioner="consistent_random")
    send(pipeline, names, LABELS, partitioner="consistent_random")
    pipeline.wait_for(FEATURES, 2 * EACH)
    until(lambda: pipeline.labels_processed() == EACH, "all labels")
    assert EACH < metric(service, "fraud_misplaced_total") < 2 * EACH
    log = (pipeline.log_dir / "stream_features-1.log").read_text()
    told = [line for line in log.splitlines() if "does not lead to" in line]
    assert {json.loads(line)["topic"] for line in told} == {
        pipeline.settings.topic(spec) for spec in (TRANSACTIONS, LABELS)
    }
    assert len(told) <= 4, "it is told once a minute"
    assert "card-0" not in "".join(told)


def test_a_message_of_another_format_is_a_dead_letter_and_the_next_is_served(
    stack: Stack, tmp_path: Path
) -> None:
    """Protobuf, JSON Schema, an id that the registry refuses: nothing stands still."""
    registry = Registry()
    for number, case in ((7, "Protobuf"), (8, "JSON Schema"), (9, "gone")):
        status, body = FAULTS_OF_THE_MESSAGE[case]
        registry.has(number, body, status)
    with (
        serving(registry.answer) as address,
        Pipeline(stack, tmp_path, schema_registry_url=address) as pipeline,
    ):
        pipeline.start("stream_features")
        for spec, value in ((TRANSACTIONS, transaction), (LABELS, label)):
            for number in (7, 8, 9):
                pipeline.send(spec, "card", value(f"before-{number}", "card"))
                pipeline.send(spec, "card", framed(number, b"\x0a\x03t-1"))
            pipeline.send(spec, "card", value("last", "card"))
        pipeline.producer.flush(PATIENCE_S)
        found = pipeline.wait_for(FEATURES, 4)
        assert [each["transaction"]["transaction_id"] for each in found] == [
            "before-7", "before-8", "before-9", "last",
        ]  # fmt: skip
        letters = pipeline.wait_for(DEAD_LETTER, 6)
        assert {each["error_class"] for each in letters} == {"UnknownSchema"}
        assert sum("PROTOBUF" in each["reason"] for each in letters) == 2
        until(lambda: pipeline.labels_processed() == 7, "all labels")
