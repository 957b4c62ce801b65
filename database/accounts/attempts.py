"""Failed log-ins by account, by known device and by IP address, and the lock after too many.

Wrong present passwords of people who are logged in are counted by themselves, so that nobody who
guesses at the log-in can keep a person from changing their password.

Accounts that do not exist are counted, too, so that a lock does not reveal which ones do. An
attempt counts as failed until the password has been verified, so that parallel attempts gain
nothing. An attempt that a lock refuses is counted nowhere.
"""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Final

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from database.core.tables import attempts

FREE: Final = {"account": 5, "device": 5, "password": 5, "address": 25}
"""Failures without a lock; a whole office may share an IP address."""
FIRST_WAIT_MS: Final = 30_000
MAX_WAIT_MS: Final = 15 * 60_000
FORGIVEN_EVERY_MS: Final = MAX_WAIT_MS
"""An address is forgiven one failure each time, so that the typos of an office never add up to a
lock. A guesser gains nothing: beyond the free failures the lock lets in no more than that."""
FORGOTTEN_MS: Final = 24 * 3_600_000
"""All failures are forgotten after this time without a new one."""


def account(username: str) -> str:
    """Return the key that counts the failures of an account, as a hash: it may be a password."""
    return f"account:{_hashed(username)}"


def present_password(username: str) -> str:
    """Return the key that counts the wrong present passwords of a person who is logged in."""
    return f"password:{_hashed(username)}"


def device(token: str) -> str:
    """Return the key that counts the failures on a known device."""
    return f"device:{_hashed(token)}"


def ip_address(client: str) -> str:
    """Return the key that counts the failures of a client's IP address.

    For IPv6 it is the /64 network, as one client usually has all of its addresses.
    """
    try:
        found = ipaddress.ip_address(client)
    except ValueError:
        return f"address:{client[:64]}"
    if found.version == 6:
        found = ipaddress.ip_network((found, 64), strict=False).network_address
    return f"address:{found}"


def wait(connection: Connection, *keys: str, now_ms: int) -> int:
    """Return how many ms the longest lock of the keys still lasts, or 0. Only reads."""
    until = connection.scalar(
        select(func.max(attempts.c.locked_until)).where(attempts.c.key.in_(keys))
    )
    return max((until or 0) - now_ms, 0)


def begin(connection: Connection, *keys: str, now_ms: int) -> int:
    """Count an attempt as failed under each key; return 0 if it may go on.

    If a key is locked, nothing is counted, and the result is how many ms the longest lock lasts.
    """
    delete_forgotten(connection, now_ms=now_ms)
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    for key in sorted(keys):  # in one order, so that two attempts never wait for each other
        new = insert(attempts).values(key=key, failures=0, last_at=now_ms, locked_until=0)
        same = {"key": attempts.c.key}  # changes nothing, and locks the row
        connection.execute(new.on_conflict_do_update(index_elements=[attempts.c.key], set_=same))
    rows = connection.execute(select(attempts).where(attempts.c.key.in_(keys))).all()
    locked_ms = max(row.locked_until for row in rows) - now_ms
    if locked_ms > 0:
        return int(locked_ms)
    for row in rows:
        failures, counted_at = _forgiven(row.key, row.failures, row.last_at, now_ms)
        connection.execute(
            update(attempts)
            .where(attempts.c.key == row.key)
            .values(
                failures=failures + 1,
                last_at=counted_at,
                locked_until=now_ms + wait_ms(row.key, failures + 1),
            )
        )
    return 0


def wait_ms(key: str, failures: int) -> int:
    """Return how long a key is locked after this many failures: each doubles the time."""
    beyond = failures - FREE[key.partition(":")[0]]
    return 0 if beyond < 0 else min(FIRST_WAIT_MS << min(beyond, 16), MAX_WAIT_MS)


def uncount(connection: Connection, key: str) -> None:
    """Uncount an attempt that turned out not to be a guess, and unlock its key."""
    connection.execute(
        update(attempts)
        .where(attempts.c.key == key, attempts.c.failures > 0)
        .values(failures=attempts.c.failures - 1, locked_until=0)
    )


def forget(connection: Connection, key: str) -> None:
    """Forget the failures of a key and unlock it."""
    connection.execute(delete(attempts).where(attempts.c.key == key))


def delete_forgotten(connection: Connection, *, now_ms: int) -> int:
    """Delete the failures that no longer count; return of how many keys they were."""
    old = attempts.c.last_at <= now_ms - FORGOTTEN_MS
    return connection.execute(delete(attempts).where(old)).rowcount


def locked(connection: Connection, *, now_ms: int) -> dict[str, int]:
    """Return the keys that are locked now, each with the end of its lock in ms."""
    rows = connection.execute(
        select(attempts.c.key, attempts.c.locked_until).where(attempts.c.locked_until > now_ms)
    )
    return {key: until for key, until in rows}


def _forgiven(key: str, failures: int, last_at: int, now_ms: int) -> tuple[int, int]:
    """Return the failures that still count, and the time from which the next one is forgiven."""
    if not key.startswith("address:"):
        return failures, now_ms
    times = (now_ms - last_at) // FORGIVEN_EVERY_MS
    if failures <= times:
        return 0, now_ms
    return failures - times, last_at + times * FORGIVEN_EVERY_MS


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]
