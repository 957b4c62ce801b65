"""`python -m gateway keys`: create, list and revoke API keys. Every change is audited."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from runtime.command_line import operator, say
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from database.core.database import Database

LIFE: Final = "365d"
NEVER: Final = "never"
app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")


def _open() -> Database:
    from database.core.opening import open_database
    from runtime.settings import load_settings

    return open_database(load_settings())


@app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="name of the key's owner, for people")],
    scopes: Annotated[str, typer.Option(help="score, read, or both: score,read")] = "score,read",
    expires: Annotated[str, typer.Option(help="lifetime of the key, such as 90d, or never")] = LIFE,
    tenant: Annotated[
        str, typer.Option(help="tenant of the key; keys of one tenant share their transactions")
    ] = "default",
) -> None:
    """Create a key and print it. It cannot be shown again: only its SHA-256 is stored.

    Example: python -m gateway keys create checkout --scopes score --expires 90d --tenant shop-a
    """
    from database.accounts.api_keys import create
    from runtime.clock import SystemClock

    now_ms = SystemClock().now_ms()
    until = None if expires == NEVER else now_ms + _life_ms(expires)
    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    with _open() as database, database.begin() as connection:
        made, key = create(
            connection,
            name,
            wanted,
            by=operator(),
            now_ms=now_ms,
            expires_at=until,
            tenant=tenant,
        )
    ends = "never expires" if until is None else f"expires {_date(until)}"
    say(
        f"key {made.key_id} of {name}, tenant {made.tenant}, with scope "
        f"{' '.join(sorted(made.scopes))}; it {ends} and will not be shown again"
    )
    print(key)


@app.command("list")
def list_keys() -> None:
    """Print every key: id, name, tenant, scopes, creation time and state.

    Example: python -m gateway keys list
    """
    from database.accounts.api_keys import all_keys
    from runtime.clock import SystemClock

    with _open() as database, database.read() as connection:
        keys = all_keys(connection)
    now_ms = SystemClock().now_ms()
    for key in keys:
        state = "valid"
        if key.revoked_at is not None:
            state = f"revoked {_date(key.revoked_at)}"
        elif not key.valid(now_ms):
            state = "expired"
        until = "never" if key.expires_at is None else _date(key.expires_at)
        scopes = ",".join(sorted(key.scopes))
        print(f"{key.key_id}  {key.name}  {key.tenant}  {scopes}  made {_date(key.created_at)}  "
              f"expires {until}  {state}")  # fmt: skip


@app.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="the key's id, see `list`")]) -> None:
    """Revoke a key; running gateways stop accepting it within seconds.

    Example: python -m gateway keys revoke 0123456789ab
    """
    from database.accounts.api_keys import revoke
    from runtime.clock import SystemClock

    with _open() as database, database.begin() as connection:
        revoke(connection, key_id, by=operator(), now_ms=SystemClock().now_ms())
    say(f"key {key_id} was revoked")


def _life_ms(text: str) -> int:
    from runtime.duration import Duration

    try:
        return Duration(text).ms
    except ValueError as error:
        raise ConfigurationError(f"--expires {text!r}: {error}, or write never") from error


def _date(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
