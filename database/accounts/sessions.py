"""Log-in sessions: the cookie holds a random token, the database only the token's SHA-256."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from database.accounts.roles import Role
from database.core.tables import people, sessions

TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Session:
    """A valid session. Every request that changes something must carry `csrf`.

    `must_change` is set if the password is a one-time one; `expires_at` is in ms.
    """

    username: str
    role: Role
    must_change: bool
    csrf: str
    expires_at: int


def open_session(connection: Connection, username: str, *, now_ms: int, lasts_ms: int) -> str:
    """Start a session and return its token of 256 random bits; also delete expired sessions."""
    delete_expired(connection, now_ms=now_ms)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    connection.execute(
        insert(sessions).values(
            token_hash=_hash(token),
            username=username,
            csrf=secrets.token_urlsafe(TOKEN_BYTES),
            created_at=now_ms,
            expires_at=now_ms + lasts_ms,
        )
    )
    return token


def find(connection: Connection, token: str, *, now_ms: int) -> Session | None:
    """Return the session of a token, with the person's present role.

    Returns None if the token is unknown, ended or expired, or the person is disabled.
    """
    row = (
        connection.execute(
            select(
                people.c.username,
                people.c.role,
                people.c.one_time_until.is_not(None).label("must_change"),
                sessions.c.csrf,
                sessions.c.expires_at,
            )
            .join_from(sessions, people, sessions.c.username == people.c.username)
            .where(
                sessions.c.token_hash == _hash(token),
                sessions.c.expires_at > now_ms,
                people.c.disabled.is_(False),
            )
        )
        .mappings()
        .first()
    )
    return None if row is None else Session(**row)


def end(connection: Connection, token: str) -> None:
    """End one session; its token is invalid from now on."""
    connection.execute(delete(sessions).where(sessions.c.token_hash == _hash(token)))


def end_all(connection: Connection, username: str) -> None:
    """End every session of a person."""
    connection.execute(delete(sessions).where(sessions.c.username == username))


def delete_expired(connection: Connection, *, now_ms: int) -> int:
    """Delete the sessions that have expired; return how many."""
    return connection.execute(delete(sessions).where(sessions.c.expires_at <= now_ms)).rowcount


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
