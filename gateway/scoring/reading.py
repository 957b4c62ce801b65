"""What a client sent, as a clean Transaction, or the problem that names all that is wrong."""

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
    """Reads by the rules of schemas/README.md, as the stream does."""

    currencies: CurrencyTable
    clock: Clock
    pan_key: bytes | None = None

    @classmethod
    def from_settings(cls, settings: Settings, clock: Clock) -> TransactionReader:
        """Return the one that reads as the services of these settings."""
        return cls(
            CurrencyTable(settings.base_currency, settings.currency_rates),
            clock,
            settings.pan_key,
        )

    def json(self, data: bytes | str) -> Transaction:
        """Return the transaction that a JSON text is.

        Raises:
            Problem: it is none.
        """
        try:
            record = decode_json(data)
        except BadMessage as error:
            raise Problem("bad-request", error.reason) from error
        return self.record(record)

    def record(self, record: Mapping[str, Any]) -> Transaction:
        """Return the transaction that a decoded JSON object is; raises as `json`."""
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
    """Return the seconds within which the request wants its answer.

    Raises:
        Problem: the header is no number of ms within bounds.
    """
    value = header(scope, TIMEOUT_HEADER)
    if value is None:
        return default_ms / 1000
    if not value.isdigit() or len(value) > 5 or not 1 <= int(value) <= MAX_DEADLINE_MS:
        raise Problem(
            "bad-request", f"Request-Timeout-Ms: send a number from 1 to {MAX_DEADLINE_MS}"
        )
    return int(value) / 1000
