"""A lock on a database that one process holds at a time, and that ends with the process.

SQLite: a lock on a file beside it; PostgreSQL: an advisory lock of a session of its own.
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
"""First half of our advisory locks: another program may have locks in the same database."""


class ExclusiveLock:
    """One lock by its name. Context manager: lets go when left. Used from one thread.

    A session that PostgreSQL has ended lost the lock, and nothing tells: whoever needs more than
    not to be disturbed must check in each transaction what it relies on.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database, self._name = database, name
        self._file: IO[bytes] | None = None
        self._session: Connection | None = None

    def acquire(self) -> bool:
        """Take the lock; return False if another one has it. Does not wait for it.

        Raises:
            DatabaseUnavailable: the database does not answer.
            ConfigurationError: the file of the lock cannot be written.
        """
        self.release()
        path = self._database.file
        return self._lock_session() if path is None else self._lock_file(f"{path}.{self._name}")

    def release(self) -> None:
        """Let go; harmless without the lock."""
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
        """Let go; see release()."""
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
