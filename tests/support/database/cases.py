"""Review cases for the tests of them."""

from __future__ import annotations

from typing import Any

from database.core.database import Database
from database.review.case_work import claim_next, decide
from database.review.cases import Case, list_cases, open_cases

NOW = 1_700_000_000_000
MINUTE = 60_000
CLAIM, UNDO = 15 * MINUTE, MINUTE


def decision(number: int, *, waited_ms: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "transaction_id": f"t{number}",
        "card_id": f"card-{number % 7}",
        "merchant_id": f"merchant-{number % 3}",
        "event_time": NOW - waited_ms - 50,
        "decided_at": (NOW - waited_ms) * 1000,
        "decision": "REVIEW",
        "score": 0.8,
        "amount": 10_000,
        "currency": "EUR",
    } | fields


def opened(database: Database, *decided: dict[str, Any]) -> list[Case]:
    """Open cases; return all, most urgent first."""
    with database.begin() as connection:
        open_cases(connection, decided, NOW)
        return list_cases(connection, NOW, "all", "ann", limit=10_000)


def decided_case(database: Database, number: int, at: int = NOW) -> int:
    """Open a case and decide it FRAUD; return its id."""
    opened(database, decision(number))
    with database.begin() as connection:
        case = claim_next(connection, "ann", NOW, CLAIM)
        assert case is not None
        assert decide(connection, case.case_id, "ann", "FRAUD", "", at) is not None
    return case.case_id
