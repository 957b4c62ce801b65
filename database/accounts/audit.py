"""The audit log: who changed what and when, with the values before and after. It is append-only:
an entry can be deleted when it is a year old, and not be changed at all.

Every change by a person is recorded in the same transaction as the change itself.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from sqlalchemy import Connection, delete, insert, select

from database.core.inserts import storable
from database.core.tables import audit

Action = Literal[
    "log-in",
    "log-in failed",
    "log-in locked",
    "log-out",
    "person added",
    "role changed",
    "password changed",
    "password change failed",
    "password reset",
    "person disabled",
    "person enabled",
    "person unlocked",
    "model promoted",
    "model canary",
    "model shadow",
    "model rolled back",
    "model retired",
    "case claimed",
    "case released",
    "verdict",
    "verdict undone",
    "case settled",
    "key created",
    "key revoked",
    "dead letter sent again",
]
"""A closed list: new kinds of actions must be added here."""
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
PAGE: Final = 50
"""Entries per page."""
_KEY: Final = secrets.token_bytes(32)
_SUBJECTS_AT_ONCE: Final = 400
"""SQLite limits the number of values in a statement."""
MAX_NAME_LENGTH: Final = 128
"""Characters of `who` and `subject` that are kept: a failed log-in may contain any text."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of the audit log; `at` is in ms, `before` and `after` are JSON or None."""

    entry_id: int
    at: int
    who: str
    action: str
    subject: str
    before: str | None
    after: str | None


def record(
    connection: Connection,
    *,
    who: str,
    action: Action,
    subject: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    now_ms: int,
) -> None:
    """Add an entry; it becomes permanent when the caller's transaction is committed.

    Args:
        who: the person; for the command line `command line: NAME` with the operating system's
            user name.
        subject: the username, model_id, transaction_id or key_id that was changed.
    """
    connection.execute(
        insert(audit).values(
            at=now_ms,
            who=storable(who[:MAX_NAME_LENGTH]),
            action=action,
            subject=storable(subject[:MAX_NAME_LENGTH]),
            before=_json(before),
            after=_json(after),
        )
    )


def entries(
    connection: Connection,
    *,
    who: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    older_than: int | None = None,
    limit: int = PAGE,
) -> Sequence[AuditEntry]:
    """Return one page of the matching entries, newest first.

    `older_than` is the last entry_id of the previous page.
    """
    query = select(audit).order_by(audit.c.entry_id.desc()).limit(limit)
    for column, wanted in (
        (audit.c.who, who),
        (audit.c.action, action),
        (audit.c.subject, subject),
    ):
        if wanted:
            query = query.where(column == storable(wanted))
    if older_than is not None:
        query = query.where(audit.c.entry_id < older_than)
    return [AuditEntry(**row) for row in connection.execute(query).mappings()]


def unknown_name(text: str) -> str:
    """Return what the audit says in place of a name that nobody has: a hash of it.

    Somebody who types a password into the wrong field must not find it here. The key of the hash
    lives as long as the process, so that nobody can try passwords against it; within that time the
    same text gives the same hash. No username contains a blank.
    """
    digest = hashlib.blake2b(text.encode(errors="replace"), key=_KEY, digest_size=8)
    return f"unknown name {digest.hexdigest()}"


def last_of(
    connection: Connection, action: Action, subjects: Sequence[str]
) -> dict[str, AuditEntry]:
    """Return the newest entry of an action about each of the subjects; others are missing."""
    found: dict[str, AuditEntry] = {}
    for start in range(0, len(subjects), _SUBJECTS_AT_ONCE):
        some = subjects[start : start + _SUBJECTS_AT_ONCE]
        query = (
            select(audit)
            .where(audit.c.subject.in_(some), audit.c.action == action)
            .order_by(audit.c.entry_id)
        )
        entries = (AuditEntry(**row) for row in connection.execute(query).mappings())
        found.update({entry.subject: entry for entry in entries})
    return found


def delete_older(connection: Connection, before_ms: int, limit: int) -> int:
    """Delete those of the `limit` oldest entries that were made before `before_ms`.

    The database refuses to delete an entry that is not yet a year old. Returns how many went.
    """
    oldest = select(audit.c.entry_id, audit.c.at).order_by(audit.c.entry_id).limit(limit).subquery()
    expired = select(oldest.c.entry_id).where(oldest.c.at < before_ms)
    return connection.execute(delete(audit).where(audit.c.entry_id.in_(expired))).rowcount


def _json(values: Mapping[str, Any] | None) -> str | None:
    return None if values is None else json.dumps(values, sort_keys=True)
