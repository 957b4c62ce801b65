"""People, their roles and passwords. Every change is audited and ends the person's sessions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from database.accounts import attempts, audit, devices, passwords, sessions
from database.accounts.roles import ROLES, Role
from database.core.inserts import storable
from database.core.tables import people
from schemas.errors import ConfigurationError

ONE_TIME_MS: Final = 3 * 86_400_000
"""How long a one-time password can be exchanged for a permanent one."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
AUTOMATION: Final = frozenset({"bench", "chargeback", "loadtest", "monitor", "online", "trainer"})
"""Names under which the automation acts on models and cases; no person can have one of them."""


@dataclass(frozen=True, slots=True)
class Account:
    """One person; times are in ms. If `one_time_until` is set, the password is a one-time one."""

    username: str
    role: Role
    disabled: bool
    created_at: int
    one_time_until: int | None


@dataclass(frozen=True, slots=True)
class StoredPassword:
    """The stored hash of a password; a one-time password expires at `one_time_until` (ms)."""

    hashed: str
    one_time_until: int | None

    def expired(self, now_ms: int) -> bool:
        """Return whether this is a one-time password that has expired."""
        return self.one_time_until is not None and now_ms >= self.one_time_until


def add(
    connection: Connection, username: str, role: str, one_time: str, *, by: str, now_ms: int
) -> None:
    """Add a person. `one_time` is the hash of a one-time password, valid for ONE_TIME_MS.

    Raises:
        ConfigurationError: the username or role is invalid, or the username is taken.
    """
    if not _NAME.fullmatch(username):
        raise ConfigurationError(
            f"{username!r} is not a username: use 1 to 64 lower-case letters, digits and . _ @ -, "
            "beginning with a letter or digit"
        )
    if username in AUTOMATION:
        raise ConfigurationError(
            f"{username} is the name of a part of the system, and its steps must not be taken for "
            "those of a person: choose another username"
        )
    checked = _role(role)
    if get(connection, username) is not None:
        raise ConfigurationError(f"{username} already exists")
    connection.execute(
        insert(people).values(
            username=username,
            role=checked,
            password_hash=one_time,
            disabled=False,
            created_at=now_ms,
            one_time_until=now_ms + ONE_TIME_MS,
        )
    )
    audit.record(
        connection,
        who=by,
        action="person added",
        subject=username,
        after={"role": checked},
        now_ms=now_ms,
    )


def get(connection: Connection, username: str) -> Account | None:
    """Return a person, or None if the username is unknown."""
    named = _accounts().where(people.c.username == storable(username))
    row = connection.execute(named).mappings().first()
    return None if row is None else Account(**row)


def accounts(connection: Connection) -> Sequence[Account]:
    """Return all people, ordered by username."""
    rows = connection.execute(_accounts().order_by(people.c.username)).mappings()
    return [Account(**row) for row in rows]


def state(account: Account, locked: Mapping[str, int], now_ms: int) -> str:
    """Return the state of an account in words; `locked` comes from `attempts.locked`."""
    if account.disabled:
        return "disabled"
    if attempts.account(account.username) in locked:
        return "locked"
    if account.one_time_until is None:
        return "active"
    return "one-time password" if now_ms < account.one_time_until else "password expired"


def stored_password(
    connection: Connection, username: str, *, lock: bool = False
) -> StoredPassword | None:
    """Return the stored password; None if the person is unknown or disabled.

    With `lock`, nobody else can change the person until the transaction ends.
    """
    query = select(people.c.password_hash, people.c.one_time_until).where(
        people.c.username == storable(username), people.c.disabled.is_(False)
    )
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else StoredPassword(*row)


def set_role(connection: Connection, username: str, role: str, *, by: str, now_ms: int) -> None:
    """Give a person another role.

    Raises:
        ConfigurationError: the person or role does not exist, or this is the last admin.
    """
    account, checked = _existing(connection, username), _role(role)
    if account.role == checked:
        return
    if checked != "admin":
        _keep_an_admin(connection, account)
    _change(connection, username, {"role": checked})
    audit.record(
        connection,
        who=by,
        action="role changed",
        subject=username,
        before={"role": account.role},
        after={"role": checked},
        now_ms=now_ms,
    )


