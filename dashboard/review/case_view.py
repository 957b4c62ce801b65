"""Words for a review case, on its page and in the queue. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dashboard.web.redaction import Redaction
from database.review.cases import Case, Verdict
from schemas.currency import amount
from schemas.records import Decision, Transaction
from schemas.words.quantities import duration

LEVELS: Final = ((1_000_000.0, "top"), (100_000.0, "high"), (10_000.0, "medium"))
"""Names of urgency by grown value at risk, in minor units of the base currency."""
_INPUTS: Final = (
    ("channel", "Channel"),
    ("mcc", "Merchant category (MCC)"),
    ("merchant_country", "Merchant country"),
    ("card_country", "Card country"),
    ("ip_country", "Country of the IP address"),
    ("ip", "IP address"),
    ("device_id", "Device"),
    ("customer_id", "Customer"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseLine:
    """A case as a line of the queue."""

    case: Case
    amount: str
    at_risk: str
    score: str
    age: str
    level: str
    reason: str
    holder: str | None


@dataclass(frozen=True, slots=True)
class CaseReason:
    """One reason; `share` in [0, 1] is its strength relative to the strongest reason."""

    text: str
    share: float
    for_fraud: bool
    rule: bool


def line(case: Case, decision: Decision | None, now_ms: int, base: str) -> CaseLine:
    """Return a case as a line; `decision` is None once the store has deleted it."""
    reasons = decision["reasons"] if decision else []
    return CaseLine(
        case=case,
        amount=amount(case.amount, case.currency),
        at_risk=amount(round(case.value_at_risk), base),
        score=score(decision["score"] if decision else None),
        age=duration(now_ms - case.opened_at),
        level=level(case, now_ms),
        reason=reasons[0]["text"] if reasons else "",
        holder=case.holder(now_ms),
    )


def level(case: Case, now_ms: int) -> str:
    """Return the present urgency of a case: low, medium, high or top."""
    grown = case.grown_value(now_ms)
    return next((name for minimum, name in LEVELS if grown >= minimum), "low")


def score(value: float | None) -> str:
    """Return a score in per cent."""
    return "none" if value is None else f"{100 * value:.1f}%"


def reasons(decision: Decision) -> list[CaseReason]:
    """Return the reasons for the review: rules first, then features, strongest first."""
    found = decision["reasons"]
    strongest = max((abs(reason["contribution"] or 0.0) for reason in found), default=0.0) or 1.0
    made = [
        CaseReason(
            reason["text"],
            abs(reason["contribution"] or 0.0) / strongest,
            (reason["contribution"] or 0.0) >= 0,
            reason["contribution"] is None,
        )
        for reason in found
    ]
    return sorted(made, key=lambda why: (not why.rule, -why.share))


def past(
    found: Sequence[Decision], case: Case, verdicts: Mapping[str, Verdict]
) -> list[tuple[Decision, str, str]]:
    """Return the card's other transactions, each with its amount in words and verdict, or ""."""
    return [
        (one, amount(one["amount"], one["currency"]), verdicts.get(one["transaction_id"], ""))
        for one in found
        if one["transaction_id"] != case.transaction_id
    ]


def state(case: Case, now_ms: int, undo_ms: int) -> str:
    """Return a text that changes whenever the page of the case must be loaded again."""
    if case.verdict is None:
        return f"open {case.holder(now_ms) or ''}"
    final = case.undo_until(undo_ms) <= now_ms
    return f"{case.verdict} {case.decided_by} {'final' if final else 'fresh'}"


def inputs(transaction: Transaction | None, redaction: Redaction) -> list[tuple[str, str]]:
    """Return the known inputs of the transaction as names and values, redacted for the reader."""
    if transaction is None:
        return []
    rows = [
        (text, redaction.text(name, value))
        for name, text in _INPUTS
        if (value := transaction.get(name))
    ]
    latitude, longitude = transaction.get("latitude"), transaction.get("longitude")
    if latitude is not None and longitude is not None:
        place = f"{latitude:.4f}, {longitude:.4f}"
        rows.append(("Place", redaction.text("latitude", place)))
    attributes = sorted((transaction.get("attributes") or {}).items())
    return rows + [(name, redaction.text("attributes", value)) for name, value in attributes]
