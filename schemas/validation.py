"""Messages of `transactions` and `labels`, of any accepted encoding, to checked records.

This is the slow path of `codec.transactions` (JSON, Confluent framing, and whatever its kernel does
not take) and the only path of labels. The rules are in `schemas.rules`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from schemas.card_numbers import masked
from schemas.codec import avro
from schemas.codec import transactions_kernel as kernel
from schemas.currency import CurrencyTable
from schemas.errors import UndecodableMessage, UnknownSchema
from schemas.records import Label, Transaction
from schemas.rules.label import validate_label
from schemas.rules.transaction import validate_transaction


class SchemaRegistry(Protocol):
    """Turns Confluent wire format into single-object encoding or a record."""

    def translate(self, message: bytes, name: str) -> bytes | dict[str, Any]:
        """Return our own encoding, or the record `name` if it was written under another schema.

        Raises:
            BadMessage: cut short, or written under a schema that is not compatible.
            RegistryUnavailable: the registry does not answer; call again.
        """


def _record(message: bytes, name: str, registry: SchemaRegistry | None) -> Mapping[str, Any]:
    """Decode a message of any accepted encoding to an unchecked record."""
    if len(message) > kernel.MAX_MESSAGE:
        raise UndecodableMessage(f"{len(message)} bytes: send at most {kernel.MAX_MESSAGE}")
    if registry is not None and message[:1] == b"\x00":
        translated = registry.translate(message, name)
        if isinstance(translated, dict):
            return translated
        message = translated
    if message.lstrip()[:1] == b"{":
        return decode_json(message)
    found, record = avro.decode(message)
    if found != name:
        raise UnknownSchema(f"a {found} where a {name} belongs: send it to its own topic")
    return record


def unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a JSON object as a dictionary; for `object_pairs_hook`.

    Raises:
        UndecodableMessage: the object names a field twice.
    """
    record = dict(pairs)
    if len(record) < len(pairs):
        raise UndecodableMessage("JSON names a field twice: send each once")
    return record


def decode_json(message: bytes | str) -> dict[str, Any]:
    """Return the one JSON object that a message is, unchecked.

    Raises:
        UndecodableMessage: it is not a JSON object, or it names a field twice.
    """
    try:
        record = json.loads(message, object_pairs_hook=unique_fields)
    except (ValueError, RecursionError) as error:
        raise UndecodableMessage(f"neither Avro nor JSON: {masked(str(error))}") from error
    if not isinstance(record, dict):
        raise UndecodableMessage(f"a JSON {type(record).__name__} where an object belongs")
    return record


def read_transaction(
    message: bytes,
    *,
    now_ms: int,
    currencies: CurrencyTable,
    pan_key: bytes | None = None,
    registry: SchemaRegistry | None = None,
) -> Transaction:
    """Decode and validate one message: Avro, JSON or, with a registry, Confluent wire format.

    Raises:
        BadMessage: not readable, or a field breaks a rule.
    """
    record = _record(message, "Transaction", registry)
    return validate_transaction(record, now_ms=now_ms, currencies=currencies, pan_key=pan_key)


def read_label(
    message: bytes,
    *,
    now_ms: int,
    pan_key: bytes | None = None,
    registry: SchemaRegistry | None = None,
) -> Label:
    """Decode and validate one message of `labels`, encodings as for transactions.

    Raises:
        BadMessage: not readable, or a field breaks a rule.
    """
    return validate_label(_record(message, "Label", registry), now_ms=now_ms, pan_key=pan_key)
