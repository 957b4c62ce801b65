"""Engines for SQLite and PostgreSQL, from FRAUD_DATABASE_URL."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from runtime.retries import Retry
from schemas.errors import ConfigurationError

BUSY_MS: Final = 10_000
"""How long a writer of SQLite waits for another one."""
READ_ONLY: Final = "fraud_read_only"
"""Execution option: a transaction of SQLite that takes no lock on writing."""
_CONNECT_S: Final = 5
_SILENT_MS: Final = 10_000
_EXAMPLES: Final = "sqlite:///var/fraud.db or postgresql+psycopg://user:password@host/database"


def parse_url(text: str) -> URL:
    """Return the address of a database.

    Raises:
        ConfigurationError: it is none of ours; the text, which may hold a password, is not shown.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            f"FRAUD_DATABASE_URL is no address of a database: write {_EXAMPLES}"
        ) from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise ConfigurationError(
            f"FRAUD_DATABASE_URL is of kind {url.drivername}: write {_EXAMPLES}"
        )
    if file_of(url) is None and url.get_backend_name() == "sqlite":
        raise ConfigurationError(
            "FRAUD_DATABASE_URL names no file: several processes use it, write sqlite:///FILE"
        )
    return url


def file_of(url: URL) -> Path | None:
    """Return the file of a SQLite database, None for another one or one in memory."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


def name_of(url: URL) -> str:
    """Return what people know the database by; never with a password."""
    path = file_of(url)
    if path is not None:
        return f"SQLite {path}"
    port = f":{url.port}" if url.port else ""
    return f"PostgreSQL {url.host or 'on this machine'}{port}/{url.database or ''}"


def make_engine(url: URL) -> Engine:
    """Return an engine; connects to nothing yet, but creates the file of SQLite and its folder.

    Raises:
        ConfigurationError: the file cannot be made.
    """
    path = file_of(url)
    if path is None:
        return create_engine(
            url,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "connect_timeout": _CONNECT_S,
                "tcp_user_timeout": _SILENT_MS,
                "application_name": "fraud",
            },
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise ConfigurationError(
            f"FRAUD_DATABASE_URL: cannot write to {path}: {error.strerror}: choose another file"
        ) from error
    engine = create_engine(url, hide_parameters=True)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _record: object) -> None:
    """Set up a connection of SQLite.

    Its driver must not begin transactions by itself: it would leave out those of DDL. Without
    recursive triggers, INSERT OR REPLACE would delete past the trigger of `audit`.
    """
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}").close()
    _write_ahead(connection)
    for pragma in ("synchronous = FULL", "foreign_keys = ON", "recursive_triggers = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Have the file journal ahead of writes.

    SQLite's busy timeout does not hold for the change of an empty file: several that open it at
    once may each have a lock that the other waits for, so one is refused at once and asks again.
    """
    retry = Retry(
        errors=sqlite3.OperationalError,
        only_if=lambda error: error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY,
        max_time_s=BUSY_MS / 1000,
    )
    retry(lambda: connection.execute("PRAGMA journal_mode = WAL").close())


def _begin(connection: Connection) -> None:
    """Begin a transaction of SQLite: one that reads and then writes could not wait for another."""
    reads = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
