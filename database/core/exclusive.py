"""A lock on a database that one process at a time can hold, and that ends with the process.

With SQLite it is a lock on a file next to the database, with PostgreSQL an advisory lock in a
session of its own.
"""

from __future__ import annotations

import fcntl
import zlib
from typing import IO, Final, Self

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from database.core.database import Database
from schemas.errors import ConfigurationError

_SPACE: Final = zlib.crc32(b"fraud-scoring") >> 1
"""First half of our advisory keys: another program may use the same database."""


class ExclusiveLock:
    """A named lock. As a context manager it is released at the end. Not thread-safe.

    If PostgreSQL ends the session, the lock is lost without notice. A holder whose correctness
    depends on exclusivity must therefore verify it in each transaction, as `positions` does.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database, self._name = database, name
        self._file: IO[bytes] | None = None
        self._session: Connection | None = None

    def acquire(self) -> bool:
        """Try to take the lock, without waiting; return False if another process holds it.

        Raises:
            DatabaseUnavailable: the database does not answer.
            ConfigurationError: the lock file cannot be written.
        """
        self.release()
        path = self._database.file
        return self._lock_session() if path is None else self._lock_file(f"{path}.{self._name}")

    def release(self) -> None:
        """Release the lock; harmless if it is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._session is not None:
            session, self._session = self._session, None
            try:
                session.execute(text("SELECT pg_advisory_unlock_all()"))
            except DBAPIError:
                pass  # the session has ended, and its lock with it
            finally:
                session.close()

    def __enter__(self) -> Self:
        """Return itself; does not acquire."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        self.release()

    def _lock_file(self, path: str) -> bool:
        try:
            opened = open(path, "ab")  # noqa: SIM115
        except OSError as error:
            raise ConfigurationError(f"cannot write to {path}: {error.strerror}") from error
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            opened.close()
            return False
        self._file = opened
        return True

    def _lock_session(self) -> bool:
        key = {"space": _SPACE, "key": zlib.crc32(self._name.encode()) >> 1}
        with self._database.errors():
            session = self._database.engine.connect()
            try:
                session = session.execution_options(isolation_level="AUTOCOMMIT")
                locked = session.scalar(text("SELECT pg_try_advisory_lock(:space, :key)"), key)
            except BaseException:
                session.close()
                raise
        if not locked:
            session.close()
            return False
        self._session = session
        return True
