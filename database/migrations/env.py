"""What alembic runs around the revisions: on the connection, and in the transaction, of ours."""

from __future__ import annotations

from alembic import context

from database.core.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
