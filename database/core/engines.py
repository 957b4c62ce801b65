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
"""How long a writer waits for another one on SQLite."""
READ_ONLY: Final = "fraud_read_only"
"""Execution option of a SQLite transaction that takes no write lock."""
_CONNECT_S: Final = 5
_SILENT_MS: Final = 10_000
_EXAMPLES: Final = "sqlite:///var/fraud.db or postgresql+psycopg://user:password@host/database"


def parse_url(text: str) -> URL:
    """Parse and check the URL of a database.

    Raises:
        ConfigurationError: the URL is invalid or names an unsupported database. The message does
            not contain the URL, which may hold a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            f"FRAUD_DATABASE_URL is not the URL of a database: write {_EXAMPLES}"
        ) from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise ConfigurationError(
            f"FRAUD_DATABASE_URL has the unsupported kind {url.drivername}: write {_EXAMPLES}"
        )
    if file_of(url) is None and url.get_backend_name() == "sqlite":
        raise ConfigurationError(
            "FRAUD_DATABASE_URL must name a file, as several processes use it: write sqlite:///FILE"
        )
    return url


def file_of(url: URL) -> Path | None:
    """Return the file of a SQLite database; None for PostgreSQL and for a database in memory."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


def name_of(url: URL) -> str:
    """Return a name of the database for people; it never contains a password."""
    path = file_of(url)
    if path is not None:
        return f"SQLite {path}"
    port = f":{url.port}" if url.port else ""
    return f"PostgreSQL {url.host or 'on this machine'}{port}/{url.database or ''}"


def make_engine(url: URL) -> Engine:
    """Return an engine. It does not connect yet, but creates a SQLite file and its folder.

    Raises:
        ConfigurationError: the file cannot be created.
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
    """Set up a SQLite connection.

    The driver must not begin transactions by itself, as it would leave out DDL statements. Without
    recursive triggers, INSERT OR REPLACE would bypass the trigger that protects `audit`.
    """
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}").close()
    _write_ahead(connection)
    for pragma in ("synchronous = FULL", "foreign_keys = ON", "recursive_triggers = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch the file to write-ahead logging.

    SQLite's busy timeout does not apply while an empty file is switched: processes that open it at
    the same time could deadlock, so one of them is refused at once and has to try again.
    """
    retry = Retry(
        errors=sqlite3.OperationalError,
        only_if=lambda error: error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY,
        max_time_s=BUSY_MS / 1000,
    )
    retry(lambda: connection.execute("PRAGMA journal_mode = WAL").close())


def _begin(connection: Connection) -> None:
    """Begin a SQLite transaction, with the write lock unless it only reads.

    A transaction that reads first and writes later could not wait for another writer.
    """
    reads = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
