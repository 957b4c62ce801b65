"""Every change of the tables, in order, by alembic; run by `schemas.runtime.database.migrate`."""
