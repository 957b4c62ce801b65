"""Review cases: one for each transaction that was sent to review.

The value at risk is score times amount in minor units of the base currency: the expected loss if
the transaction is approved. Without a score it is half the amount. Every hour of waiting counts as
much as a doubling of the value, so that no case waits for ever. As this holds for all cases alike,
their order never changes, and urgency is one number in an index.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from database.core.inserts import storable
from database.core.tables import cases, vectors
from schemas.codec import avro
from schemas.currency import CurrencyTable

Verdict = Literal["FRAUD", "GENUINE"]
Shown = Literal["all", "free", "mine", "decided"]
SCORE_WITHOUT_MODEL: Final = 0.5
DOUBLING_MS: Final = 3_600_000
"""A case that has waited this long precedes new cases of less than twice its value."""
SETTLED_BY: Final = "CHARGEBACK"
"""`decided_by` of a case that a chargeback closed; usernames have lower-case letters only."""
MIN_VALUE: Final = 100.0
"""Smallest value, in minor units, that affects the order: a logarithm needs a floor."""
_MAX_DOUBLINGS: Final = 1000.0
_CASES_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case; times are in ms, the amount is in minor units of its currency."""

    case_id: int
    transaction_id: str
    card_id: str
    merchant_id: str
    event_time: int
    opened_at: int
    amount: int
    currency: str
    value_at_risk: float
    urgency: float
    device_id: str | None
    claimed_by: str | None
    claimed_until: int | None
    verdict: Verdict | None
    note: str | None
    decided_by: str | None
    decided_at: int | None
    label_taken_at: int | None
    label_sent_at: int | None

    def holder(self, now_ms: int) -> str | None:
        """Return the person who holds the open case now, or None."""
        held = self.verdict is None and (self.claimed_until or 0) > now_ms
        return self.claimed_by if held else None

    @property
    def settled(self) -> bool:
        """Whether a chargeback closed it."""
        return self.decided_by == SETTLED_BY

    def grown_value(self, now_ms: int) -> float:
        """Return the value at risk with its doublings until now; cases are in this order."""
        return math.exp2(min(self.urgency + now_ms / DOUBLING_MS, _MAX_DOUBLINGS))

    def undo_until(self, undo_ms: int) -> int:
        """Return the time in ms until which the verdict can be undone, or 0."""
        if self.decided_at is None or self.label_taken_at is not None:
            return 0
        return self.decided_at + undo_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Figures of the queue. The median age of all open cases is in ms, and 0 if there are none."""

    free: int
    claimed: int
    decided_today: int
    median_age_ms: int


def value_at_risk(decision: Mapping[str, Any], currencies: CurrencyTable) -> float:
    """Return score times amount of a Decision, in minor units of the base currency.

    A currency without a rate counts as the base currency, as the case must not be lost.

    >>> value_at_risk({"score": 0.8, "amount": 1000, "currency": "EUR"}, CurrencyTable())
    800.0
    """
    score = decision["score"]
    scale = currencies.scales.get(decision["currency"], 1.0)
    return (SCORE_WITHOUT_MODEL if score is None else score) * float(decision["amount"]) * scale


def urgency(value: float, opened_at: int) -> float:
    """Return the number that orders cases, highest first: log2(value) minus opening time in hours.

    The waiting time grows at the same rate for all cases, so the opening time can replace it.

    >>> urgency(20_000, 0) == urgency(40_000, DOUBLING_MS)
    True
    """
    return math.log2(max(value, MIN_VALUE)) - opened_at / DOUBLING_MS


def open_cases(
    connection: Connection,
    decided: Sequence[Mapping[str, Any]],
    now_ms: int,
    currencies: CurrencyTable | None = None,
) -> int:
    """Open a case for each REVIEW Decision without one; return how many were opened.

    The caller leaves out duplicates, and writes the vectors of the same batch first. The age of a
    case counts from its decision, so that cases are not put last when the store was down.
    """
    known = currencies or CurrencyTable()
    rows = [
        _opened(decision, min(decision["decided_at"] // 1000, now_ms), known)
        for decision in decided
        if decision["decision"] == "REVIEW"
    ]
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    opened = 0
    for start in range(0, len(rows), _CASES_AT_ONCE):
        statement = (
            insert(cases).values(rows[start : start + _CASES_AT_ONCE]).on_conflict_do_nothing()
        )
        new = connection.scalars(statement.returning(cases.c.case_id)).all()
        _note_devices(connection, new)
        opened += len(new)
    return opened


def read_case(connection: Connection, case_id: int, *, lock: bool = False) -> Case | None:
    """Return a case or None; with `lock`, nobody else can change it until the transaction ends."""
    question = select(cases).where(cases.c.case_id == case_id)
    row = connection.execute(question.with_for_update() if lock else question).first()
    return None if row is None else as_case(row)


def list_cases(
    connection: Connection, now_ms: int, shown: Shown, person: str, limit: int = 100
) -> list[Case]:
    """Return cases, the most urgent first; decided ones are everyone's, the newest first."""
    wanted = {
        "all": cases.c.verdict.is_(None),
        "free": is_free(now_ms),
        "mine": is_held(now_ms, person),
        "decided": cases.c.verdict.is_not(None),
    }[shown]
    order = cases.c.decided_at if shown == "decided" else cases.c.urgency
    question = select(cases).where(wanted).order_by(order.desc(), cases.c.case_id).limit(limit)
    return [as_case(row) for row in connection.execute(question)]


