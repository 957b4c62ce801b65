"""The relational database of every service: transactions, with our errors instead of the driver's.

A `Database` is thread-safe; `open_database` creates one per process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from database.core.engines import READ_ONLY, file_of, name_of
from schemas.errors import ConfigurationError, DatabaseUnavailable

_PASSING: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}
_REFUSED: Final = {
    "authentication failed": "check its user and password",
    "no password supplied": "write user:password before the host",
    "no pg_hba.conf entry": "let this machine in by pg_hba.conf",
    "does not exist": "create the user or the database, or write another one",
}
"""Errors of a server that waiting does not cure, and their remedies."""


class Database:
    """Transactions on one database. As a context manager it closes its connections at the end."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = name_of(engine.url)
        self._reading = engine.execution_options(
            **{READ_ONLY: True}
            if self.file is not None
            else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        )

    @property
    def file(self) -> Path | None:
        """The file of a SQLite database; None for a server."""
        return file_of(self.engine.url)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction that may write; commit at the end, roll back after an error. Blocks.

        SQLite allows one such transaction at a time; the next one waits.

        Raises:
            DatabaseUnavailable: the database did not answer. Nothing was written, unless the
                connection was lost during the commit itself: then the outcome is unknown.
            ConfigurationError: the server refuses access.
        """
        with self.errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read-only transaction on a consistent snapshot; it never waits for writers.

        Raises as `begin`.
        """
        with self.errors(), self._reading.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Translate the driver's errors into ours; see `begin`."""
        try:
            yield
        except PoolTimeout as error:
            raise DatabaseUnavailable(f"{self.name}: all connections are in use") from error
        except DBAPIError as error:
            text = _first_line(error)
            for answer, remedy in _REFUSED.items():
                if isinstance(error, OperationalError) and answer in text:
                    raise ConfigurationError(
                        f"FRAUD_DATABASE_URL: {self.name}: {text}: {remedy}"
                    ) from error
            if not _passing(error):
                raise
            raise DatabaseUnavailable(
                f"{self.name} does not answer: is it running, is FRAUD_DATABASE_URL right? {text}"
            ) from error


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().split("\n")[0]


def _passing(error: DBAPIError) -> bool:
    """Return whether the same call may succeed later."""
    if isinstance(error.orig, sqlite3.Error):
        code = getattr(error.orig, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in _PASSING
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
