"""From a client's JSON to a valid Transaction, or to a problem that names every invalid field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.web.problems import Problem, invalid
from gateway.web.reply import Scope, header
from runtime.clock import Clock
from runtime.settings import Settings
from schemas.currency import CurrencyTable
from schemas.errors import BadMessage, InvalidField
from schemas.records import Transaction
from schemas.validation import decode_json, invalid_fields, validate_transaction

TIMEOUT_HEADER: Final = b"request-timeout-ms"
MAX_DEADLINE_MS: Final = 60_000


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
            CurrencyTable(settings.base_currency, settings.currency_rates),
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
            raise Problem("bad-request", error.reason) from error
        return self.record(record)

    def record(self, record: Mapping[str, Any]) -> Transaction:
        """Return the transaction of a decoded JSON object; raises as `json`."""
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
