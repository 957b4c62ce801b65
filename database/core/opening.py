"""Opening the database that the settings name, with its tables up to date."""

from __future__ import annotations

from database.core.database import Database
from database.core.engines import make_engine, parse_url
from database.core.migrate import to_head
from runtime.settings import Settings


def open_database(settings: Settings) -> Database:
    """Open the database of FRAUD_DATABASE_URL, its tables made or brought up to date. Blocks.

    Several processes may do so at once: one changes the tables, the others wait.

    Raises:
        ConfigurationError: the address is wrong, the server does not let us in, or its tables are
            those of a newer version of this program.
        DatabaseUnavailable: it does not answer now.
    """
    database = Database(make_engine(parse_url(settings.database_url.get_secret_value())))
    try:
        to_head(database)
    except BaseException:
        database.close()
        raise
    return database
