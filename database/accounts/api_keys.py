"""API keys of the gateway: create, list and revoke. Only a key's SHA-256 is stored.

Creation and revocation are audited, without secret and hash. A key has the form
`fraud_<key_id>_<secret>`; the secret has 256 random bits. A key belongs to a tenant: the keys of
one tenant share transactions and their decisions, and those of another one do not see them.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from database.accounts import audit
from database.core.tables import api_keys
from schemas.errors import ConfigurationError

SCOPES: Final = ("score", "read")
"""score: send transactions; read: look up decisions and cards."""
PREFIX: Final = "fraud"
MAX_NAME_LENGTH: Final = 100
DEFAULT_TENANT: Final = "default"
"""Tenant of the operator: it also has whatever no key has sent, and figures of the whole system."""
_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A stored key; times are in ms. `hashed` is the SHA-256 of the whole key."""

    key_id: str
    hashed: bytes
    name: str
    tenant: str
    scopes: frozenset[str]
    created_at: int
    expires_at: int | None
    revoked_at: int | None

    def valid(self, now_ms: int) -> bool:
        """Return whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now_ms < self.expires_at)


def hashed(key: bytes) -> bytes:
    """Return the SHA-256 that is stored in place of a key."""
    return hashlib.sha256(key).digest()


def id_of(key: str) -> str:
    """Return the id within a key, or "" if the text does not have the form of a key.

    >>> id_of("fraud_a1b2_secret_part")
    'a1b2'
    """
    parts = key.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == PREFIX else ""


def create(
    connection: Connection,
    name: str,
    scopes: Sequence[str],
    *,
    by: str,
    now_ms: int,
    expires_at: int | None = None,
    tenant: str = DEFAULT_TENANT,
) -> tuple[ApiKey, str]:
    """Create a key; return its record and the key itself, which cannot be recovered later.

    Raises:
        ConfigurationError: a scope is unknown, there is no scope, the name is empty or too long, or
            the tenant is not a name.
    """
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise ConfigurationError(
            f"scopes {','.join(scopes) or 'missing'}: give one or more of {','.join(SCOPES)}"
        )
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        raise ConfigurationError(f"give the key a name of 1 to {MAX_NAME_LENGTH} characters")
    if not _TENANT.fullmatch(tenant):
        raise ConfigurationError(
            f"tenant {tenant!r}: use 1 to 63 small letters, digits, dots, hyphens and underscores"
        )
    key_id = secrets.token_hex(6)
    key = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
    made = ApiKey(
        key_id=key_id,
        hashed=hashed(key.encode()),
        name=name,
        tenant=tenant,
        scopes=frozenset(scopes),
        created_at=now_ms,
        expires_at=expires_at,
        revoked_at=None,
    )
    connection.execute(
        api_keys.insert().values(
            key_id=key_id,
            key_hash=made.hashed,
            name=name,
            tenant=tenant,
            scopes=" ".join(sorted(made.scopes)),
            created_at=now_ms,
            expires_at=expires_at,
        )
    )
    audit.record(
        connection,
        who=by,
        action="key created",
        subject=key_id,
        after={
            "name": name,
            "tenant": tenant,
            "scopes": sorted(made.scopes),
            "expires_at": expires_at,
        },
        now_ms=now_ms,
    )
    return made, key


def all_keys(connection: Connection) -> list[ApiKey]:
    """Return all keys, including revoked and expired ones, the oldest first."""
    rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id))
    return [
        ApiKey(
            key_id=row.key_id,
            hashed=bytes(row.key_hash),
            name=row.name,
            tenant=row.tenant,
            scopes=frozenset(row.scopes.split()),
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
        )
        for row in rows
    ]


def revoke(connection: Connection, key_id: str, *, by: str, now_ms: int) -> None:
    """Revoke a key; harmless if it is already revoked.

    Raises:
        ConfigurationError: there is no such key.
    """
    changed = connection.execute(
        api_keys.update()
        .where(api_keys.c.key_id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=now_ms)
        .returning(api_keys.c.name)
    ).first()
    if changed is not None:
        audit.record(
            connection,
            who=by,
            action="key revoked",
            subject=key_id,
            before={"name": changed.name, "revoked_at": None},
            after={"name": changed.name, "revoked_at": now_ms},
            now_ms=now_ms,
        )
        return
    if connection.scalar(select(api_keys.c.key_id).where(api_keys.c.key_id == key_id)) is None:
        raise ConfigurationError(
            f"there is no key {key_id}: `python -m gateway keys list` shows all keys"
        )
