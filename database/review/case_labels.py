"""The outbox of labels: verdicts that are waiting to be published.

A sender leases a label when the time to undo its verdict is over. From then on the verdict is
final, so the clocks of several dashboards need not agree. A label counts as sent once Kafka has
acknowledged it. If a sender dies in between, its label is leased again after LEASE_MS, and the same
label may then be published twice, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, func, or_, select, update

from database.core.tables import cases
from schemas.records import Label

LEASE_MS: Final = 10_000


def lease_labels(
    connection: Connection, now_ms: int, undo_ms: int, limit: int = 500
) -> dict[int, Label]:
    """Lease due labels, oldest first, and return them by case id.

    Nobody else can lease them for LEASE_MS, and their verdicts cannot be undone any more.
    """
    untaken = or_(cases.c.label_taken_at.is_(None), cases.c.label_taken_at <= now_ms - LEASE_MS)
    due = (
        select(cases.c.case_id)
        .where(
            cases.c.verdict.is_not(None),
            cases.c.label_sent_at.is_(None),
            cases.c.decided_at <= now_ms - undo_ms,
            untaken,
        )
        .order_by(cases.c.decided_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    taken = connection.execute(
        update(cases)
        .where(cases.c.case_id.in_(due), untaken)
        .values(label_taken_at=now_ms)
        .returning(cases)
    )
    ordered = sorted(taken, key=lambda row: (row.decided_at, row.case_id))
    return {
        row.case_id: {
            "transaction_id": row.transaction_id,
            "card_id": row.card_id,
            "label": row.verdict,
            "source": "ANALYST",
            "transaction_time": row.event_time,
            "label_time": row.decided_at,
        }
        for row in ordered
    }


def labels_sent(connection: Connection, sent: Mapping[int, Label], now_ms: int) -> None:
    """Mark labels as acknowledged, so that they are never leased again."""
    connection.execute(
        update(cases)
        .where(cases.c.case_id.in_(list(sent)), cases.c.label_sent_at.is_(None))
        .values(label_sent_at=now_ms)
    )


def unsent_labels(connection: Connection) -> int:
    """Return the number of verdicts whose label has not been sent, due or not."""
    unsent = cases.c.verdict.is_not(None) & cases.c.label_sent_at.is_(None)
    return connection.execute(select(func.count()).where(unsent)).scalar_one()