def reset_password(
    connection: Connection, username: str, one_time: str, *, by: str, now_ms: int
) -> None:
    """Give a person a new one-time password with the hash `one_time`, and unlock the account.

    All of the person's devices become unknown.

    Raises:
        ConfigurationError: the person does not exist.
    """
    _existing(connection, username)
    until = now_ms + ONE_TIME_MS
    _change(connection, username, {"password_hash": one_time, "one_time_until": until})
    _forget_failures(connection, username)
    devices.forget_all(connection, username)
    audit.record(connection, who=by, action="password reset", subject=username, now_ms=now_ms)


def check_new_password(username: str, old: str, new: str) -> None:
    """Check a password that a person has chosen.

    Raises:
        ConfigurationError: it is the old one, or breaks a rule; the text says which.
    """
    if old == new:
        raise ConfigurationError("the new password is the same as the present one")
    passwords.check(new, username)


def change_password(
    connection: Connection, username: str, hashed: str, *, replaces: str, now_ms: int
) -> bool:
    """Store the hash of a chosen password in place of `replaces`, the one that was verified.

    Returns False, and changes nothing, if that is no longer the stored hash, because an admin has
    reset the password meanwhile, or if the person is disabled.
    """
    changed = connection.execute(
        update(people)
        .where(
            people.c.username == username,
            people.c.password_hash == replaces,
            people.c.disabled.is_(False),
        )
        .values(password_hash=hashed, one_time_until=None)
    ).rowcount
    if not changed:
        return False
    sessions.end_all(connection, username)
    audit.record(
        connection, who=username, action="password changed", subject=username, now_ms=now_ms
    )
    return True


def renew_hash(connection: Connection, username: str, hashed: str, *, replaces: str) -> None:
    """Replace the hash of an unchanged password by one with today's parameters.

    Sessions stay open. Nothing happens if the hash is no longer `replaces`.
    """
    connection.execute(
        update(people)
        .where(people.c.username == username, people.c.password_hash == replaces)
        .values(password_hash=hashed)
    )


def set_disabled(
    connection: Connection, username: str, disabled: bool, *, by: str, now_ms: int
) -> None:
    """Disable a person, who then cannot log in, or enable one again.

    Raises:
        ConfigurationError: the person does not exist, or is the last admin.
    """
    account = _existing(connection, username)
    if account.disabled == disabled:
        return
    if disabled:
        _keep_an_admin(connection, account)
        devices.forget_all(connection, username)
    _change(connection, username, {"disabled": disabled})
    audit.record(
        connection,
        who=by,
        action="person disabled" if disabled else "person enabled",
        subject=username,
        before={"disabled": account.disabled},
        after={"disabled": disabled},
        now_ms=now_ms,
    )


def unlock(connection: Connection, username: str, *, by: str, now_ms: int) -> None:
    """Unlock a person who was locked out after wrong passwords.

    Raises:
        ConfigurationError: the person does not exist.
    """
    _existing(connection, username)
    _forget_failures(connection, username)
    audit.record(connection, who=by, action="person unlocked", subject=username, now_ms=now_ms)


def _forget_failures(connection: Connection, username: str) -> None:
    attempts.forget(connection, attempts.account(username))
    attempts.forget(connection, attempts.present_password(username))


def _accounts() -> Any:
    return select(
        people.c.username,
        people.c.role,
        people.c.disabled,
        people.c.created_at,
        people.c.one_time_until,
    )


def _existing(connection: Connection, username: str) -> Account:
    account = get(connection, username)
    if account is None:
        raise ConfigurationError(f"there is nobody named {username!r}")
    return account


def _role(role: str) -> Role:
    for known in ROLES:
        if role == known:
            return known
    raise ConfigurationError(f"{role!r} is not a role: use one of {', '.join(ROLES)}")


def _keep_an_admin(connection: Connection, account: Account) -> None:
    if account.role != "admin" or account.disabled:
        return
    admins = connection.scalars(  # row locks: two admins who disable each other take turns
        select(people.c.username)
        .where(people.c.role == "admin", people.c.disabled.is_(False))
        .order_by(people.c.username)
        .with_for_update()
    ).all()
    if len(admins) <= 1:
        raise ConfigurationError(f"{account.username} is the last admin: make another one first")


def _change(connection: Connection, username: str, values: dict[str, object]) -> None:
    connection.execute(update(people).where(people.c.username == username).values(**values))
    sessions.end_all(connection, username)
