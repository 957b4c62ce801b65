"""Bringing the tables of a database up to date."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from database.core.database import Database
from database.core.exclusive import ExclusiveLock
from runtime.retries import Retry
from schemas.errors import ConfigurationError, DatabaseUnavailable

log = structlog.get_logger(__name__)
SCRIPTS: Final = Path(__file__).parents[1] / "migrations"
LOCK: Final = "migrations.lock"
_WAIT_S: Final = 120.0


class _Locked(DatabaseUnavailable):
    """Another process has the lock."""


def to_head(database: Database) -> None:
    """Create or migrate the tables in one transaction; one process at a time. Blocks.

    Raises:
        ConfigurationError: a newer version of this program has changed the tables.
        DatabaseUnavailable: the database or the process that is migrating takes too long.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it logs every check of the revision
    config = Config(attributes={})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    if _at_head(database, scripts):
        return
    with ExclusiveLock(database, LOCK) as lock:

        def acquire() -> None:
            if not lock.acquire():
                raise _Locked(f"{database.name}: another process is changing its tables")

        Retry(errors=_Locked, max_time_s=_WAIT_S)(acquire)
        if _at_head(database, scripts):
            return
        with database.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        log.info("tables created or migrated", database=database.name)


def _at_head(database: Database, scripts: ScriptDirectory) -> bool:
    with database.read() as connection:
        present = _revision(connection)
    known = {script.revision for script in scripts.walk_revisions()}
    if present is not None and present not in known:
        raise ConfigurationError(
            f"{database.name} has tables of revision {present}, which this version does not know: "
            "a newer version has changed them; run that version"
        )
    return present == scripts.get_current_head()


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
