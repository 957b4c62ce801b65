"""Words and drawings for the page of one transaction. Pure.

Outside values stay plain text, which the template escapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dashboard.transactions.norm import FeatureLine
from dashboard.web.redaction import Redaction
from database.decisions.transaction_evidence import Past
from schemas.currency import amount
from schemas.records import Decision, Transaction
from schemas.words.quantities import duration

ENTITIES: Final = (
    ("card", "The card"),
    ("transaction", "The transaction itself"),
    ("merchant", "The merchant"),
    ("device", "The device"),
    ("ip", "The IP address"),
)
_INPUTS: Final = (
    ("merchant_id", "Merchant"),
    ("mcc", "Merchant category"),
    ("merchant_country", "Merchant's country"),
    ("channel", "Channel"),
    ("card_country", "Card's country"),
    ("customer_id", "Customer"),
    ("device_id", "Device"),
    ("ip", "IP address"),
    ("ip_country", "IP address's country"),
)
MAX_BARS: Final = 10
MAX_LISTED: Final = 12
HEIGHT, EDGE = 120, 9


@dataclass(frozen=True, slots=True)
class FeatureGroup:
    """The features of one entity, unusual ones first."""

    title: str
    lines: list[FeatureLine]
    unusual: int


@dataclass(frozen=True, slots=True)
class ContributionBar:
    """A contribution as a bar: `start` and `width` are in per cent of the full width."""

    line: FeatureLine
    start: float
    width: float
    raises: bool


@dataclass(frozen=True, slots=True)
class HistoryDot:
    """A transaction in the drawing of the card's history: `x` in per cent, `y` in pixels."""

    x: float
    y: float
    decision: str
    this: bool
    text: str


@dataclass(frozen=True, slots=True)
class HistoryDrawing:
    """The card's transactions by time and amount; `foot` is the height of the base line."""

    height: int
    foot: int
    dots: list[HistoryDot]
    max_amount: str
    first_ms: int
    last_ms: int


def inputs(
    decision: Decision, transaction: Transaction | None, redaction: Redaction
) -> list[tuple[str, str]]:
    """Return the known inputs of the transaction as names and values, redacted for the reader."""
    found: Mapping[str, Any] = transaction or {}
    rows = [("Card", redaction.text("card_id", decision["card_id"]))]
    rows += [
        (text, redaction.text(field, value))
        for field, text in _INPUTS
        if (value := found.get(field, decision.get(field))) is not None
    ]
    latitude, longitude = found.get("latitude"), found.get("longitude")
    if latitude is not None and longitude is not None:
        place = f"{latitude:.4f}, {longitude:.4f}"
        rows.append(("Place", redaction.text("latitude", place)))
    attributes: Mapping[str, str] = found.get("attributes") or {}
    return rows + [
        (name, redaction.text("attributes", value)) for name, value in sorted(attributes.items())
    ]


KIND_WORDS: Final = {
    "REFUND": "refund: money given back, which no feature counts as spending",
    "REVERSAL": "reversal: an authorisation taken back, which no feature counts as spending",
    "VERIFICATION": "verification: a check of the card, which counts as a transaction of 0",
}
"""What the kinds of transactions mean, for people; a purchase needs no words."""


def unread(decision: Decision) -> list[str]:
    """Return the names, for people, of the context that could not be read."""
    names = dict(_INPUTS) | {"latitude": "Place", "longitude": "Place", "attributes": "Attributes"}
    return list(dict.fromkeys(names[field] for field in decision["unread"] if field in names))


def timings(decision: Decision) -> list[tuple[str, int, str]]:
    """Return the steps of the decision: name, time in ms, and delay after the step before."""
    received, computed = decision["received_at"], decision["computed_at"]
    return [
        ("Happened", decision["event_time"], ""),
        ("Received", received, lasted(received - decision["event_time"])),
        ("Computed", computed // 1000, lasted(computed / 1000 - received)),
        (
            "Decided",
            decision["decided_at"] // 1000,
            lasted((decision["decided_at"] - computed) / 1e3),
        ),
    ]


def lasted(ms: float) -> str:
    """Return a delay after the step before, in words.

    >>> lasted(0.4), lasted(12.3), lasted(90_000)
    ('0.4 ms later', '12 ms later', '1 min 30 s later')
    """
    return "before, by another clock" if ms < 0 else f"{duration(ms)} later"


def groups(found: Sequence[FeatureLine]) -> list[FeatureGroup]:
    """Return the features by entity; in each the unusual ones first, then as in the catalogue."""
    made = []
    for entity, title in ENTITIES:
        mine = [line for line in found if line.entity == entity]
        unusual = sum(line.unusual for line in mine)
        made.append(FeatureGroup(title, sorted(mine, key=lambda line: not line.unusual), unusual))
    return made


def bars(found: Sequence[FeatureLine]) -> list[ContributionBar]:
    """Return the strongest contributions as bars from a common centre, strongest first."""
    known = [line for line in found if line.contribution]
    known.sort(key=lambda line: -abs(line.contribution or 0.0))
    known = known[:MAX_BARS]
    most = max((abs(line.contribution or 0.0) for line in known), default=1.0)
    made = []
    for line in known:
        share = 50.0 * abs(line.contribution or 0.0) / most
        raises = (line.contribution or 0.0) > 0
        made.append(ContributionBar(line, 50.0 if raises else 50.0 - share, share, raises))
    return made


def listed(history: Sequence[Past], this: Decision) -> Sequence[Past]:
    """Return at most MAX_LISTED transactions around this one."""
    place = next(
        (
            number
            for number, past in enumerate(history)
            if past.decision["transaction_id"] == this["transaction_id"]
        ),
        0,
    )
    first = max(min(place - MAX_LISTED // 2, len(history) - MAX_LISTED), 0)
    return history[first : first + MAX_LISTED]


def drawing(history: Sequence[Past], this: Decision) -> HistoryDrawing | None:
    """Return the drawing of the card's transactions; None if it has only this one."""
    decided = [each.decision for each in history]
    if len(decided) < 2:
        return None
    times = [each["event_time"] for each in decided]
    most = max(decided, key=lambda each: int(each["amount"]))
    first, span = min(times), max(max(times) - min(times), 1)
    foot = HEIGHT - EDGE
    dots = [
        HistoryDot(
            round(1 + 98 * (each["event_time"] - first) / span, 2),
            round(foot - (foot - EDGE) * each["amount"] / max(most["amount"], 1), 1),
            each["decision"],
            each["transaction_id"] == this["transaction_id"],
            f"{amount(each['amount'], each['currency'])}, {each['decision'].lower()}",
        )
        for each in reversed(decided)
    ]
    return HistoryDrawing(
        HEIGHT, foot, dots, amount(most["amount"], most["currency"]), first, max(times)
    )
