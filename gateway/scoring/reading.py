"""From a client's JSON to a valid Transaction, or to a problem that names every invalid field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.scoring.ownership import RESERVED
from gateway.web.problems import MAX_NAME, MAX_REASON, Problem, invalid, shortened
from runtime.clock import Clock
from runtime.settings import Settings
from runtime.web.asgi import Scope, header
from schemas.codec.transactions_kernel import MAX_ATTRIBUTES
from schemas.currency import CurrencyTable
from schemas.errors import BadMessage, InvalidField
from schemas.records import Transaction
from schemas.rules.transaction import invalid_fields, validate_transaction
from schemas.validation import decode_json

TIMEOUT_HEADER: Final = b"request-timeout-ms"
MAX_DEADLINE_MS: Final = 60_000
MAX_FIELDS: Final = 40
"""Fields of an object that is looked at closely; a transaction has 19."""


@dataclass(frozen=True, slots=True)
class TransactionReader:
    """Reads transactions by the rules of schemas/README.md, like the stream processor."""

    currencies: CurrencyTable
    clock: Clock
    pan_key: bytes | None = None

    @classmethod
    def from_settings(cls, settings: Settings, clock: Clock) -> TransactionReader:
        """Return a reader with the currencies and the key of these settings."""
        return cls(
            settings.currencies,
            clock,
            settings.pan_key,
        )

    def json(self, data: bytes | str) -> Transaction:
        """Return the transaction of a JSON text.

        Raises:
            Problem: the text is not JSON, or the transaction is invalid.
        """
        try:
            record = decode_json(data)
        except BadMessage as error:
            raise Problem("bad-request", shortened(error.reason, MAX_REASON)) from error
        return self.record(record)

    def record(self, record: Mapping[str, Any]) -> Transaction:
        """Return the transaction of a decoded JSON object; raises as `json`."""
        if found := _misshapen(record):
            raise invalid(found)
        attributes = record.get("attributes")
        if isinstance(attributes, dict) and not _acceptable(attributes):
            named = record.get("unread")
            others = named if isinstance(named, list) else []
            record = {**record, "attributes": None, "unread": [*others, "attributes"]}
        now_ms = self.clock.now_ms()
        try:
            return validate_transaction(
                record, now_ms=now_ms, currencies=self.currencies, pan_key=self.pan_key
            )
        except InvalidField as error:
            found = invalid_fields(
                record, now_ms=now_ms, currencies=self.currencies, pan_key=self.pan_key
            )
            raise invalid(found or [error]) from error


def _misshapen(record: Mapping[str, Any]) -> list[InvalidField]:
    """Return what is too much to be looked at; the rules themselves come afterwards.

    They name each wrong field with its value, which is work for the gateway and a long answer.
    """
    if len(record) > MAX_FIELDS:
        reason = f"the object has {len(record)} fields: a transaction has at most 19"
        return [InvalidField(reason, field=None)]
    for name in record:
        if len(name) > MAX_NAME:
            reason = f"a field's name has {len(name)} characters: it is not a field of Transaction"
            return [InvalidField(reason, field=shortened(name, MAX_NAME))]
    return []


def _acceptable(attributes: Mapping[str, Any]) -> bool:
    """Return whether attributes leave room for the gateway's own, whose names none of them has."""
    return len(attributes) <= MAX_ATTRIBUTES and not any(
        name.startswith(RESERVED) for name in attributes
    )


def deadline_s(scope: Scope, default_ms: int) -> float:
    """Return the request's deadline in seconds, from its Request-Timeout-Ms header.

    Raises:
        Problem: the header is not a number of ms from 1 to MAX_DEADLINE_MS.
    """
    value = header(scope, TIMEOUT_HEADER)
    if value is None:
        return default_ms / 1000
    if not value.isdigit() or len(value) > 5 or not 1 <= int(value) <= MAX_DEADLINE_MS:
        raise Problem(
            "bad-request", f"Request-Timeout-Ms: send a number from 1 to {MAX_DEADLINE_MS}"
        )
    return int(value) / 1000
