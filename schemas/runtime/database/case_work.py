"""What an analyst does with a case: claim, release, decide, undo. Each is one UPDATE that changes
the case only if it may, so two people never hold one, however many ask at once.

Every function returns the case as it is afterwards, or None if it did not come to that.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from schemas.runtime.database.cases import Case, Verdict, as_case, is_free, is_held
from schemas.runtime.database.tables import cases

MOST_HELD: Final = 5
"""Cases that one person may hold: what is held is hidden from everyone else's queue."""


def claim(
    connection: Connection, case_id: int, person: str, now_ms: int, claim_ms: int
) -> Case | None:
    """Hold a case that is free or already held by this person; None if it is neither.

    Holding it already, the claim is renewed. None as well with MOST_HELD others in hand.
    """
    others = and_(is_held(now_ms, person), cases.c.case_id != case_id)
    held = select(func.count()).where(others).correlate(None).scalar_subquery()
    return _change(
        connection,
        (cases.c.case_id == case_id)
        & (is_free(now_ms) | is_held(now_ms, person))
        & (held < MOST_HELD),
        claimed_by=person,
        claimed_until=now_ms + claim_ms,
    )


def claim_next(connection: Connection, person: str, now_ms: int, claim_ms: int) -> Case | None:
    """Hold the most urgent free case; None if there is none, or with MOST_HELD in hand.

    On PostgreSQL a case that is being claimed by another at this moment is passed over, instead of
    waiting for it and then finding it taken.
    """
    most_urgent = (
        select(cases.c.case_id)
        .where(is_free(now_ms))
        .order_by(cases.c.urgency.desc(), cases.c.case_id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .correlate(None)
        .scalar_subquery()
    )
    held = select(func.count()).where(is_held(now_ms, person)).correlate(None).scalar_subquery()
    return _change(
        connection,
        (cases.c.case_id == most_urgent) & is_free(now_ms) & (held < MOST_HELD),
        claimed_by=person,
        claimed_until=now_ms + claim_ms,
    )


def renew(
    connection: Connection, case_id: int, person: str, now_ms: int, claim_ms: int
) -> Case | None:
    """Hold a case for longer; None if this person does not hold it any more."""
    return _change(
        connection,
        (cases.c.case_id == case_id) & is_held(now_ms, person),
        claimed_until=now_ms + claim_ms,
    )


def release(connection: Connection, case_id: int, person: str) -> Case | None:
    """Give an open case back; None if it is not this person's."""
    return _change(
        connection,
        (cases.c.case_id == case_id) & cases.c.verdict.is_(None) & (cases.c.claimed_by == person),
        claimed_by=None,
        claimed_until=None,
    )


def decide(
    connection: Connection, case_id: int, person: str, verdict: Verdict, note: str, now_ms: int
) -> Case | None:
    """Give the verdict on a case that this person claimed; None if it is another's or decided.

    A claim that ran out is good enough as long as nobody else has taken the case.
    """
    return _change(
        connection,
        (cases.c.case_id == case_id) & cases.c.verdict.is_(None) & (cases.c.claimed_by == person),
        verdict=verdict,
        note=note or None,
        decided_by=person,
        decided_at=now_ms,
    )


def undo(
    connection: Connection, case_id: int, person: str, now_ms: int, *, undo_ms: int, claim_ms: int
) -> Case | None:
    """Take one's own verdict back and hold the case again, with its note.

    None if too much time has passed, or the label is already on its way.
    """
    return _change(
        connection,
        (cases.c.case_id == case_id)
        & (cases.c.decided_by == person)
        & (cases.c.decided_at > now_ms - undo_ms)
        & cases.c.label_taken_at.is_(None),
        verdict=None,
        decided_by=None,
        decided_at=None,
        claimed_by=person,
        claimed_until=now_ms + claim_ms,
    )


def undoable(connection: Connection, person: str, now_ms: int, undo_ms: int) -> Case | None:
    """Return the newest case of which this person can take the verdict back."""
    question = (
        select(cases)
        .where(
            cases.c.decided_by == person,
            cases.c.decided_at > now_ms - undo_ms,
            cases.c.label_taken_at.is_(None),
        )
        .order_by(cases.c.decided_at.desc(), cases.c.case_id.desc())
        .limit(1)
    )
    row = connection.execute(question).first()
    return None if row is None else as_case(row)


def _change(connection: Connection, may: ColumnElement[bool], **values: Any) -> Case | None:
    row = connection.execute(update(cases).where(may).values(**values).returning(cases)).first()
    return None if row is None else as_case(row)
