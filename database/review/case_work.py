"""Work on a case: claim, release, decide, undo and settle. Every step is audited.

Each step is one conditional UPDATE, so that two people never hold the same case. The functions need
a transaction of `Database.begin` and return the changed case, or None if the step was not allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, func, select, tuple_, update

from database.accounts import audit
from database.accounts.audit import Action
from database.core.inserts import storable
from database.core.tables import cases
from database.review.cases import SETTLED_BY, Case, Verdict, as_case, is_free, is_held, read_case
from schemas.records import Label

MAX_HELD: Final = 5
"""Cases that one person may hold, as these are hidden from everyone else's queue."""
_KEYS_AT_ONCE: Final = 500


def claim(
    connection: Connection, case_id: int, person: str, now_ms: int, claim_ms: int
) -> Case | None:
    """Claim a free case, or extend the claim if this person already holds it.

    Returns None if somebody else holds it, it is decided, or the person holds MAX_HELD others.
    """
    others = and_(is_held(now_ms, person), cases.c.case_id != case_id)
    held = select(func.count()).where(others).correlate(None).scalar_subquery()
    before = read_case(connection, case_id, lock=True)
    after = _change(
        connection,
        case_id,
        (is_free(now_ms) | is_held(now_ms, person)) & (held < MAX_HELD),
        claimed_by=person,
        claimed_until=now_ms + claim_ms,
    )
    if before is not None and before.holder(now_ms) != person:
        _record(connection, person, "case claimed", before, after, now_ms)
    return after


