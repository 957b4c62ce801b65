"""Every published policy, by version.

The topic keeps only the newest policy, but stored decisions refer to the versions of their time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

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
        select(policies)
        .where(policies.c.version == storable(version))
        .order_by(policies.c.published_at.desc())
    ).mappings()
    return [StoredPolicy(**row) for row in rows]
