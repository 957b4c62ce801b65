"""Vectors and decisions as they come on their topics, for tests of the store."""

from __future__ import annotations

from typing import Any

from schemas.codec import avro
from schemas.features import FINGERPRINT, VECTOR_SIZE

START = 1_700_000_000_000


def decision(number: int, **fields: Any) -> dict[str, Any]:
    """Return the Decision of transaction `number`; it is decided in its millisecond."""
    return {
        "source_partition": 0, "source_offset": number, "transaction_id": f"tx-{number}",
        "card_id": f"card-{number % 7}", "merchant_id": "shop", "event_time": START + number,
        "amount": 1000 + number, "currency": "EUR", "decision": "APPROVE", "score": 0.25,
        "anomaly_score": None, "model_id": "model-1", "model_role": "CHAMPION",
        "policy_version": "v1", "duplicate": False, "late": False, "degraded": None,
        "rule_hits": [], "reasons": [], "shadows": [], "received_at": START + number,
        "computed_at": (START + number) * 1000, "decided_at": (START + number) * 1000,
        "kind": "PURCHASE", "unread": [], **fields,
    }  # fmt: skip


def vector(number: int, **fields: Any) -> dict[str, Any]:
    """Return the FeatureVector of transaction `number`; the keywords change its transaction."""
    transaction = {
        "transaction_id": f"tx-{number}", "event_time": START + number,
        "card_id": f"card-{number % 7}", "merchant_id": "shop", "amount": 1000 + number,
        "currency": "EUR", "attributes": {}, **fields,
    }  # fmt: skip
    encoded = avro.encode("Transaction", transaction)
    return {
        "source_partition": 0, "source_offset": number, "received_at": START + number,
        "computed_at": (START + number) * 1000, "duplicate": False, "late": False,
        "fingerprint": FINGERPRINT, "vector": bytes([number % 256]) * (4 * VECTOR_SIZE),
        "transaction": avro.decode(encoded)[1],
    }  # fmt: skip
