"""Known devices: browsers from which a person has logged in, each recognised by a cookie.

Failures on a known device are counted by themselves. So nobody who guesses elsewhere can keep a
person out of the browser that they use every day. The database stores only the token's SHA-256.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from database.core.inserts import storable
from database.core.tables import devices

TOKEN_BYTES: Final = 32
LASTS_MS: Final = 90 * 86_400_000
"""How long a device is known after the last log-in on it."""


def remember(connection: Connection, username: str, *, now_ms: int, replaces: str | None) -> str:
    """Make a device known after a log-in; return its new token, which ends the one before."""
    delete_expired(connection, now_ms=now_ms)
    if replaces is not None:
        connection.execute(delete(devices).where(devices.c.token_hash == _hash(replaces)))
    token = secrets.token_urlsafe(TOKEN_BYTES)
    connection.execute(
        insert(devices).values(
            token_hash=_hash(token), username=username, expires_at=now_ms + LASTS_MS
        )
    )
    return token


def is_known(connection: Connection, token: str, username: str, *, now_ms: int) -> bool:
    """Return whether the token belongs to a device on which this person has logged in."""
    return (
        connection.scalar(
            select(devices.c.username).where(
                devices.c.token_hash == _hash(token),
                devices.c.username == storable(username),
                devices.c.expires_at > now_ms,
            )
        )
        is not None
    )


def forget_all(connection: Connection, username: str) -> None:
    """Make every device of a person unknown."""
    connection.execute(delete(devices).where(devices.c.username == username))


def delete_expired(connection: Connection, *, now_ms: int) -> int:
    """Delete the devices that are no longer known; return how many."""
    return connection.execute(delete(devices).where(devices.c.expires_at <= now_ms)).rowcount


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
