"""Decisions and fallbacks as JSON answers. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from schemas.codec import avro
from schemas.records import Decision, Transaction
from scorer.policy.document import Policy

FALLBACK: Final = "fallback"
"""Reason code of a fallback."""


def read_decision(message: bytes) -> Decision:
    """Decode a Decision as it came on its topic."""
    _, record = avro.decode(message)
    decision: Decision = record  # type: ignore[assignment]
    return decision


def decided(decision: Decision) -> bytes:
    """Return a decision as an answer; equal decisions give equal bytes."""
    return json.dumps(
        {
            "transaction_id": decision["transaction_id"],
            "card_id": decision["card_id"],
            "decision": decision["decision"],
            "score": decision["score"],
            "anomaly_score": decision["anomaly_score"],
            "reasons": decision["reasons"],
            "rule_hits": decision["rule_hits"],
            "model_id": decision["model_id"],
            "model_role": decision["model_role"],
            "policy_version": decision["policy_version"],
            "duplicate": decision["duplicate"],
            "late": decision["late"],
            "degraded": decision["degraded"],
            "kind": decision["kind"],
            "unread": decision["unread"],
            "position": {
                "partition": decision["source_partition"],
                "offset": decision["source_offset"],
            },
            "received_at": decision["received_at"],
            "decided_at": decision["decided_at"] // 1000,
            "fallback": False,
            "recorded": True,
        }
    ).encode()


def fallback(
    transaction: Transaction, policy: Policy, reason: str, now_ms: int, *, recorded: bool
) -> bytes:
    """Return the answer that replaces a decision that was not made in time.

    `recorded` means that Kafka has the transaction; otherwise the gateway keeps it and sends it
    later.
    """
    empty: dict[str, Any] = dict.fromkeys(("score", "anomaly_score"))
    return json.dumps(
        {
            "transaction_id": transaction["transaction_id"],
            "card_id": transaction["card_id"],
            "decision": policy.document.fallback,
            **empty,
            "reasons": [{"code": FALLBACK, "text": reason, "contribution": None}],
            "rule_hits": [],
            "model_id": None,
            "model_role": "NONE",
            "policy_version": policy.version,
            "duplicate": False,
            "late": False,
            "degraded": FALLBACK,
            "kind": transaction["kind"],
            "unread": transaction["unread"],
            "position": None,
            "received_at": None,
            "decided_at": now_ms,
            "fallback": True,
            "recorded": recorded,
        }
    ).encode()


def same_transaction(decision: Decision, transaction: Transaction) -> bool:
    """Whether a decision answers this transaction, judged by the fields that a decision has."""
    return (
        decision["card_id"] == transaction["card_id"]
        and decision["merchant_id"] == transaction["merchant_id"]
        and decision["event_time"] == transaction["event_time"]
        and decision["amount"] == transaction["amount"]
        and decision["currency"] == transaction["currency"]
        and decision["kind"] == transaction["kind"]
    )
