"""An API key belongs to a tenant; those that are there already share one, as before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_BEFORE = "default"


def upgrade() -> None:
    """Add the column; the default is for the rows that are there."""
    op.add_column(
        "api_keys", sa.Column("tenant", sa.String, nullable=False, server_default=_BEFORE)
    )
