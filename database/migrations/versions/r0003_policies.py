"""Policies are kept beyond their topic, which holds the newest only; open cases have an index by
age."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table and the index."""
    op.create_table(
        "policies",
        sa.Column("version", sa.String, primary_key=True),
        sa.Column("published_at", sa.BigInteger, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
    )
    rows = sa.text("verdict IS NULL")
    op.create_index(
        "cases_by_age", "cases", ["opened_at"], sqlite_where=rows, postgresql_where=rows
    )
