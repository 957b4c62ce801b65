"""Review cases: one for each transaction that was sent to review. The store opens them.

Value at risk is score times amount, in minor units of the base currency: what is lost on average
when the transaction is let through. Without a model's score it is half the amount.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from schemas.currency import CurrencyTable
from schemas.runtime.database.tables import cases

SCORE_WITHOUT_MODEL: Final = 0.5
_AT_ONCE: Final = 500


def value_at_risk(decision: Mapping[str, Any], currencies: CurrencyTable) -> float:
    """Return score times amount of a Decision, in minor units of the base currency.

    A currency without a rate counts as the base currency: the case must be seen all the same.

    >>> value_at_risk({"score": 0.8, "amount": 1000, "currency": "EUR"}, CurrencyTable())
    800.0
    """
    score = decision["score"]
    scale = currencies.scales.get(decision["currency"], 1.0)
    return (SCORE_WITHOUT_MODEL if score is None else score) * float(decision["amount"]) * scale


def open_cases(
    connection: Connection,
    decided: Sequence[Mapping[str, Any]],
    now_ms: int,
    currencies: CurrencyTable | None = None,
) -> int:
    """Open a case for each Decision that is REVIEW and has none; return how many were opened.

    The caller leaves out duplicates. A case is as old as its decision, so that those of a store
    that was away do not come last.
    """
    known = currencies or CurrencyTable()
    rows = [
        {
            "transaction_id": decision["transaction_id"],
            "card_id": decision["card_id"],
            "merchant_id": decision["merchant_id"],
            "event_time": decision["event_time"],
            "opened_at": min(decision["decided_at"] // 1000, now_ms),
            "amount": decision["amount"],
            "currency": decision["currency"],
            "value_at_risk": value_at_risk(decision, known),
        }
        for decision in decided
        if decision["decision"] == "REVIEW"
    ]
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    opened = 0
    for start in range(0, len(rows), _AT_ONCE):
        statement = insert(cases).values(rows[start : start + _AT_ONCE])
        opened += connection.execute(statement.on_conflict_do_nothing()).rowcount
    return opened
