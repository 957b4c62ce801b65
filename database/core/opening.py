"""Opening the database of the settings and bringing its tables up to date."""

from __future__ import annotations

from database.core.database import Database
from database.core.engines import make_engine, parse_url
from database.core.migrate import to_head
from runtime.settings import Settings


def open_database(settings: Settings) -> Database:
    """Open the database of FRAUD_DATABASE_URL and create or migrate its tables. Blocks.

    Several processes may do so at once: one changes the tables, the others wait.

    Raises:
        ConfigurationError: the URL is wrong, the server refuses access, or a newer version of this
            program has changed the tables.
        DatabaseUnavailable: the database does not answer now.
    """
    database = Database(make_engine(parse_url(settings.database_url.get_secret_value())))
    try:
        to_head(database)
    except BaseException:
        database.close()
        raise
    return database
