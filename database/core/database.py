"""The relational database of every service: transactions, and our errors instead of the driver's.

A `Database` may be used from several threads; `open_database` makes it, once a process.
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
"""What a server answers that will not change by waiting, and what to do."""


class Database:
    """Transactions on one database. Context manager: lets go of its connections when left."""

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
        """The file of SQLite; None of a server."""
        return file_of(self.engine.url)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction that may write: committed when left, rolled back by an error.

        On SQLite there is one at a time; the next waits for it. Blocks.

        Raises:
            DatabaseUnavailable: it did not answer; nothing was written, except perhaps when the
                connection was lost in the very commit.
            ConfigurationError: the server does not let us in.
        """
        with self.errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads, one state throughout; waits for no writer.

        Raises as `begin`.
        """
        with self.errors(), self._reading.begin() as connection:
            yield connection

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go; see close()."""
        self.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise our errors for the driver's within; see `begin`."""
        try:
            yield
        except PoolTimeout as error:
            raise DatabaseUnavailable(f"{self.name}: all its connections are in use") from error
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
                f"{self.name} does not answer, is it running and FRAUD_DATABASE_URL right? {text}"
            ) from error


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().split("\n")[0]


def _passing(error: DBAPIError) -> bool:
    """Tell whether the same call may succeed later."""
    if isinstance(error.orig, sqlite3.Error):
        code = getattr(error.orig, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in _PASSING
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
