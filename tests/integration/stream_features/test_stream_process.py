"""`python -m stream_features run` as a process on real Kafka and Redis, disturbed in every way."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import confluent_kafka as ck
import pyarrow as pa
import pyarrow.parquet
import pytest
from confluent_kafka.admin import AdminClient

from devstack.service_process import Service
from devstack.stack import Stack
from runtime.feature_store.redis import RedisFeatureStore
from runtime.kafka.access.connection import connection
from runtime.kafka.protocols import TopicPartition
from runtime.kafka.reader import committed_offsets, end_offsets
from schemas.codec import avro
from schemas.topics import FEATURES, LABELS, TRANSACTIONS
from stream_features.offline.compare import compare_tables
from stream_features.offline.replay import replay_output, replay_table
from stream_features.worker.assembly import GROUP
from tests.support.pipeline import Pipeline
from tests.support.waiting import PATIENCE_S, until

START = 1_700_000_000_000
CARDS, MERCHANTS = 60, 25


def world(rows: int, seed: int) -> list[dict[str, Any]]:
    """Return transactions in event order, a few seconds apart, some sent twice."""
    rng = random.Random(seed)
    made: list[dict[str, Any]] = []
    at = START
    for number in range(rows):
        at += rng.randrange(1, 9000)
        if made and rng.random() < 0.01:
            made.append(dict(made[-1]))
            continue
        made.append(
            {
                "transaction_id": str(number),
                "event_time": at,
                "card_id": f"card-{rng.randrange(CARDS)}",
                "merchant_id": f"merchant-{rng.randrange(MERCHANTS)}",
                "amount": rng.randrange(1, 50_000),
                "currency": "EUR",
                "device_id": rng.choice([None, f"device-{rng.randrange(40)}"]),
                "ip": rng.choice([None, f"198.51.100.{rng.randrange(30)}"]),
            }
        )
    return made


def replayed(records: list[dict[str, Any]]) -> pa.Table:
    table = pa.Table.from_pylist(records)
    return replay_output(table, replay_table(table))


class Bench:
    """A pipeline of stream processors only, and what comes out of it."""

    def __init__(self, stack: Stack, tmp_path: Path) -> None:
        self.stack, self.tmp_path = stack, tmp_path
        self.pipeline = Pipeline(stack, tmp_path / "logs")
        (tmp_path / "logs").mkdir(exist_ok=True)

    def service(self, number: int = 1, **environment: str) -> Service:
        return self.pipeline.service("stream_features", number, **environment)

    def vectors(self) -> int:
        return len(self.pipeline.messages(FEATURES))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stream_features", *arguments],
            capture_output=True, text=True, env={**os.environ, **self.pipeline.environment},
        )  # fmt: skip

    def dump(self) -> tuple[pa.Table, dict[str, Any]]:
        output = self.tmp_path / f"{uuid.uuid4().hex}.parquet"
        answer = self.command("dump", "--output", str(output), "--json", "-")
        assert answer.returncode == 0, answer.stderr
        return pyarrow.parquet.read_table(output), json.loads(answer.stdout)

    def committed(self) -> int:
        """Return how many transactions are committed in the store."""
        topic = self.pipeline.settings.topic(TRANSACTIONS)
        store = RedisFeatureStore.from_settings(self.pipeline.settings)
        try:
            found = store.positions(range(self.pipeline.settings.partitions))
        finally:
            store.close()
        return sum(cursors.get(topic, 0) for cursors in found.values())


@pytest.fixture
def bench(stack: Stack, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(stack, tmp_path)
    with made.pipeline:
        yield made


def assert_cards_equal(bench: Bench, records: list[dict[str, Any]]) -> None:
    """At the live edge, only the order within a card is sure."""
    found = compare_tables(bench.dump()[0], replayed(records))
    assert (found.rows, found.only_left, found.only_right) == (len(records), 0, 0)
    assert found.rows_by_entity.get("card", 0) == 0


def metric(service: Service, line: str) -> float:
    """Return the value of the first series that starts like this."""
    with urlopen(f"http://127.0.0.1:{service.health_port}/metrics", timeout=5) as answer:
        for text in answer.read().decode().splitlines():
            if text.startswith(line):
                return float(text.rpartition(" ")[2])
    raise AssertionError(f"no {line}")


def partitions(service: Service) -> float:
    return metric(service, 'fraud_partitions{service="stream_features"}')


def test_killed_three_times_in_a_backlog_and_redis_restarted(bench: Bench) -> None:
    records = world(40_000, seed=1)
    bench.pipeline.send_transactions(records)
    service = bench.service()
    service.start()
    for part in (0.2, 0.4, 0.6):
        until(lambda part=part: bench.committed() > part * len(records), f"{part} of the backlog")  # type: ignore[misc]
        service.kill()
        service.start()
    until(lambda: bench.committed() > 0.8 * len(records), "most of the backlog")
    bench.stack.redis.restart()
    until(lambda: bench.committed() == len(records), "all of the backlog")
    service.stop()
    served, counts = bench.dump()
    assert counts["conflicts"] == counts["unreadable"] == 0
    found = compare_tables(served, replayed(records))
    assert found.equal, found
    assert found.rows == len(records)


def test_two_workers_one_killed_share_a_backlog(bench: Bench) -> None:
    records = world(6_000, seed=2)
    bench.pipeline.send_transactions(records)
    first, second = bench.service(1), bench.service(2)
    for service in (first, second):
        service.start()
    until(lambda: bench.committed() > len(records) // 3, "a third of the backlog")
    second.kill()
    second.start()
    until(lambda: bench.committed() == len(records), "all of the backlog")
    second.wait_ready()
    until(
        lambda: partitions(first) + partitions(second) == bench.pipeline.settings.partitions,
        "every partition with one of the two",
    )
    for service in (first, second):
        service.stop()
    served, counts = bench.dump()
    assert counts["conflicts"] == 0
    found = compare_tables(served, replayed(records))
    assert found.rows == len(records)
    assert found.rows_by_entity.get("card", 0) == 0


def test_back_in_service_after_a_kill_and_gone_quickly_when_asked(bench: Bench) -> None:
    service = bench.service()
    service.start()
    service.wait_ready()
    records = world(50, seed=3)
    bench.pipeline.send_transactions(records[:25])
    until(lambda: bench.vectors() == 25, "vectors of the first half")
    service.kill()
    bench.pipeline.send_transactions(records[25:])
    service.start()
    until(lambda: bench.committed() == 50, "everything committed")
    assert service.stop() == 0
    assert_cards_equal(bench, records)


def test_an_empty_store_is_refused_until_rebuilt_and_the_rebuilt_state_is_the_same(
    bench: Bench,
) -> None:
    records = world(8_000, seed=4)
    settings = bench.pipeline.settings
    fraud = [record for record in records if int(record["transaction_id"]) % 50 == 0]
    for record in fraud:
        label = {
            "transaction_id": record["transaction_id"],
            "card_id": record["card_id"],
            "label": "FRAUD",
            "transaction_time": record["event_time"],
            "label_time": record["event_time"],
        }
        bench.pipeline.send(LABELS, record["card_id"], avro.encode("Label", label))
    bench.pipeline.send_transactions(records)
    service = bench.service()
    service.start()
    until(lambda: bench.committed() == len(records), "everything committed")
    places = [TopicPartition(settings.topic(TRANSACTIONS), n) for n in range(settings.partitions)]

    def followed() -> bool:
        positions = committed_offsets(settings, settings.group(GROUP), places)
        return sum(positions.values()) == len(records)

    until(followed, "the positions in Kafka")
    until(lambda: bench.pipeline.labels_processed() == len(fraud), "the labels")
    service.stop()
    before = contents(bench)
    erase(bench)

    service.start()
    until(lambda: not service.running, "a refusal")
    assert "rebuild" in log_of(bench, service)

    answer = bench.command("rebuild")
    assert answer.returncode == 0, answer.stderr
    assert contents(bench) == before
    assert "0 records" in bench.command("rebuild").stderr

    more = world(200, seed=5)
    for record in more:
        record["event_time"] += 200_000_000
        record["transaction_id"] = "x" + record["transaction_id"]
    service.start()
    bench.pipeline.send_transactions(more)
    until(lambda: bench.committed() == len(records) + len(more), "what came afterwards")
    service.stop()
    _, counts = bench.dump()
    assert (counts["rows"], counts["conflicts"]) == (len(records) + len(more), 0)

    deleted = delete_records(bench, share=0.6)
    erase(bench)
    refused = bench.command("rebuild")
    assert refused.returncode == 2, refused.stderr
    assert f"{deleted:,} transactions, of event days until 2023-11-1" in refused.stderr
    assert "are too small until 2023-12-1" in refused.stderr
    assert bench.committed() == 0
    answer = bench.command("rebuild", "--incomplete")
    assert answer.returncode == 0, answer.stderr
    assert "no longer in Kafka" in answer.stderr
    assert bench.committed() == len(records) + len(more)


def delete_records(bench: Bench, share: float) -> int:
    """Delete the oldest transactions of each partition; return how many."""
    settings = bench.pipeline.settings
    topic = settings.topic(TRANSACTIONS)
    ends = end_offsets(settings, topic)
    places = [ck.TopicPartition(topic, number, int(end * share)) for number, end in ends.items()]
    admin = AdminClient(connection(settings))  # it must live until the answer comes
    for future in admin.delete_records(places).values():
        future.result(timeout=PATIENCE_S)
    return sum(place.offset for place in places)


def contents(bench: Bench) -> dict[bytes, Any]:
    """Return all state, without what belongs to the owner of the moment."""
    import redis

    prefix = bench.pipeline.settings.key_prefix
    found: dict[bytes, Any] = {}
    with redis.Redis.from_url(bench.stack.redis_url) as client:
        for key in client.scan_iter(prefix + b"*", count=1000):
            if key.endswith((b":epoch", b":outbox")) or key.endswith(b"watermarks"):
                continue
            is_hash = client.type(key) == b"hash"
            found[key] = client.hgetall(key) if is_hash else client.get(key)
    return found


def erase(bench: Bench) -> None:
    import redis

    with redis.Redis.from_url(bench.stack.redis_url) as client:
        keys = list(client.scan_iter(bench.pipeline.settings.key_prefix + b"*", count=1000))
        client.delete(*keys)


def test_a_worker_whose_redis_is_away_says_so_and_goes_on(bench: Bench) -> None:
    service = bench.service()
    service.start()
    service.wait_ready()
    records = world(400, seed=6)
    bench.pipeline.send_transactions(records[:200])
    until(lambda: bench.vectors() == 200, "the first vectors")
    bench.stack.redis.stop()
    try:
        bench.pipeline.send_transactions(records[200:])
        until(lambda: not is_ready(service), "a readiness of no")
        assert service.running
    finally:
        bench.stack.redis.start()
    until(lambda: bench.committed() == 400, "the rest")
    service.wait_ready()
    service.stop()
    assert_cards_equal(bench, records)


def test_kafka_restarted_under_a_running_worker(bench: Bench) -> None:
    service = bench.service()
    service.start()
    service.wait_ready()
    records = world(600, seed=7)
    bench.pipeline.send_transactions(records[:300])
    until(lambda: bench.committed() == 300, "the first half")
    bench.stack.kafka.restart()
    bench.pipeline.send_transactions(records[300:])
    until(lambda: bench.committed() == 600, "the second half")
    service.wait_ready()
    service.stop()
    bench.stack.kafka.stop()
    try:
        service.start()
        until(lambda: '"waiting"' in log_of(bench, service), "a warning")
        assert not is_ready(service)
    finally:
        bench.stack.kafka.start()
    service.wait_ready()
    service.stop()
    assert_cards_equal(bench, records)


def log_of(bench: Bench, service: Service) -> str:
    return (bench.tmp_path / "logs" / f"{service.name}.log").read_text()


def is_ready(service: Service) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{service.health_port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
