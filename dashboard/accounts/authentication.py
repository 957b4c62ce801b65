"""Logs people in and changes their passwords; counts attempts and locks out guessers.

Refused log-ins count in the metric `login_failures`. The audit records both actions. While a lock
lasts, an attempt is only looked up: nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dashboard.parts import DashboardParts
from database.accounts import attempts, audit, devices, people, sessions

Reason = Literal["wrong", "locked", "expired"]


@dataclass(frozen=True, slots=True)
class LogInRefusal:
    """The reason of a refusal.

    `wrong` is a wrong name or password, `locked` a lock-out for `wait_s` after too many attempts.
    `expired` is a correct one-time password that is too old; only its owner can learn that.
    """

    reason: Reason
    wait_s: int = 0


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The tokens of a new session, and of the device that is known from now on."""

    session: str
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What a browser brings to a log-in.

    Args:
        address: its IP address.
        session: token of its previous session, which ends.
        device: token of a device on which somebody has logged in before.
    """

    address: str
    session: str | None = None
    device: str | None = None


def log_in(
    parts: DashboardParts, username: str, password: str, client: Client
) -> LoggedIn | LogInRefusal:
    """Return the tokens of a new session, or the refusal. Blocks.

    Timing and lock-outs are the same for unknown names, so that nobody can probe for accounts.
    Failures on a device that the person has used before are counted by themselves, so that the
    guesses of others do not lock it out.
    """
    now_ms = parts.clock.now_ms()
    name = username.strip().lower()
    keys = _keys(parts, name, client, now_ms)
    hashed = _verify(parts, name, password, keys)
    if isinstance(hashed, LogInRefusal):
        parts.metrics.count("login_failures", reason=hashed.reason)
        if hashed.reason != "locked":
            _record_failure(parts, name, hashed.reason, client, keys)
        return hashed
    with parts.database.begin() as connection:
        present = people.stored_password(connection, name, lock=True)
        if present is None or present.hashed != hashed:
            parts.metrics.count("login_failures", reason="wrong")
            return LogInRefusal("wrong")  # changed or disabled at this very moment
        for key in keys:
            if key == attempts.ip_address(client.address):
                attempts.uncount(connection, key)
            else:
                attempts.forget(connection, key)
        if client.session is not None:
            sessions.end(connection, client.session)
        audit.record(
            connection,
            who=name,
            action="log-in",
            subject=name,
            after={"address": client.address},
            now_ms=now_ms,
        )
        return LoggedIn(
            sessions.open_session(
                connection, name, now_ms=now_ms, lasts_ms=parts.settings.session_for.ms
            ),
            devices.remember(connection, name, now_ms=now_ms, replaces=client.device),
        )


def change_password(
    parts: DashboardParts, username: str, old: str, new: str, *, address: str
) -> str | LogInRefusal:
    """Change a person's own password; return the token of their only remaining session. Blocks.

    Args:
        address: IP address of the client.

    Raises:
        ConfigurationError: the new password breaks a rule; the text says which.
    """
    now_ms = parts.clock.now_ms()
    key = attempts.present_password(username)
    present = _verify(parts, username, old, (key,))
    if isinstance(present, LogInRefusal):
        if present.reason != "locked":
            with parts.database.begin() as connection:
                audit.record(
                    connection,
                    who=username,
                    action="password change failed",
                    subject=username,
                    after={"address": address, "reason": present.reason},
                    now_ms=now_ms,
                )
        return present
    with parts.database.begin() as connection:
        attempts.forget(connection, key)
    people.check_new_password(username, old, new)
    hashed = parts.passwords.hash(new)
    with parts.database.begin() as connection:
        if not people.change_password(
            connection, username, hashed, replaces=present, now_ms=now_ms
        ):
            return LogInRefusal("wrong")  # reset or disabled at this very moment
        return sessions.open_session(
            connection, username, now_ms=now_ms, lasts_ms=parts.settings.session_for.ms
        )


def _keys(parts: DashboardParts, name: str, client: Client, now_ms: int) -> tuple[str, ...]:
    """Return the keys under which an attempt counts."""
    if client.device is not None:
        with parts.database.read() as connection:
            if devices.is_known(connection, client.device, name, now_ms=now_ms):
                return (attempts.device(client.device),)
    return attempts.ip_address(client.address), attempts.account(name)


def _verify(
    parts: DashboardParts, name: str, password: str, keys: tuple[str, ...]
) -> str | LogInRefusal:
    """Count an attempt under the keys, then verify the password; return its hash if correct."""
    now_ms = parts.clock.now_ms()
    with parts.database.read() as connection:
        wait_ms = attempts.wait(connection, *keys, now_ms=now_ms)
    if not wait_ms:
        with parts.database.begin() as connection:
            wait_ms = attempts.begin(connection, *keys, now_ms=now_ms)
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
    parts: DashboardParts, name: str, reason: Reason, client: Client, keys: tuple[str, ...]
) -> None:
    """Record a failed log-in; an unknown name is recorded as a hash, as it may be a password."""
    now_ms = parts.clock.now_ms()
    address = attempts.ip_address(client.address).partition(":")[2]
    with parts.database.begin() as connection:
        known = people.get(connection, name) is not None
        who = name if known else audit.unknown_name(name)
        locked = attempts.wait(connection, *keys, now_ms=now_ms) > 0
        audit.record(
            connection,
            who=who,
            action="log-in locked" if locked else "log-in failed",
            subject=who,
            after={"address": address, "reason": reason},
            now_ms=now_ms,
        )
