"""`python -m dashboard people` manages accounts; every change is audited and ends sessions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.clock import SystemClock
from runtime.command_line import Json, errors, operator, say, write_report
from runtime.settings import load_settings

if TYPE_CHECKING:
    from database.core.database import Database

commands = typer.Typer(
    no_args_is_help=True,
    help="Accounts of the dashboard, in the database of FRAUD_DATABASE_URL.",
)
Username = Annotated[str, typer.Argument(help="small letters, digits and . _ @ -")]
RoleName = Annotated[str, typer.Option("--role", help="viewer, analyst, model owner or admin")]


@commands.command("add")
def add(username: Username, role: RoleName = "viewer", json_path: Json = None) -> None:
    """Add a person and print, only once, a one-time password; it is valid for three days.

    Example: python -m dashboard people add jane --role admin
    """
    from database.accounts import people
    from database.accounts.passwords import Passwords

    password, hashed = Passwords().one_time()
    with _opened() as (database, now_ms), database.begin() as connection:
        people.add(connection, username, role, hashed, by=operator(), now_ms=now_ms)
    say(f"{username} is {role}")
    _print_password(username, password, json_path)


@commands.command("list")
def show(json_path: Json = None) -> None:
    """List all people with their roles, and whether an account is disabled or locked.

    Example: python -m dashboard people list --json -
    """
    from rich.markup import escape
    from rich.table import Table

    from database.accounts import attempts, people

    with _opened() as (database, now_ms), database.read() as connection:
        found = people.accounts(connection)
        locked = attempts.locked(connection, now_ms=now_ms)
    table = Table("username", "role", "state", "since (UTC)")
    rows = []
    for each in found:
        since = datetime.fromtimestamp(each.created_at / 1e3, UTC).isoformat(timespec="seconds")
        state = people.state(each, locked, now_ms)
        table.add_row(escape(each.username), each.role, state, since[:19].replace("T", " "))
        rows.append({"username": each.username, "role": each.role, "state": state, "since": since})
    errors.print(table)
    write_report(rows, json_path)


@commands.command("role")
def role(
    username: Username,
    role: Annotated[str, typer.Argument(help="viewer, analyst, model owner or admin")],
) -> None:
    """Give a person another role.

    Example: python -m dashboard people role jane "model owner"
    """
    from database.accounts import people

    with _opened() as (database, now_ms), database.begin() as connection:
        people.set_role(connection, username, role, by=operator(), now_ms=now_ms)
    say(f"{username} is {role}")


@commands.command("password")
def password(username: Username, json_path: Json = None) -> None:
    """Print, only once, a new one-time password for a person who lost theirs; this also unlocks.

    Example: python -m dashboard people password jane
    """
    from database.accounts import people
    from database.accounts.passwords import Passwords

    made, hashed = Passwords().one_time()
    with _opened() as (database, now_ms), database.begin() as connection:
        people.reset_password(connection, username, hashed, by=operator(), now_ms=now_ms)
    _print_password(username, made, json_path)


@commands.command("disable")
def disable(username: Username) -> None:
    """Lock a person out for good; their past actions stay in the audit.

    Example: python -m dashboard people disable jane
    """
    _set_disabled(username, True)


@commands.command("enable")
def enable(username: Username) -> None:
    """Let a disabled person log in again.

    Example: python -m dashboard people enable jane
    """
    _set_disabled(username, False)


@commands.command("unlock")
def unlock(username: Username) -> None:
    """Let a person who is locked out after wrong passwords try again at once.

    Example: python -m dashboard people unlock jane
    """
    from database.accounts import people

    with _opened() as (database, now_ms), database.begin() as connection:
        people.unlock(connection, username, by=operator(), now_ms=now_ms)
    say(f"{username} can log in")


def _set_disabled(username: str, disabled: bool) -> None:
    from database.accounts import people

    with _opened() as (database, now_ms), database.begin() as connection:
        people.set_disabled(connection, username, disabled, by=operator(), now_ms=now_ms)
    say(f"{username} is {'disabled' if disabled else 'enabled'}")


@contextmanager
def _opened() -> Iterator[tuple[Database, int]]:
    from database.core.opening import open_database

    with open_database(load_settings()) as database:
        yield database, SystemClock().now_ms()


def _print_password(username: str, password: str, json_path: Path | None) -> None:
    from database.accounts.people import ONE_TIME_MS

    if json_path is None:
        days = ONE_TIME_MS // 86_400_000
        say(f"one-time password, shown only now, to log in within {days} days: {password}")
    else:
        write_report({"username": username, "one_time_password": password}, json_path)
