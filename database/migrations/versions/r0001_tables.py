"""The first tables; `audit` refuses to be changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make all tables."""
    _decisions()
    _cases()
    _people()
    _audit()


def _decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("transaction_id", sa.String, primary_key=True),
        sa.Column("card_id", sa.String, primary_key=True),
        sa.Column("merchant_id", sa.String, nullable=False),
        sa.Column("event_time", sa.BigInteger, nullable=False),
        sa.Column("decided_at", sa.BigInteger, nullable=False),
        sa.Column("decision", sa.String(7), nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_index("decisions_by_card", "decisions", ["card_id", "event_time"])
    op.create_index("decisions_by_age", "decisions", ["decided_at"])
    blocked = sa.text("decision = 'BLOCK'")
    op.create_index(
        "decisions_blocked",
        "decisions",
        ["decided_at"],
        sqlite_where=blocked,
        postgresql_where=blocked,
    )
    op.create_table(
        "vectors",
        sa.Column("transaction_id", sa.String, primary_key=True),
        sa.Column("card_id", sa.String, primary_key=True),
        sa.Column("computed_at", sa.BigInteger, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_index("vectors_by_age", "vectors", ["computed_at"])
    op.create_table(
        "positions",
        sa.Column("topic", sa.String, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("following", sa.BigInteger, nullable=False),
    )


def _cases() -> None:
    op.create_table(
        "cases",
        sa.Column("case_id", _IDENTITY, primary_key=True, autoincrement=True),
        sa.Column("transaction_id", sa.String, nullable=False),
        sa.Column("card_id", sa.String, nullable=False),
        sa.Column("merchant_id", sa.String, nullable=False),
        sa.Column("event_time", sa.BigInteger, nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("value_at_risk", sa.Float, nullable=False),
        sa.Column("urgency", sa.Float, nullable=False),
        sa.Column("device_id", sa.String),
        sa.Column("claimed_by", sa.String),
        sa.Column("claimed_until", sa.BigInteger),
        sa.Column("verdict", sa.String(7)),
        sa.Column("note", sa.Text),
        sa.Column("decided_by", sa.String),
        sa.Column("decided_at", sa.BigInteger),
        sa.Column("label_taken_at", sa.BigInteger),
        sa.Column("label_sent_at", sa.BigInteger),
    )
    op.create_index("cases_once", "cases", ["transaction_id", "card_id"], unique=True)
    op.create_index("cases_by_card", "cases", ["card_id", "opened_at"])
    op.create_index("cases_by_merchant", "cases", ["merchant_id", "opened_at"])
    op.create_index("cases_by_device", "cases", ["device_id", "opened_at"])
    op.create_index("cases_decided", "cases", ["decided_at"])
    for name, column, where in (
        ("cases_open", "urgency", "verdict IS NULL"),
        ("cases_unsent", "decided_at", "verdict IS NOT NULL AND label_sent_at IS NULL"),
    ):
        rows = sa.text(where)
        op.create_index(name, "cases", [column], sqlite_where=rows, postgresql_where=rows)


def _people() -> None:
    op.create_table(
        "people",
        sa.Column("username", sa.String, primary_key=True),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("password_hash", sa.String, nullable=False),
        sa.Column("must_change", sa.Boolean, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "attempts",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.Column("locked_until", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.LargeBinary(32), primary_key=True),
        sa.Column("username", sa.String, nullable=False),
        sa.Column("csrf", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_index("sessions_by_person", "sessions", ["username"])
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String, primary_key=True),
        sa.Column("key_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("scopes", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("entry_id", _IDENTITY, primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
    )
    op.create_index("audit_by_subject", "audit", ["subject"])
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_refuses_{change.lower()} BEFORE {change} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'audit is append-only'; END$$"
    )
    op.execute(
        "CREATE TRIGGER audit_refuses BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()"
    )
