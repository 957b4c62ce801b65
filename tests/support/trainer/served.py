"""Many vectors and their decisions at once, as the services write them, for tests and figures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from runtime.kafka.protocols import Outgoing
from schemas.codec import avro
from schemas.codec.decisions import encode_decisions, explain
from schemas.codec.vectors import decode_feature_vectors, encode_feature_vectors
from schemas.features import VECTOR_SIZE

START = 1_700_000_000_000
EXPLAINED_EVERY = 20


def served(
    rows: int, *, partitions: int, first: int = 0, seed: int = 1
) -> tuple[list[Outgoing], list[Outgoing]]:
    """Return `rows` vectors and their decisions, by partition in turn from offset `first` on."""
    draw = np.random.default_rng([seed, first])
    number = np.arange(rows)
    partition, offset = number % partitions, first + number // partitions
    vectors = np.where(
        draw.random((rows, VECTOR_SIZE)) < 0.5,
        draw.integers(0, 9, (rows, VECTOR_SIZE)),
        draw.gamma(2, 100, (rows, VECTOR_SIZE)).round(2),
    ).astype(np.float32)
    vectors[draw.random(vectors.shape) < 0.1] = np.nan
    size = len(avro.header("Transaction"))
    bodies = [
        avro.encode("Transaction", record)[size:]
        for record in _transactions(partition.tolist(), offset.tolist())
    ]
    messages = encode_feature_vectors(
        source_partition=partition,
        source_offset=offset,
        received_at=START + number,
        computed_at=START * 1000,
        flags=np.zeros(rows, np.uint8),
        vectors=vectors,
        bodies=bodies,
    )
    decoded = decode_feature_vectors(messages)
    reason = [{"code": "amount", "text": "amount 1,000 in EUR", "contribution": 0.5}]
    explained = explain(None, ["velocity"], reason)  # type: ignore[arg-type]
    decisions = encode_decisions(
        decoded,
        action=np.zeros(rows, np.uint8),
        score=draw.random(rows),
        anomaly=draw.random(rows),
        model=np.zeros(rows, np.int64),
        model_ids=["model-1"],
        role=np.ones(rows, np.uint8),
        policy_version="v1",
        explanations=dict.fromkeys(range(0, rows, EXPLAINED_EVERY), explained),
        decided_at=START * 1000,
    )
    keys = decoded.keys()
    numbers = partition.tolist()
    return (
        list(zip(numbers, keys, messages, strict=True)),
        list(zip(numbers, keys, decisions, strict=True)),
    )


def _transactions(partitions: list[int], offsets: list[int]) -> Iterator[dict[str, object]]:
    for partition, offset in zip(partitions, offsets, strict=True):
        yield {
            "transaction_id": f"tx-{partition}-{offset:09d}", "event_time": START + offset,
            "card_id": f"card-{partition}-{offset % 5000}", "customer_id": f"cust-{offset % 9999}",
            "merchant_id": f"m-{offset % 4000}", "amount": 100 + offset % 90_000,
            "currency": "EUR", "mcc": 5411, "channel": "ECOM", "device_id": f"dev-{offset % 3000}",
            "ip": f"10.{offset % 250}.{offset // 250 % 250}.7", "ip_country": "DE",
            "card_country": "DE", "merchant_country": "FR", "latitude": 50.1, "longitude": 8.6,
            "attributes": {},
        }  # fmt: skip
