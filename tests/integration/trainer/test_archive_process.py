"""`python -m trainer archive` on real Kafka: killed at any moment, the tables equal the topics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devstack.service_process import Service
from devstack.stack import Stack
from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.topics import DECISIONS, FEATURES, LABELS, TopicSpec
from tests.support.pipeline import Pipeline
from tests.support.trainer.served import START, served
from tests.support.waiting import PATIENCE_S, until
from trainer.archive.delta_tables import Archive

KILLS = 5
ROWS = 4_000
"""Vectors, and as many decisions, between two kills."""
REPEATED = 400
"""Vectors that are sent again after each kill, as a stream processor does that starts anew."""


class Bench:
    """Archivers on one archive, fed by hand."""

    def __init__(self, stack: Stack, tmp_path: Path) -> None:
        self.url = str(tmp_path / "archive")
        self.pipeline = Pipeline(
            stack,
            tmp_path / "logs",
            archive_url=self.url,
            archive_flush_rows="1000",
            archive_flush_after="100ms",
            archive_keep="10000d",
        )
        self.sent = 0

    def send(self, rows: int = ROWS) -> None:
        """Send vectors with their decisions, a label now and then, and the last vectors again."""
        partitions = self.pipeline.settings.partitions
        vectors, decisions = served(rows, partitions=partitions, first=self.sent // partitions)
        producer, topic = self.pipeline.producer, self.pipeline.settings.topic
        producer.produce_many(topic(FEATURES), vectors + vectors[-REPEATED:])
        producer.produce_many(topic(DECISIONS), decisions)
        labels = [(number, key, label(number, key, n)) for n, (number, key, _) in
                  enumerate(vectors[::50])]  # fmt: skip
        producer.produce_many(topic(LABELS), labels)
        producer.flush(30.0)
        self.sent += rows

    def archiver(self, number: int = 1) -> Service:
        name = f"archiver-{number}"
        service = Service(
            name,
            ["-m", "trainer", "archive"],
            env={**self.pipeline.environment, "FRAUD_WORKER_ID": name},
            log_dir=self.pipeline.log_dir,
        )
        self.pipeline.services.append(service)
        return service

    def rows(self) -> int:
        return len(Archive(self.url).read("features", columns=["source_offset"]))

    def positions(self, spec: TopicSpec) -> dict[int, int]:
        """How far the archive is, by partition."""
        topic = self.pipeline.settings.topic(spec)
        ids = {number: f"{topic}/{number}" for number in range(self.pipeline.settings.partitions)}
        found = Archive(self.url).positions(spec.name, ids.values())
        return {number: found[app_id] or 0 for number, app_id in ids.items()}

    def all_read(self) -> bool:
        return all(
            self.positions(spec) == ends(self.pipeline.messages(spec), self.pipeline)
            for spec in (FEATURES, DECISIONS, LABELS)
        )


def ends(messages: list[Message], pipeline: Pipeline) -> dict[int, int]:
    found = dict.fromkeys(range(pipeline.settings.partitions), 0)
    for message in messages:
        found[message.partition] = message.offset + 1
    return found


def label(partition: int, card: bytes | None, row: int) -> bytes:
    record = {
        "transaction_id": f"tx-{partition}-{row:09d}", "card_id": (card or b"").decode(),
        "label": "FRAUD" if row % 2 else "GENUINE", "source": "ANALYST",
        "transaction_time": START + row, "label_time": START + row + 1000,
    }  # fmt: skip
    return avro.encode("Label", record)


@pytest.fixture
def bench(stack: Stack, tmp_path: Path) -> Any:
    made = Bench(stack, tmp_path)
    with made.pipeline:
        yield made


def expected(messages: list[Message], fields: list[str], *, once: bool) -> list[tuple[Any, ...]]:
    """Return the records of a topic as tuples; `once`: each source position the first time."""
    rows, seen = [], set()
    for message in messages:
        record = avro.decode(message.value or b"")[1]
        flat = {**record, **record.get("transaction", {})}
        position = flat.get("source_partition"), flat.get("source_offset")
        if once and position in seen:
            continue
        seen.add(position)
        rows.append((message.partition, message.offset, *(flat[name] for name in fields)))
    return sorted(rows)


def held(url: str, name: str, fields: list[str]) -> list[tuple[Any, ...]]:
    columns = ["topic_partition", "topic_offset", *fields]
    table = Archive(url).read(name, columns=columns)
    return sorted(zip(*(table.column(column).to_pylist() for column in columns), strict=True))


def test_killed_five_times_while_writing_the_tables_equal_the_topics(bench: Bench) -> None:
    Archive(bench.url).create()
    service = bench.archiver()
    interrupted = starts = 0
    while interrupted < KILLS:  # a quick machine sometimes has nothing left to write at the kill
        starts += 1
        assert starts <= 4 * KILLS, "killed when nothing was left to write"
        bench.send()
        before = bench.rows()
        service.start()
        until(lambda before=before: bench.rows() > before, "rows of this start")  # type: ignore[misc]
        service.kill()
        interrupted += bench.rows() < bench.sent
    both = [service, bench.archiver(2)]
    for one in both:
        one.start()
    bench.send()
    until(bench.all_read, "everything archived")
    for one in both:
        one.stop()
        assert not one.running

    features = ["source_offset", "transaction_id", "event_time", "fingerprint", "vector"]
    decisions = ["source_offset", "transaction_id", "score", "rule_hits"]
    labels = ["transaction_id", "card_id", "label", "label_time"]
    for spec, fields in ((FEATURES, features), (DECISIONS, decisions), (LABELS, labels)):
        wanted = expected(bench.pipeline.messages(spec), fields, once=spec is not LABELS)
        assert held(bench.url, spec.name, fields) == wanted
    assert bench.rows() == bench.sent == (starts + 1) * ROWS


def test_once_ends_at_the_ends_and_maintenance_changes_no_row(bench: Bench) -> None:
    bench.send(4_000)
    report = command(bench, "--once")
    assert report["archived"] == {"features": 4_000, "decisions": 4_000, "labels": 80}
    assert report["repeated"] == {"features": REPEATED, "decisions": 0, "labels": 0}
    again = command(bench, "--once")
    assert set(again["archived"].values()) == {0}
    before = held(bench.url, "features", ["source_offset", "vector"])
    done = command(bench, "--maintain")
    assert done["features"]["files_merged"] > done["features"]["files_written"] == 1
    assert held(bench.url, "features", ["source_offset", "vector"]) == before
    assert len(before) == 4_000


def command(bench: Bench, option: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "archive", option, "--json", "-"],
        env={**os.environ, **bench.pipeline.environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report
