"""Review cases: one for each transaction that was sent to review. The store opens them, the
dashboard lists them; `case_work` claims and decides, `case_labels` sends the verdicts on.

Value at risk is score times amount, in minor units of the base currency: what is lost on average
when the transaction is let through. Without a model's score it is half the amount. Each hour that a
case waits counts as much as twice the value, so nothing waits for ever, and the order of two cases
never changes: it is one number, kept in an index.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from database.core.inserts import storable
from database.core.tables import cases, vectors
from schemas.codec import avro
from schemas.currency import CurrencyTable

Verdict = Literal["FRAUD", "GENUINE"]
Shown = Literal["all", "free", "mine", "decided"]
SCORE_WITHOUT_MODEL: Final = 0.5
DOUBLING_MS: Final = 3_600_000
"""A case that waited for so long comes before a new one of less than twice its value."""
SETTLED_BY: Final = "CHARGEBACK"
"""Who has decided a case that nobody had to: a label's source; people have small letters."""
MIN_VALUE: Final = 100.0
"""Below so many minor units all cases are worth the same; a logarithm needs a floor."""
_MAX_DOUBLINGS: Final = 1000.0
_CASES_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A row of the table; times in ms, amount in minor units of its currency."""

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
        """Return who holds the open case now."""
        held = self.verdict is None and (self.claimed_until or 0) > now_ms
        return self.claimed_by if held else None

    @property
    def settled(self) -> bool:
        """Whether a chargeback closed it."""
        return self.decided_by == SETTLED_BY

    def grown_value(self, now_ms: int) -> float:
        """Return the value at risk with its doublings by now, which the order goes by."""
        return math.exp2(min(self.urgency + now_ms / DOUBLING_MS, _MAX_DOUBLINGS))

    def undo_until(self, undo_ms: int) -> int:
        """Return until when the verdict can be taken back; 0 if it cannot."""
        if self.decided_at is None or self.label_taken_at is not None:
            return 0
        return self.decided_at + undo_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """The queue in figures; the median age is that of all open cases, in ms, 0 without any."""

    free: int
    claimed: int
    decided_today: int
    median_age_ms: int


def value_at_risk(decision: Mapping[str, Any], currencies: CurrencyTable) -> float:
    """Return score times amount of a Decision, in minor units of the base currency.

    A currency without a rate counts as the base currency: the case must be seen all the same.

    >>> value_at_risk({"score": 0.8, "amount": 1000, "currency": "EUR"}, CurrencyTable())
    800.0
    """
    score = decision["score"]
    scale = currencies.scales.get(decision["currency"], 1.0)
    return (SCORE_WITHOUT_MODEL if score is None else score) * float(decision["amount"]) * scale


def urgency(value: float, opened_at: int) -> float:
    """Return a number by which cases are ordered, highest first: log2(value) plus hours waited.

    Hours waited grow alike for all, so the opening time stands for them.

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
    """Open a case for each Decision that is REVIEW and has none; return how many were opened.

    The caller leaves out duplicates, and writes the vectors of the same batch first. A case is as
    old as its decision, so that those of a store that was away do not come last.
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
    """Return a case; with `lock` nobody else changes it until the transaction ends."""
    question = select(cases).where(cases.c.case_id == case_id)
    row = connection.execute(question.with_for_update() if lock else question).first()
    return None if row is None else as_case(row)


def list_cases(
    connection: Connection, now_ms: int, shown: Shown, person: str, limit: int = 100
) -> list[Case]:
    """Return cases, most urgent first; decided ones newest first, of everyone."""
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
    """Return the queue's figures; today is what was decided since `midnight_ms`."""
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


def is_free(now_ms: int) -> ColumnElement[bool]:
    """Whether a case is open and held by nobody."""
    unheld = or_(cases.c.claimed_by.is_(None), cases.c.claimed_until <= now_ms)
    return and_(cases.c.verdict.is_(None), unheld)


def is_held(now_ms: int, person: str) -> ColumnElement[bool]:
    """Whether a case is open and held by this person."""
    return and_(
        cases.c.verdict.is_(None),
        cases.c.claimed_by == person,
        cases.c.claimed_until > now_ms,
    )


def as_case(row: Row[Any]) -> Case:
    """Return a row of the table as a record."""
    return Case(**row._mapping)


def _note_devices(connection: Connection, new: Sequence[int]) -> None:
    """Note the device of each case that has one; its vector comes before its decision, mostly."""
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
