"""One-time passwords expire. Those that are there already get three days from now."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_GRACE_MS = 3 * 86_400_000


def upgrade() -> None:
    """Put the end of a one-time password in the place of the flag that it is one."""
    op.add_column("people", sa.Column("one_time_until", sa.BigInteger))
    people = sa.table("people", sa.column("must_change"), sa.column("one_time_until"))
    until = time.time_ns() // 1_000_000 + _GRACE_MS
    op.execute(
        sa.update(people).where(people.c.must_change == sa.true()).values(one_time_until=until)
    )
    op.drop_column("people", "must_change")
