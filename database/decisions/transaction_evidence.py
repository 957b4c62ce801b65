"""Evidence around one transaction: its card's other transactions, their vectors, its case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from sqlalchemy import Connection, and_, select

from database.core.tables import cases, decisions, vectors
from database.review.cases import Case, Verdict, as_case
from schemas.codec import avro
from schemas.records import Decision, FeatureVector


@dataclass(frozen=True, slots=True)
class Past:
    """A decision on a card, and the verdict if there was a review case."""

    decision: Decision
    verdict: Verdict | None


def card_around(
    connection: Connection, card_id: str, when_ms: int, *, before: int, after: int
) -> list[Past]:
    """Return a card's decisions around `when_ms`, newest first.

    At most `before` of them are up to `when_ms`, and at most `after` are later.
    """
    same = and_(
        decisions.c.transaction_id == cases.c.transaction_id,
        decisions.c.card_id == cases.c.card_id,
    )
    question = (
        select(decisions.c.record, cases.c.verdict)
        .join(cases, same, isouter=True)
        .where(decisions.c.card_id == card_id)
    )
    time = decisions.c.event_time
    later = question.where(time > when_ms).order_by(time, decisions.c.transaction_id).limit(after)
    earlier = (
        question.where(time <= when_ms)
        .order_by(time.desc(), decisions.c.transaction_id.desc())
        .limit(before)
    )
    rows = [*reversed(connection.execute(later).all()), *connection.execute(earlier)]
    return [Past(cast(Decision, avro.decode(data)[1]), verdict) for data, verdict in rows]


def vectors_before(
    connection: Connection, card_id: str, when_ms: int, limit: int
) -> list[FeatureVector]:
    """Return the vectors of a card's transactions before `when_ms`, newest first."""
    same = and_(
        vectors.c.transaction_id == decisions.c.transaction_id,
        vectors.c.card_id == decisions.c.card_id,
    )
    question = (
        select(vectors.c.record)
        .join(decisions, same)
        .where(decisions.c.card_id == card_id, decisions.c.event_time < when_ms)
        .order_by(decisions.c.event_time.desc())
        .limit(limit)
    )
    return [cast(FeatureVector, avro.decode(data)[1]) for data in connection.scalars(question)]


def case_of(connection: Connection, transaction_id: str, card_id: str) -> Case | None:
    """Return the review case of a transaction, or None."""
    row = connection.execute(
        select(cases).where(cases.c.transaction_id == transaction_id, cases.c.card_id == card_id)
    ).first()
    return None if row is None else as_case(row)