def count_cases(connection: Connection, now_ms: int, midnight_ms: int) -> Counters:
    """Return the queue's figures; "today" begins at `midnight_ms`."""
    unsolved = cases.c.verdict.is_(None)
    free, waiting = connection.execute(
        select(func.count().filter(is_free(now_ms)), func.count()).where(unsolved)
    ).one()
    today = select(func.count()).where(cases.c.decided_at >= midnight_ms)
    ages = select(cases.c.opened_at).where(unsolved).order_by(cases.c.opened_at)
    median = connection.execute(ages.offset(waiting // 2).limit(1)).scalar()
    return Counters(
        free=free,
        claimed=waiting - free,
        decided_today=connection.execute(today).scalar_one(),
        median_age_ms=0 if median is None else now_ms - median,
    )


def delete_closed(connection: Connection, before_ms: int, limit: int) -> int:
    """Delete at most `limit` cases that were closed before `before_ms`; return how many.

    A verdict whose label has not been sent stays. A case that nobody has decided is deleted once it
    was opened before `before_ms`, as its evidence is gone by then.
    """
    sent = and_(cases.c.decided_at < before_ms, cases.c.label_sent_at.is_not(None))
    stale = and_(cases.c.opened_at < before_ms, cases.c.verdict.is_(None))
    deleted = 0
    for expired, age in ((sent, cases.c.decided_at), (stale, cases.c.opened_at)):
        oldest = select(cases.c.case_id).where(expired).order_by(age).limit(limit - deleted)
        deleted += connection.execute(delete(cases).where(cases.c.case_id.in_(oldest))).rowcount
    return deleted


def is_free(now_ms: int) -> ColumnElement[bool]:
    """Return the condition that a case is open and nobody holds it."""
    unheld = or_(cases.c.claimed_by.is_(None), cases.c.claimed_until <= now_ms)
    return and_(cases.c.verdict.is_(None), unheld)


def is_held(now_ms: int, person: str) -> ColumnElement[bool]:
    """Return the condition that a case is open and this person holds it."""
    return and_(
        cases.c.verdict.is_(None),
        cases.c.claimed_by == person,
        cases.c.claimed_until > now_ms,
    )


def as_case(row: Row[Any]) -> Case:
    """Return a row of the table as a Case."""
    return Case(**row._mapping)


def _note_devices(connection: Connection, new: Sequence[int]) -> None:
    """Copy device ids from vectors to new cases; most vectors arrive before their decision."""
    question = (
        select(cases.c.case_id, vectors.c.record)
        .join(
            vectors,
            and_(
                vectors.c.transaction_id == cases.c.transaction_id,
                vectors.c.card_id == cases.c.card_id,
            ),
        )
        .where(cases.c.case_id.in_(new))
    )
    for case_id, record in connection.execute(question).all():
        device = avro.decode(record)[1]["transaction"]["device_id"]
        if device is not None:
            connection.execute(
                update(cases).where(cases.c.case_id == case_id).values(device_id=storable(device))
            )


def _opened(
    decision: Mapping[str, Any], opened_at: int, currencies: CurrencyTable
) -> dict[str, Any]:
    value = value_at_risk(decision, currencies)
    copied = ("transaction_id", "card_id", "merchant_id", "event_time", "amount", "currency")
    return {name: decision[name] for name in copied} | {
        "opened_at": opened_at,
        "value_at_risk": value,
        "urgency": urgency(value, opened_at),
    }
