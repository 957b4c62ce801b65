"""All tables of the database. Times are ms since the epoch. Only migrations/ may change tables."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata: Final = MetaData()
_IDENTITY: Final = BigInteger().with_variant(Integer, "sqlite")

decisions: Final = Table(
    "decisions",
    metadata,
    Column("transaction_id", String, primary_key=True),
    Column("card_id", String, primary_key=True),
    Column("merchant_id", String, nullable=False),
    Column("event_time", BigInteger, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    Column("decision", String(7), nullable=False),
    Column("score", Float),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("record", LargeBinary, nullable=False),
    Index("decisions_by_card", "card_id", "event_time"),
    Index("decisions_by_age", "decided_at"),
)
_blocked: Final = decisions.c.decision == "BLOCK"
Index("decisions_blocked", decisions.c.decided_at, sqlite_where=_blocked, postgresql_where=_blocked)
"""`record` is the Decision, encoded as on its topic."""

vectors: Final = Table(
    "vectors",
    metadata,
    Column("transaction_id", String, primary_key=True),
    Column("card_id", String, primary_key=True),
    Column("computed_at", BigInteger, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Index("vectors_by_age", "computed_at"),
)
"""`record` is the FeatureVector, encoded as on its topic; most precede their decision."""

policies: Final = Table(
    "policies",
    metadata,
    Column("version", String, primary_key=True),
    Column("published_at", BigInteger, primary_key=True),
    Column("document", Text, nullable=False),
    Column("actor", String, nullable=False),
    Column("used_at", BigInteger),
)
"""Published policies; their topic keeps only the newest. `used_at` is the time of the last known
decision under the policy; null before the first."""

positions: Final = Table(
    "positions",
    metadata,
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("following", BigInteger, nullable=False),
)
"""The next offset to read, written in the same transaction as the rows before it."""

cases: Final = Table(
    "cases",
    metadata,
    Column("case_id", _IDENTITY, primary_key=True, autoincrement=True),
    Column("transaction_id", String, nullable=False),
    Column("card_id", String, nullable=False),
    Column("merchant_id", String, nullable=False),
    Column("event_time", BigInteger, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("value_at_risk", Float, nullable=False),
    Column("urgency", Float, nullable=False),
    Column("device_id", String),
    Column("claimed_by", String),
    Column("claimed_until", BigInteger),
    Column("verdict", String(7)),
    Column("note", Text),
    Column("decided_by", String),
    Column("decided_at", BigInteger),
    Column("label_taken_at", BigInteger),
    Column("label_sent_at", BigInteger),
    Index("cases_once", "transaction_id", "card_id", unique=True),
    Index("cases_by_card", "card_id", "opened_at"),
    Index("cases_by_merchant", "merchant_id", "opened_at"),
    Index("cases_by_device", "device_id", "opened_at"),
)
_OPEN: Final = cases.c.verdict.is_(None)
_UNSENT: Final = cases.c.verdict.is_not(None) & cases.c.label_sent_at.is_(None)
Index("cases_open", cases.c.urgency, sqlite_where=_OPEN, postgresql_where=_OPEN)
Index("cases_unsent", cases.c.decided_at, sqlite_where=_UNSENT, postgresql_where=_UNSENT)
Index("cases_decided", cases.c.decided_at)
Index("cases_by_age", cases.c.opened_at, sqlite_where=_OPEN, postgresql_where=_OPEN)
"""Review cases. `verdict` is FRAUD or GENUINE. When it can no longer be undone, a sender leases its
label (`label_taken_at`), and Kafka acknowledges it (`label_sent_at`). For a case that a chargeback
settled, `decided_by` is CHARGEBACK and both times are that of the settlement."""

people: Final = Table(
    "people",
    metadata,
    Column("username", String, primary_key=True),
    Column("role", String, nullable=False),
    Column("password_hash", String, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("one_time_until", BigInteger),
)
"""`one_time_until` is the time when a one-time password expires; null for other passwords."""

attempts: Final = Table(
    "attempts",
    metadata,
    Column("key", String, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("locked_until", BigInteger, nullable=False),
)
"""Failed log-ins by account, even of unknown names, by known device and by IP address."""

sessions: Final = Table(
    "sessions",
    metadata,
    Column("token_hash", LargeBinary(32), primary_key=True),
    Column("username", String, nullable=False),
    Column("csrf", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("sessions_by_person", "username"),
)

devices: Final = Table(
    "devices",
    metadata,
    Column("token_hash", LargeBinary(32), primary_key=True),
    Column("username", String, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("devices_by_person", "username"),
)
"""Browsers from which a person has logged in, by the SHA-256 of a cookie."""

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("key_id", String, primary_key=True),
    Column("key_hash", LargeBinary(32), nullable=False),
    Column("name", String, nullable=False),
    Column("tenant", String, nullable=False),
    Column("scopes", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
)
"""A key has 256 random bits, so plain SHA-256 is safe; `scopes` are separated by spaces."""

audit: Final = Table(
    "audit",
    metadata,
    Column("entry_id", _IDENTITY, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("who", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Index("audit_by_subject", "subject"),
)
"""Append-only: triggers refuse UPDATE, and DELETE of an entry that is not yet a year old. `before`
and `after` are JSON."""
