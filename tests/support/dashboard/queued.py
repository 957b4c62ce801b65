"""Transactions sent to review, as the store leaves them, for tests of the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert

from database.core.database import Database
from database.core.tables import decisions, vectors
from database.review.cases import Case, list_cases, open_cases
from schemas.codec import avro
from schemas.features import FINGERPRINT, VECTOR_SIZE
from tests.support.dashboard.site import START

REASONS = [
    {"code": "rule-1", "text": "Electronics above 500 EUR", "contribution": None},
    {"code": "card_tx_count_1h", "text": "9 transactions in an hour", "contribution": 1.5},
    {"code": "card_age", "text": "The card is well known", "contribution": -0.5},
]


def review(number: int, *, waited_ms: int = 0, **fields: Any) -> dict[str, Any]:
    """Return the Decision of transaction `number`, REVIEW if not said otherwise."""
    at = START - waited_ms
    return {
        "source_partition": 0, "source_offset": number, "transaction_id": f"tx-{number}",
        "card_id": f"card-{number}", "merchant_id": f"shop-{number}", "event_time": at,
        "amount": 10_000 * number, "currency": "EUR", "decision": "REVIEW", "score": 0.8,
        "anomaly_score": None, "model_id": "model-1", "model_role": "CHAMPION",
        "policy_version": "v1", "duplicate": False, "late": False, "degraded": None,
        "rule_hits": ["rule-1"], "reasons": REASONS, "shadows": [], "received_at": at,
        "computed_at": at * 1000, "decided_at": at * 1000,
        **fields,
    }  # fmt: skip


def stored(database: Database, decided: Sequence[dict[str, Any]], **inputs: Any) -> list[Case]:
    """Write decisions and their vectors and open the cases; return all, most urgent first.

    `inputs` are more fields of each transaction.
    """
    names = [column.name for column in decisions.columns if column.name not in ("decided_at",)]
    with database.begin() as connection:
        for record in decided:
            key = {name: record[name] for name in ("transaction_id", "card_id")}
            connection.execute(
                insert(vectors).values(
                    **key, computed_at=record["computed_at"], record=vector(record, inputs)
                )
            )
            copied = {name: record[name] for name in names if name != "record"}
            connection.execute(
                insert(decisions).values(
                    **copied,
                    decided_at=record["decided_at"] // 1000,
                    record=avro.encode("Decision", record),
                )
            )
        open_cases(connection, decided, START)
        return list_cases(connection, START, "all", "")


def vector(record: dict[str, Any], inputs: dict[str, Any]) -> bytes:
    """Return the message that a decision was made from."""
    copied = ("transaction_id", "event_time", "card_id", "merchant_id", "amount", "currency")
    made = {
        "source_partition": record["source_partition"],
        "source_offset": record["source_offset"],
        "received_at": record["received_at"],
        "computed_at": record["computed_at"],
        "duplicate": False,
        "late": False,
        "fingerprint": FINGERPRINT,
        "vector": bytes(4 * VECTOR_SIZE),
        "transaction": {"attributes": {}, **{name: record[name] for name in copied}, **inputs},
    }
    return avro.encode("FeatureVector", made)
