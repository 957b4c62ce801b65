"""Logs people in and changes their passwords; counts attempts and locks out guessers.

Refused log-ins count in the metric `login_failures`. The audit records both actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dashboard.parts import DashboardParts
from database.accounts import attempts, audit, people, sessions

Reason = Literal["wrong", "locked", "expired"]


@dataclass(frozen=True, slots=True)
class LogInRefusal:
    """The reason of a refusal.

    `wrong` is a wrong name or password, `locked` a lock-out for `wait_s` after too many attempts.
    `expired` is a correct one-time password that is too old; only its owner can learn that.
    """

    reason: Reason
    wait_s: int = 0


def log_in(
    parts: DashboardParts, username: str, password: str, *, client: str, replaces: str | None
) -> str | LogInRefusal:
    """Return the token of a new session, or the refusal. Blocks.

    Timing and lock-outs are the same for unknown names, so that nobody can probe for accounts.

    Args:
        client: IP address of the client.
        replaces: token of the previous session, which ends.
    """
    now_ms = parts.clock.now_ms()
    name = username.strip().lower()
    account, address = attempts.account(name[: audit.MAX_NAME_LENGTH]), attempts.ip_address(client)
    hashed = _verify(parts, name, password, keys=(address, account))
    if isinstance(hashed, LogInRefusal):
        parts.metrics.count("login_failures", reason=hashed.reason)
        if hashed.reason != "locked":
            _record_failure(
                parts, name, hashed.reason, address=address, account=account, now_ms=now_ms
            )
        return hashed
    with parts.database.begin() as connection:
        present = people.stored_password(connection, name)
        if present is None or present.hashed != hashed:
            parts.metrics.count("login_failures", reason="wrong")
            return LogInRefusal("wrong")  # changed or disabled at this very moment
        attempts.forget(connection, account)
        attempts.uncount(connection, address)
        if replaces is not None:
            sessions.end(connection, replaces)
        audit.record(
            connection,
            who=name,
            action="log-in",
            subject=name,
            after={"address": client},
            now_ms=now_ms,
        )
        return sessions.open_session(
            connection, name, now_ms=now_ms, lasts_ms=parts.settings.session_for.ms
        )


def change_password(
    parts: DashboardParts, username: str, old: str, new: str, *, client: str
) -> str | LogInRefusal:
    """Change a person's own password; return the token of their only remaining session. Blocks.

    Args:
        client: IP address of the client.

    Raises:
        ConfigurationError: the new password breaks a rule; the text says which.
    """
    now_ms = parts.clock.now_ms()
    account = attempts.account(username)
    present = _verify(parts, username, old, keys=(account,))
    if isinstance(present, LogInRefusal):
        if present.reason != "locked":
            with parts.database.begin() as connection:
                audit.record(
                    connection,
                    who=username,
                    action="password change failed",
                    subject=username,
                    after={"address": client, "reason": present.reason},
                    now_ms=now_ms,
                )
        return present
    with parts.database.begin() as connection:
        attempts.forget(connection, account)
    people.check_new_password(username, old, new)
    hashed = parts.passwords.hash(new)
    with parts.database.begin() as connection:
        people.change_password(connection, username, hashed, now_ms=now_ms)
        return sessions.open_session(
            connection, username, now_ms=now_ms, lasts_ms=parts.settings.session_for.ms
        )


def _verify(
    parts: DashboardParts, name: str, password: str, *, keys: tuple[str, ...]
) -> str | LogInRefusal:
    """Count an attempt under each key, then verify the password; return its hash if correct."""
    for key in keys:
        with parts.database.begin() as connection:
            wait_ms = attempts.begin(connection, key, now_ms=parts.clock.now_ms())
        if wait_ms:
            return LogInRefusal("locked", -(-wait_ms // 1000))
    with parts.database.read() as connection:
        stored = people.stored_password(connection, name)
    known = None if stored is None else stored.hashed
    if not parts.passwords.verify(known, password) or stored is None:
        return LogInRefusal("wrong")
    if stored.expired(parts.clock.now_ms()):
        return LogInRefusal("expired")
    if not parts.passwords.outdated(stored.hashed):
        return stored.hashed
    hashed = parts.passwords.hash(password)
    with parts.database.begin() as connection:
        people.renew_hash(connection, name, hashed, replaces=stored.hashed)
    return hashed


def _record_failure(
    parts: DashboardParts, name: str, reason: Reason, *, address: str, account: str, now_ms: int
) -> None:
    with parts.database.begin() as connection:
        locked = attempts.locked(connection, now_ms=now_ms)
        audit.record(
            connection,
            who=name,
            action="log-in locked" if {address, account} & set(locked) else "log-in failed",
            subject=name,
            after={"address": address.partition(":")[2], "reason": reason},
            now_ms=now_ms,
        )
