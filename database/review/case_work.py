"""What an analyst does with a case: claim, release, decide, undo; each step is audited. Each is one
UPDATE that changes the case only if it may, so two people never hold it, however many ask at once.

Every function returns the case as it is afterwards, or None if it did not come to that. They need a
transaction of `Database.begin`. `settle` is the store's: a chargeback leaves nothing to decide.
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
"""Cases that one person may hold: what is held is hidden from everyone else's queue."""
_KEYS_AT_ONCE: Final = 500


def claim(
    connection: Connection, case_id: int, person: str, now_ms: int, claim_ms: int
) -> Case | None:
    """Hold a case that is free, or for longer if this person holds it already.

    None if it is another's or decided, or if the person holds MAX_HELD others.
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
    """Hold the most urgent free case; without one, or with MAX_HELD in hand, one that is held.

    None if there is none of these but `leave`, the case that the person looks at. On PostgreSQL a
    case that another one is claiming at this moment is passed over instead of waited for.
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
    """Hold for longer the next case after `leave`, in their order, of those that a person holds."""
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
    """Hold a case for longer; None if this person does not hold it any more."""
    return _change(connection, case_id, is_held(now_ms, person), claimed_until=now_ms + claim_ms)


def release(connection: Connection, case_id: int, person: str, now_ms: int) -> Case | None:
    """Give a case back; None if it is not this person's, or decided."""
    before = read_case(connection, case_id, lock=True)
    after = _change(
        connection, case_id, _is_claimed_by(person), claimed_by=None, claimed_until=None
    )
    _record(connection, person, "case released", before, after, now_ms)
    return after


def decide(
    connection: Connection, case_id: int, person: str, verdict: Verdict, note: str, now_ms: int
) -> Case | None:
    """Give the verdict on a case that this person claimed; None if it is another's or decided.

    A claim that ran out is good enough as long as nobody else has taken the case.
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
    """Take one's own verdict back and hold the case again, with its note.

    None if too much time has passed, or the label is already on its way.
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

    An open case, whoever holds it, or one whose verdict is not yet on its way as a label: that one
    is replaced and never sent. Nothing is sent for the case, whose label is on its topic already,
    and nobody can undo it. Labels of another source change nothing.
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
                note=None,  # the audit has an analyst's
                claimed_by=None,
                claimed_until=None,
                label_taken_at=now_ms,
                label_sent_at=now_ms,
            )
            _record(connection, SETTLED_BY, "case settled", before, after, now_ms)
            settled += 1
    return settled


def undoable(connection: Connection, person: str, now_ms: int, undo_ms: int) -> Case | None:
    """Return the newest case of which this person can take the verdict back."""
    question = (
        select(cases)
        .where(_is_undoable(person, now_ms, undo_ms))
        .order_by(cases.c.decided_at.desc(), cases.c.case_id.desc())
        .limit(1)
    )
    row = connection.execute(question).first()
    return None if row is None else as_case(row)


def _is_claimed_by(person: str) -> ColumnElement[bool]:
    """Whether a case is open and nobody claimed it after this person did."""
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
    return {
        "case": case.case_id,
        "claimed_by": case.claimed_by,
        "verdict": case.verdict,
        "note": case.note,
    }
