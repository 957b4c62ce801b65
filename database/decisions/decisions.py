"""Stored decisions, and the vectors they were made from.

A transaction_id is unique only on its card. The first decision on a transaction stays; later ones
are ignored. Columns hold the fields that are searched, records the original messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from sqlalchemy import Column, Connection, RowMapping, Table, and_, delete, select, tuple_

from database.core.inserts import Inserted, Row, insert_once, storable
from database.core.tables import decisions, vectors
from schemas.codec import avro
from schemas.records import Decision, FeatureVector

Key = tuple[str, str]
"""transaction_id, card_id."""
_KEYS_AT_ONCE: Final = 400
"""SQLite limits the number of values in a statement."""


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A decision, and its vector if that is stored."""

    decision: Decision
    vector: FeatureVector | None


def add_decisions(connection: Connection, rows: Sequence[Row]) -> Inserted:
    """Add rows of `tables.decisions`; transactions that have a decision are left as they are."""
    return insert_once(connection, decisions, rows)


def add_vectors(connection: Connection, rows: Sequence[Row]) -> Inserted:
    """Add rows of `tables.vectors`, before or after their decisions; existing ones stay."""
    return insert_once(connection, vectors, rows)


def answers(connection: Connection, keys: Sequence[Key]) -> dict[Key, str]:
    """Return the stored answer (APPROVE, REVIEW or BLOCK) of those `keys` that have a decision."""
    found: dict[Key, str] = {}
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        rows = connection.execute(
            select(decisions.c.transaction_id, decisions.c.card_id, decisions.c.decision).where(
                tuple_(decisions.c.transaction_id, decisions.c.card_id).in_(
                    keys[start : start + _KEYS_AT_ONCE]
                )
            )
        )
        found.update({(transaction, card): answer for transaction, card, answer in rows})
    return found


def find(
    connection: Connection,
    transaction_id: str,
    card_id: str | None = None,
    limit: int | None = None,
) -> list[StoredDecision]:
    """Return the decisions on a transaction_id, on one card or on all cards, the newest first.

    Returns at most `limit`.
    """
    chosen = decisions.c.transaction_id == storable(transaction_id)
    if card_id is not None:
        chosen &= decisions.c.card_id == storable(card_id)
    same = and_(
        vectors.c.transaction_id == decisions.c.transaction_id,
        vectors.c.card_id == decisions.c.card_id,
    )
    rows = connection.execute(
        select(decisions.c.record, vectors.c.record.label("vector"))
        .select_from(decisions.outerjoin(vectors, same))
        .where(chosen)
        .order_by(decisions.c.decided_at.desc())
        .limit(limit)
    ).mappings()
    return [StoredDecision(_decision(row), _vector(row)) for row in rows]


def history(
    connection: Connection, card_id: str, limit: int, before_ms: int | None = None
) -> list[Decision]:
    """Return a card's decisions by event time, newest first; with `before_ms`, only older ones."""
    chosen = decisions.c.card_id == storable(card_id)
    if before_ms is not None:
        chosen &= decisions.c.event_time < before_ms
    rows = connection.execute(
        select(decisions.c.record)
        .where(chosen)
        .order_by(decisions.c.event_time.desc(), decisions.c.decided_at.desc())
        .limit(limit)
    ).mappings()
    return [_decision(row) for row in rows]


def newest(connection: Connection) -> Decision | None:
    """Return the newest decision, or None if there is none."""
    rows = connection.execute(
        select(decisions.c.record).order_by(decisions.c.decided_at.desc()).limit(1)
    ).mappings()
    return next(map(_decision, rows), None)


def delete_older(connection: Connection, before_ms: int, limit: int) -> dict[str, int]:
    """Delete decisions and vectors that were made before `before_ms`, the oldest first.

    Deletes at most `limit` rows of each table; returns the numbers by table.
    """
    return {
        "decisions": _delete(connection, decisions, decisions.c.decided_at, before_ms, limit),
        "vectors": _delete(connection, vectors, vectors.c.computed_at, before_ms, limit),
    }


def _delete(
    connection: Connection, table: Table, age: Column[int], before_ms: int, limit: int
) -> int:
    key = (table.c.transaction_id, table.c.card_id)
    oldest = select(*key).where(age < before_ms).order_by(age).limit(limit)
    return connection.execute(delete(table).where(tuple_(*key).in_(oldest))).rowcount


def _decision(row: RowMapping) -> Decision:
    return cast(Decision, avro.decode(row["record"])[1])


def _vector(row: RowMapping) -> FeatureVector | None:
    return None if row["vector"] is None else cast(FeatureVector, avro.decode(row["vector"])[1])
