"""Somebody adds partitions while everything runs: the old ones go on, and it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from devstack.stack import Stack
from runtime.kafka.partitioner import partition_of
from runtime.settings import Settings
from schemas.topics import DECISIONS, FEATURES, LABELS, TRANSACTIONS
from tests.integration.stream_features.test_foreign_producers import label, metric, transaction
from tests.support.pipeline import Pipeline
from tests.support.waiting import PATIENCE_S, until

GROWN = 6


@pytest.fixture
def pipeline(stack: Stack, tmp_path: Path) -> Iterator[Pipeline]:
    with Pipeline(stack, tmp_path) as made:
        yield made


def add_partitions(settings: Settings, *specs: Any) -> None:
    admin = AdminClient({"bootstrap.servers": settings.bootstrap})
    wanted = [NewPartitions(settings.topic(spec), GROWN) for spec in specs]
    for done in admin.create_partitions(wanted).values():
        done.result(PATIENCE_S)


def cards_on(number: int, count: int) -> list[str]:
    """Return cards that lead to a partition of the grown topic."""
    found: list[str] = []
    place = 0
    while len(found) < count:
        if partition_of(b"card-%d" % place, GROWN) == number:
            found.append(f"card-{place}")
        place += 1
    return found


def test_old_partitions_go_on_and_new_ones_wait_for_the_operator(pipeline: Pipeline) -> None:
    """The new partitions are there before the start of a second worker, as after a rebalance."""
    settings = pipeline.settings
    first, scorer = pipeline.start("stream_features", "scorer")
    add_partitions(settings, TRANSACTIONS, LABELS, FEATURES)
    topic = settings.topic(TRANSACTIONS)
    sent = 0
    for number in range(GROWN):
        for card in cards_on(number, 5):
            key = card.encode()
            pipeline.producer.produce(topic, key, transaction(f"{card}-1", card), number)
            pipeline.producer.produce(settings.topic(LABELS), key, label(f"{card}-1", card), number)
            sent += 1
    pipeline.producer.flush(PATIENCE_S)
    served = sent * settings.partitions // GROWN
    pipeline.wait_for(DECISIONS, served)
    until(lambda: metric(first, "fraud_unserved_partitions") == 4, "the gauge: 2 of each topic")
    # A rebalance brings the new partitions to a worker: with the metadata that a new member has.
    second = pipeline.service("stream_features", 2)
    second.start()
    until(lambda: _refused(pipeline), "the refusal of a start that could not serve everything")
    assert first.running
    assert scorer.running
    for card in cards_on(1, 5):
        pipeline.producer.produce(topic, card.encode(), transaction(f"{card}-2", card), 1)
    pipeline.producer.flush(PATIENCE_S)
    pipeline.wait_for(DECISIONS, served + 5)
    log = (pipeline.log_dir / "stream_features-1.log").read_text().splitlines()
    told = [json.loads(line) for line in log if "partitions were added" in line]
    assert {(line["topic"], line["partitions"], line["served"]) for line in told} == {
        (topic, GROWN, 4),
        (settings.topic(LABELS), GROWN, 4),
    }
    assert len(told) == 2

    # The order of steps of the runbook, from the second on.
    first.stop()
    scorer.stop()
    add_partitions(settings, DECISIONS)
    grown = {"FRAUD_PARTITIONS": str(GROWN)}
    for package in ("scorer", "stream_features"):
        again = pipeline.service(package, 3, **grown)
        again.start()
        again.wait_ready()
    pipeline._readers.clear()
    pipeline.wait_for(DECISIONS, sent + 5)
    until(lambda: metric(again, "fraud_unserved_partitions") == 0, "all partitions are served")


def _refused(pipeline: Pipeline) -> bool:
    log = pipeline.log_dir / "stream_features-2.log"
    text = log.read_text() if log.exists() else ""
    return f"set FRAUD_PARTITIONS={GROWN}" in text and "kafka-topics" in text
