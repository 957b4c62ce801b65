"""Audit entries may be deleted after a year, policies know when they were last used, and known
devices have a table."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_YEAR_MS = 364 * 86_400_000
"""A day less than a year, because the clocks of database and store may differ."""


def upgrade() -> None:
    """Make table and column, and replace the triggers."""
    op.create_table(
        "devices",
        sa.Column("token_hash", sa.LargeBinary(32), primary_key=True),
        sa.Column("username", sa.String, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_index("devices_by_person", "devices", ["username"])
    op.add_column("policies", sa.Column("used_at", sa.BigInteger))
    policies = sa.table("policies", sa.column("used_at"))
    op.execute(sa.update(policies).values(used_at=time.time_ns() // 1_000_000))
    if op.get_bind().dialect.name == "sqlite":
        _sqlite_triggers()
    else:
        _postgresql_triggers()


def _sqlite_triggers() -> None:
    refuse = "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
    op.execute("DROP TRIGGER audit_refuses_delete")
    op.execute(
        "CREATE TRIGGER audit_refuses_delete BEFORE DELETE ON audit "
        f"WHEN OLD.at > CAST(strftime('%s', 'now') AS INTEGER) * 1000 - {_YEAR_MS} {refuse}"
    )
    op.execute(
        "CREATE TRIGGER audit_refuses_replace BEFORE INSERT ON audit "
        f"WHEN EXISTS (SELECT 1 FROM audit WHERE entry_id = NEW.entry_id) {refuse}"
    )


def _postgresql_triggers() -> None:
    op.execute("DROP TRIGGER audit_refuses ON audit")
    op.execute(
        "CREATE TRIGGER audit_refuses BEFORE UPDATE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()"
    )
    op.execute(
        "CREATE FUNCTION audit_refuses_young() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN IF OLD.at > extract(epoch FROM now()) * 1000 - {_YEAR_MS} THEN "
        "RAISE EXCEPTION 'audit is append-only'; END IF; RETURN OLD; END$$"
    )
    op.execute(
        "CREATE TRIGGER audit_refuses_young BEFORE DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION audit_refuses_young()"
    )