def claim_next(
    connection: Connection, person: str, now_ms: int, claim_ms: int, leave: int = 0
) -> Case | None:
    """Claim the most urgent free case; if that fails, extend the claim on one already held.

    Returns None if there is no case but `leave`, the one that the person is looking at. On
    PostgreSQL, a case that somebody else is claiming at this moment is skipped.
    """
    most_urgent = (
        select(cases.c.case_id)
        .where(is_free(now_ms), cases.c.case_id != leave)
        .order_by(cases.c.urgency.desc(), cases.c.case_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    found = connection.scalar(most_urgent)
    claimed = claim(connection, found, person, now_ms, claim_ms) if found is not None else None
    return claimed or claim_held(connection, person, now_ms, claim_ms, leave)


def claim_held(
    connection: Connection, person: str, now_ms: int, claim_ms: int, leave: int = 0
) -> Case | None:
    """Extend the claim on the person's next case after `leave`, in the order of the queue."""
    question = (
        select(cases.c.case_id)
        .where(is_held(now_ms, person))
        .order_by(cases.c.urgency.desc(), cases.c.case_id)
    )
    held = list(connection.scalars(question))
    place = held.index(leave) + 1 if leave in held else 0
    others = [number for number in held[place:] + held[:place] if number != leave]
    return claim(connection, others[0], person, now_ms, claim_ms) if others else None


def renew(
    connection: Connection, case_id: int, person: str, now_ms: int, claim_ms: int
) -> Case | None:
    """Extend a claim; None if this person does not hold the case any more."""
    return _change(connection, case_id, is_held(now_ms, person), claimed_until=now_ms + claim_ms)


def release(connection: Connection, case_id: int, person: str, now_ms: int) -> Case | None:
    """Give a case back to the queue; None if this person did not claim it, or it is decided."""
    before = read_case(connection, case_id, lock=True)
    after = _change(
        connection, case_id, _is_claimed_by(person), claimed_by=None, claimed_until=None
    )
    _record(connection, person, "case released", before, after, now_ms)
    return after


def decide(
    connection: Connection, case_id: int, person: str, verdict: Verdict, note: str, now_ms: int
) -> Case | None:
    """Record the verdict on a case that this person claimed.

    Returns None if somebody else claimed it or it is decided. An expired claim is good enough as
    long as nobody else has claimed the case.
    """
    before = read_case(connection, case_id, lock=True)
    after = _change(
        connection,
        case_id,
        _is_claimed_by(person),
        verdict=verdict,
        note=note or None,
        decided_by=person,
        decided_at=now_ms,
    )
    _record(connection, person, "verdict", before, after, now_ms)
    return after


def undo(
    connection: Connection, case_id: int, person: str, now_ms: int, *, undo_ms: int, claim_ms: int
) -> Case | None:
    """Undo one's own verdict and claim the case again; the note is kept.

    Returns None if `undo_ms` have passed or the label has been leased for sending.
    """
    before = read_case(connection, case_id, lock=True)
    after = _change(
        connection,
        case_id,
        _is_undoable(person, now_ms, undo_ms),
        verdict=None,
        decided_by=None,
        decided_at=None,
        claimed_by=person,
        claimed_until=now_ms + claim_ms,
    )
    _record(connection, person, "verdict undone", before, after, now_ms)
    return after


def settle(connection: Connection, labels: Sequence[Label], now_ms: int) -> int:
    """Close the cases of transactions that were charged back; return how many.

    This closes open cases, no matter who holds them, and replaces verdicts whose label has not been
    leased for sending. No label is sent for such a case, as the chargeback is one itself, and
    nobody can undo it. Labels of other sources change nothing.
    """
    known = {
        (storable(label["transaction_id"]), storable(label["card_id"])): label["label"]
        for label in labels
        if label.get("source") == SETTLED_BY
    }
    keys, settled, unsent = list(known), 0, cases.c.label_taken_at.is_(None)
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        wanted = tuple_(cases.c.transaction_id, cases.c.card_id).in_(
            keys[start : start + _KEYS_AT_ONCE]
        )
        question = select(cases).where(wanted, unsent).order_by(cases.c.case_id).with_for_update()
        for before in map(as_case, connection.execute(question).all()):
            after = _change(
                connection,
                before.case_id,
                unsent,
                verdict=known[before.transaction_id, before.card_id],
                decided_by=SETTLED_BY,
                decided_at=now_ms,
                claimed_by=None,
                claimed_until=None,
                label_taken_at=now_ms,
                label_sent_at=now_ms,
            )
            _record(connection, SETTLED_BY, "case settled", before, after, now_ms)
            settled += 1
    return settled


def undoable(connection: Connection, person: str, now_ms: int, undo_ms: int) -> Case | None:
    """Return the case with the newest verdict that this person can undo, or None."""
    question = (
        select(cases)
        .where(_is_undoable(person, now_ms, undo_ms))
        .order_by(cases.c.decided_at.desc(), cases.c.case_id.desc())
        .limit(1)
    )
    row = connection.execute(question).first()
    return None if row is None else as_case(row)


def _is_claimed_by(person: str) -> ColumnElement[bool]:
    """Return the condition that a case is open and this person was the last to claim it."""
    return and_(cases.c.verdict.is_(None), cases.c.claimed_by == person)


def _is_undoable(person: str, now_ms: int, undo_ms: int) -> ColumnElement[bool]:
    return and_(
        cases.c.decided_by == person,
        cases.c.decided_at > now_ms - undo_ms,
        cases.c.label_taken_at.is_(None),
    )


def _change(
    connection: Connection, case_id: int, may: ColumnElement[bool], **values: Any
) -> Case | None:
    statement = update(cases).where(cases.c.case_id == case_id, may).values(**values)
    row = connection.execute(statement.returning(cases)).first()
    return None if row is None else as_case(row)


def _record(
    connection: Connection,
    person: str,
    action: Action,
    before: Case | None,
    after: Case | None,
    now_ms: int,
) -> None:
    if before is None or after is None:
        return
    audit.record(
        connection,
        who=person,
        action=action,
        subject=before.transaction_id,
        before=_audited(before),
        after=_audited(after),
        now_ms=now_ms,
    )


def _audited(case: Case) -> dict[str, Any]:
    """Return the state of a case for the audit; its note is left out, which goes with the case."""
    return {
        "case": case.case_id,
        "claimed_by": case.claimed_by,
        "verdict": case.verdict,
        "note": None if case.note is None else f"{len(case.note)} characters",
    }
