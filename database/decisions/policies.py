"""Every published policy, by version, for as long as a stored decision may refer to it.

The topic keeps only the newest policy, but stored decisions refer to the versions of their time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, or_, select, update

from database.core.inserts import Inserted, Row, insert_once, storable
from database.core.tables import policies


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A published document; `published_at` is in ms."""

    version: str
    published_at: int
    document: str
    actor: str


def add_policies(connection: Connection, rows: Sequence[Row]) -> Inserted:
    """Add rows of `tables.policies`; existing rows stay."""
    return insert_once(connection, policies, rows)


def of_version(connection: Connection, version: str) -> list[StoredPolicy]:
    """Return the policies of a version, newest first: a version may be published several times."""
    rows = connection.execute(
        select(policies.c.version, policies.c.published_at, policies.c.document, policies.c.actor)
        .where(policies.c.version == storable(version))
        .order_by(policies.c.published_at.desc())
    ).mappings()
    return [StoredPolicy(**row) for row in rows]


def mark_used(connection: Connection, version: str, at_ms: int) -> None:
    """Note that a decision was made under a version at `at_ms`; earlier times change nothing."""
    connection.execute(
        update(policies)
        .where(
            policies.c.version == storable(version),
            or_(policies.c.used_at.is_(None), policies.c.used_at < at_ms),
        )
        .values(used_at=at_ms)
    )


def delete_unused(connection: Connection, before_ms: int) -> int:
    """Delete the policies under which nothing was decided since `before_ms`; return how many.

    A policy published later than that is kept, and so is the newest, which is still in force.
    """
    newest = select(func.max(policies.c.published_at)).scalar_subquery()
    last_use = func.coalesce(policies.c.used_at, policies.c.published_at)
    return connection.execute(
        delete(policies).where(
            last_use < before_ms,
            policies.c.published_at < before_ms,
            policies.c.published_at < newest,
        )
    ).rowcount
