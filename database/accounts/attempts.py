"""Failed log-ins by account and by IP address, and the lock that follows too many of them.

Accounts that do not exist are counted, too, so that a lock does not reveal which ones do. An
attempt counts as failed until the password has been verified, so that parallel attempts gain
nothing.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from sqlalchemy import Connection, case, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from database.core.inserts import storable
from database.core.tables import attempts

FREE: Final = {"account": 5, "address": 25}
"""Failures without a lock; a whole office may share an IP address."""
FIRST_WAIT_MS: Final = 30_000
MAX_WAIT_MS: Final = 15 * 60_000
FORGOTTEN_MS: Final = 24 * 3_600_000
"""All failures are forgotten after this time without a new one."""


def account(username: str) -> str:
    """Return the key that counts the failures of an account."""
    return f"account:{storable(username)}"


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


def begin(connection: Connection, key: str, *, now_ms: int) -> int:
    """Count an attempt as failed; return 0 if it may go on, else how many ms the key is locked.

    An attempt during a lock changes nothing.
    """
    connection.execute(delete(attempts).where(attempts.c.last_at <= now_ms - FORGOTTEN_MS))
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    locked = attempts.c.locked_until > now_ms
    counted = insert(attempts).values(key=key, failures=1, last_at=now_ms, locked_until=0)
    connection.execute(
        counted.on_conflict_do_update(
            index_elements=[attempts.c.key],
            set_={
                "failures": case((locked, attempts.c.failures), else_=attempts.c.failures + 1),
                "last_at": case((locked, attempts.c.last_at), else_=now_ms),
            },
        )
    )
    failures, locked_until = connection.execute(
        select(attempts.c.failures, attempts.c.locked_until).where(attempts.c.key == key)
    ).one()
    if locked_until > now_ms:
        return int(locked_until - now_ms)
    connection.execute(
        update(attempts)
        .where(attempts.c.key == key)
        .values(locked_until=now_ms + wait_ms(key, failures))
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


def locked(connection: Connection, *, now_ms: int) -> dict[str, int]:
    """Return the keys that are locked now, each with the end of its lock in ms."""
    rows = connection.execute(
        select(attempts.c.key, attempts.c.locked_until).where(attempts.c.locked_until > now_ms)
    )
    return {key: until for key, until in rows}
