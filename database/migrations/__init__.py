"""Every change of the tables, in order, by alembic; run by `database.core.migrate`."""
