"""Every policy that was published, by version. Written by the store, read by the dashboard.

The topic keeps the newest only; a decision names its version for as long as it is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from database.core.inserts import Inserted, Row, insert_once, storable
from database.core.tables import policies


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A document as it was published; `published_at` in ms."""

    version: str
    published_at: int
    document: str
    actor: str


def add_policies(connection: Connection, rows: Sequence[Row]) -> Inserted:
    """Add rows of `tables.policies`; what is there stays."""
    return insert_once(connection, policies, rows)


def of_version(connection: Connection, version: str) -> list[StoredPolicy]:
    """Return what was published as this version, newest first: nothing forbids to do so twice."""
    rows = connection.execute(
        select(policies)
        .where(policies.c.version == storable(version))
        .order_by(policies.c.published_at.desc())
    ).mappings()
    return [StoredPolicy(**row) for row in rows]
