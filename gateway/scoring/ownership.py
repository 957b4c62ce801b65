"""Whose transaction it is: tenant and key of the gateway travel as attributes of the transaction.

So they are in every record made of it, on Kafka and in the store. A transaction without them came
over Kafka directly, and belongs to the operator's tenant.
"""

from __future__ import annotations

from typing import Final

from database.accounts.api_keys import DEFAULT_TENANT
from schemas.records import Transaction

RESERVED: Final = "gateway:"
"""Clients may not send attributes whose names begin so."""
TENANT: Final = RESERVED + "tenant"
KEY: Final = RESERVED + "key"


def owned(transaction: Transaction, tenant: str, key_id: str) -> Transaction:
    """Return the transaction as it is sent to Kafka, with its owner."""
    attributes = {**_attributes(transaction), TENANT: tenant, KEY: key_id}
    return {**transaction, "attributes": attributes}


def without_owner(transaction: Transaction) -> Transaction:
    """Return the transaction as its client sent it."""
    attributes = {
        name: text
        for name, text in _attributes(transaction).items()
        if not name.startswith(RESERVED)
    }
    return {**transaction, "attributes": attributes}


def tenant_of(transaction: Transaction | None) -> str:
    """Return the tenant to which a recorded transaction belongs."""
    if transaction is None:
        return DEFAULT_TENANT
    return _attributes(transaction).get(TENANT, DEFAULT_TENANT)


def _attributes(transaction: Transaction) -> dict[str, str]:
    return transaction.get("attributes") or {}
