"""Measures how many transactions a second the empty Faust host reads, on a Kafka of its own.

Example: python -m loadtest.measure.host --records 400000
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from itertools import repeat
from pathlib import Path
from typing import Annotated, Any

import typer

from devstack.stack import Stack
from runtime.kafka.clients import KafkaProducer
from runtime.kafka.topic_admin import create_topics
from runtime.settings import load_settings
from schemas.codec import avro
from schemas.errors import FatalError
from schemas.records import Transaction
from schemas.topics import TRANSACTIONS

BATCH = 20_000


def bench_host(records: int, folder: Path) -> dict[str, Any]:
    """Fill `transactions`, read the topic through the host, and return the host's report.

    Raises:
        FatalError: the host ended with an error.
    """
    transaction: Transaction = {
        "transaction_id": "transaction-1",
        "event_time": 1_700_000_000_000,
        "card_id": "card-1",
        "merchant_id": "merchant-1",
        "amount": 1234,
        "currency": "EUR",
    }
    value = avro.encode("Transaction", transaction)
    with Stack(folder) as stack:
        settings = load_settings(
            bootstrap=stack.bootstrap, redis_url=stack.redis_url, partitions=stack.partitions
        )
        create_topics(settings)
        producer = KafkaProducer(settings, linger_ms=5)
        for start in range(0, records, BATCH):
            count = min(BATCH, records - start)
            rows = zip(range(count), repeat(b"card-1"), repeat(value))
            spread = ((row % stack.partitions, key, each) for row, key, each in rows)
            producer.produce_many(settings.topic(TRANSACTIONS), spread)
        producer.flush(60.0)
        answer = subprocess.run(
            [sys.executable, "-m", "stream_features.host.empty", str(records)],
            capture_output=True,
            text=True,
            env={**os.environ, **stack.environment()},
        )
    if answer.returncode != 0:
        raise FatalError(f"the host ended with {answer.returncode}: {answer.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return report


def main(
    records: Annotated[int, typer.Option(min=1, help="transactions to read")] = 400_000,
) -> None:
    """Measure the empty Faust host and print one line of JSON.

    Example: python -m loadtest.measure.host --records 400000
    """
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(bench_host(records, Path(folder))))


if __name__ == "__main__":
    typer.run(main)
