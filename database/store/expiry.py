"""Deletes what has reached its age: decisions, vectors, policies, cases, audit entries, and what
log-ins leave behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sqlalchemy import Connection

from database.accounts import attempts, audit, devices, sessions
from database.decisions import decisions, policies
from database.review.cases import delete_closed
from runtime.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long each kind of row is kept, in ms."""

    decisions_ms: int
    cases_ms: int
    audit_ms: int

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return FRAUD_STORE_KEEP, FRAUD_CASE_KEEP and FRAUD_AUDIT_KEEP."""
        return cls(
            decisions_ms=settings.store_keep.ms,
            cases_ms=settings.case_keep.ms,
            audit_ms=settings.audit_keep.ms,
        )


def delete_expired(
    connection: Connection, keep: Retention, now_ms: int, limit: int
) -> dict[str, int]:
    """Delete expired rows, at most `limit` of each large table; return the numbers by table.

    A policy is kept for as long as a decision that was made under it.
    """
    newest = decisions.newest(connection)
    if newest is not None:
        policies.mark_used(connection, newest["policy_version"], newest["decided_at"] // 1000)
    oldest_decision = now_ms - keep.decisions_ms
    return {
        **decisions.delete_older(connection, oldest_decision, limit),
        "policies": policies.delete_unused(connection, oldest_decision),
        "cases": delete_closed(connection, now_ms - keep.cases_ms, limit),
        "audit": audit.delete_older(connection, now_ms - keep.audit_ms, limit),
        "attempts": attempts.delete_forgotten(connection, now_ms=now_ms),
        "sessions": sessions.delete_expired(connection, now_ms=now_ms),
        "devices": devices.delete_expired(connection, now_ms=now_ms),
    }
