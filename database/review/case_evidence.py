"""Evidence around a case: its decision, earlier verdicts, similar cases and neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

from sqlalchemy import Connection, and_, or_, select

from database.core.tables import cases, decisions
from database.review.cases import Case, Verdict, as_case
from schemas.codec import avro
from schemas.records import Decision

_SAME = and_(
    decisions.c.transaction_id == cases.c.transaction_id, decisions.c.card_id == cases.c.card_id
)


def decisions_of(connection: Connection, found: Sequence[Case]) -> dict[int, Decision]:
    """Return the Decision of each case by case id; expired decisions are missing."""
    question = (
        select(cases.c.case_id, decisions.c.record)
        .join(decisions, _SAME)
        .where(cases.c.case_id.in_([case.case_id for case in found]))
    )
    return {
        number: cast(Decision, avro.decode(data)[1])
        for number, data in connection.execute(question)
    }


def verdicts_of(connection: Connection, card_id: str, limit: int = 100) -> dict[str, Verdict]:
    """Return the verdicts on a card's newest decided cases, by transaction_id."""
    question = (
        select(cases.c.transaction_id, cases.c.verdict)
        .where(cases.c.card_id == card_id, cases.c.verdict.is_not(None))
        .order_by(cases.c.opened_at.desc())
        .limit(limit)
    )
    return {transaction_id: verdict for transaction_id, verdict in connection.execute(question)}


def similar_cases(
    connection: Connection,
    case: Case,
    alike: Literal["merchant_id", "device_id"],
    limit: int = 6,
) -> list[Case]:
    """Return other cases of the same merchant or device, newest first."""
    wanted = getattr(case, alike)
    if wanted is None:
        return []
    question = (
        select(cases)
        .where(cases.c[alike] == wanted, cases.c.case_id != case.case_id)
        .order_by(cases.c.opened_at.desc())
        .limit(limit)
    )
    return [as_case(row) for row in connection.execute(question)]


def neighbours(connection: Connection, case: Case) -> tuple[int | None, int | None]:
    """Return the ids of the open cases before and after this one in the queue, or None."""
    unsolved = cases.c.verdict.is_(None)
    level, number = cases.c.urgency, cases.c.case_id
    same = level == case.urgency
    before = or_(level > case.urgency, same & (number < case.case_id))
    after = or_(level < case.urgency, same & (number > case.case_id))
    return (
        connection.scalar(
            select(number).where(unsolved, before).order_by(level, number.desc()).limit(1)
        ),
        connection.scalar(
            select(number).where(unsolved, after).order_by(level.desc(), number).limit(1)
        ),
    )
