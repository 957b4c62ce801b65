"""`dump` on a real Kafka: the first of identical vectors, and a conflict told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from devstack.stack import Stack
from runtime.kafka.clients import KafkaProducer
from runtime.kafka.topic_admin import create_topics
from runtime.settings import load_settings
from schemas.codec import avro
from schemas.features import FINGERPRINT, NAMES
from schemas.topics import FEATURES


def vector(partition: int, offset: int, number: float) -> bytes:
    record: dict[str, Any] = {
        "source_partition": partition,
        "source_offset": offset,
        "received_at": 1,
        "computed_at": 2,
        "duplicate": False,
        "late": False,
        "fingerprint": FINGERPRINT,
        "vector": np.full(len(NAMES), number, "<f4").tobytes(),
        "transaction": {
            "transaction_id": f"{partition}-{offset}",
            "event_time": 1_700_000_000_000 + offset,
            "card_id": "c",
            "merchant_id": "m",
            "amount": 1,
            "currency": "EUR",
        },
    }
    return avro.encode("FeatureVector", record)


def test_repeated_conflicting_and_unreadable_messages(stack: Stack, tmp_path: Path) -> None:
    prefix = uuid.uuid4().hex
    settings = load_settings(
        bootstrap=stack.bootstrap, partitions=stack.partitions, topic_prefix=prefix
    )
    create_topics(settings)
    producer = KafkaProducer(settings)
    output = tmp_path / "dump.parquet"

    def send(*values: bytes) -> None:
        producer.produce_many(settings.topic(FEATURES), [(1, b"c", value) for value in values])
        producer.flush()

    def dump() -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-m", "stream_features", "dump", "--json", "-"]
        answer = subprocess.run(
            [*command, "--output", str(output)],
            capture_output=True, text=True,
            env={**os.environ, **stack.environment(), "FRAUD_TOPIC_PREFIX": prefix},
        )  # fmt: skip
        return answer.returncode, json.loads(answer.stdout)

    assert dump() == (0, {"messages": 0, "rows": 0, "repeated": 0, "unreadable": 0,
                          "conflicts": 0, "conflicting_positions": []})  # fmt: skip
    send(vector(1, 5, 1.0), vector(1, 4, 2.0), vector(1, 5, 1.0), b"rubbish")
    code, counts = dump()
    assert (code, counts["rows"], counts["repeated"], counts["unreadable"]) == (0, 2, 1, 1)
    table = pyarrow.parquet.read_table(output)
    assert table.column("source_offset").to_pylist() == [4, 5]
    assert table.column(NAMES[0]).to_pylist() == [2.0, 1.0]
    send(vector(1, 4, 3.0))
    code, counts = dump()
    assert (code, counts["conflicts"], counts["conflicting_positions"]) == (1, 1, [[1, 4]])
    assert pyarrow.parquet.read_table(output).column(NAMES[0]).to_pylist() == [2.0, 1.0]
    producer.close()
