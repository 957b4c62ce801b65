"""Messages of the archived topics, and an archive filled with them, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.currency import CurrencyTable
from schemas.features import FINGERPRINT, VECTOR_SIZE
from trainer.archive.archiver import Decoding
from trainer.archive.delta_tables import TABLES, Archive

START = 1_700_000_000_000
DECODING = Decoding(CurrencyTable("EUR", {"USD": 0.5}))


def feature(offset: int, *, partition: int = 0, seed: int = 0, **fields: Any) -> Message:
    """Return a FeatureVector message; `fields` override the vector's and the transaction's."""
    values = np.random.default_rng([seed, partition, offset]).normal(size=VECTOR_SIZE)
    record = {
        "source_partition": fields.pop("source_partition", partition),
        "source_offset": fields.pop("source_offset", offset),
        "received_at": START,
        "computed_at": START * 1000,
        "duplicate": fields.pop("duplicate", False),
        "late": fields.pop("late", False),
        "fingerprint": fields.pop("fingerprint", FINGERPRINT),
        "vector": fields.pop("vector", values.astype("<f4").tobytes()),
        "transaction": {
            "transaction_id": f"{partition}-{offset}",
            "event_time": START + offset,
            "card_id": f"card-{partition}",
            "merchant_id": "merchant-1",
            "amount": 1000,
            "currency": "EUR",
            "channel": "ECOM",
            "attributes": {},
            **fields,
        },
    }
    return message("features", "FeatureVector", record, partition, offset)


def decision(offset: int, *, partition: int = 0, **fields: Any) -> Message:
    """Return a Decision message."""
    record = {
        "source_partition": partition, "source_offset": offset,
        "transaction_id": f"{partition}-{offset}", "card_id": f"card-{partition}",
        "merchant_id": "merchant-1", "event_time": START + offset, "amount": 1000,
        "currency": "EUR", "decision": "APPROVE", "score": 0.25, "anomaly_score": None,
        "model_id": "m", "model_role": "CHAMPION", "policy_version": "v1", "duplicate": False,
        "late": False, "degraded": None, "rule_hits": [], "reasons": [], "shadows": [],
        "received_at": START, "computed_at": 1, "decided_at": 2, **fields,
    }  # fmt: skip
    return message("decisions", "Decision", record, partition, offset)


def label(
    offset: int, transaction: int, *, partition: int = 0, fraud: bool = True, **fields: Any
) -> Message:
    """Return a Label message at `offset` for the transaction of `feature(transaction)`."""
    record = {
        "transaction_id": f"{partition}-{transaction}", "card_id": f"card-{partition}",
        "label": "FRAUD" if fraud else "GENUINE", "source": "ANALYST",
        "transaction_time": START + transaction, "label_time": START + transaction + 10, **fields,
    }  # fmt: skip
    return message("labels", "Label", record, partition, offset)


def message(topic: str, schema: str, record: Any, partition: int, offset: int) -> Message:
    """Return a record as a message keyed by its card."""
    card = record.get("card_id") or record["transaction"]["card_id"]
    return Message(topic, partition, offset, START, card.encode(), avro.encode(schema, record))


def filled(url: str, **messages: Sequence[Message]) -> Archive:
    """Return a new archive that holds the messages of each table."""
    archive = Archive(url)
    archive.create()
    for name in TABLES:
        add(archive, name, messages.get(name, ()))
    return archive


def add(archive: Archive, name: str, messages: Sequence[Message]) -> None:
    """Append messages as the archiver would, without positions."""
    if messages:
        rows = DECODING.rows(name, messages)
        assert not rows.rejected
        archive.append(name, rows.table, [])


def records(table: pa.Table) -> list[dict[str, Any]]:
    """Return rows in the order of their topic."""
    found: list[dict[str, Any]] = table.to_pylist()
    return sorted(found, key=lambda row: (row["topic_partition"], row["topic_offset"]))
