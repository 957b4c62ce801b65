"""Rules of a Transaction and a Label, with a precise refusal of each bad value.

This is the slow path of `codec.transactions` (JSON, Confluent framing, and whatever its kernel
refused) and the only path of labels and of the gateway. The kernel applies the same rules; a test
compares the two.
"""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, Protocol, cast

from schemas.card_numbers import looks_like_pan, masked, tokenised
from schemas.codec import avro
from schemas.codec import transactions_kernel as kernel
from schemas.columns import CHANNELS
from schemas.currency import CurrencyTable, is_code
from schemas.errors import InvalidField, UndecodableMessage, UnknownSchema
from schemas.records import Label, Transaction

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TRANSACTION_FIELDS: Final = frozenset(Transaction.__annotations__)
_LABEL_FIELDS: Final = frozenset(Label.__annotations__)
_SOURCES: Final = ("CHARGEBACK", "ANALYST", "CUSTOMER", "SIMULATION", "OTHER")


class SchemaRegistry(Protocol):
    """Turns Confluent wire format into single-object encoding or a record."""

    def translate(self, message: bytes, name: str) -> bytes | dict[str, Any]:
        """Return our own encoding, or the record `name` if it was written under another schema.

        Raises:
            BadMessage: cut short, or written under a schema that is not compatible.
            RegistryUnavailable: the registry does not answer; call again.
        """


def _refuse(field: str, value: object, wrong: str, remedy: str) -> NoReturn:
    shown = masked(repr(value))
    shown = shown if len(shown) <= 80 else f"{shown[:60]}… ({len(shown)} characters)"
    raise InvalidField(f"{field} = {shown} {wrong}: {remedy}", field=field, value=shown)


def _text(record: Mapping[str, Any], field: str, max_length: int, *, required: bool) -> str | None:
    value = record.get(field)
    if value is None or (value == "" and not required):
        if required:
            _refuse(field, value, "is missing", f"send a text of 1 to {max_length} characters")
        return None
    if not isinstance(value, str):
        _refuse(field, value, f"is a {type(value).__name__}", "send it as a text")
    if not 1 <= len(value) <= max_length:
        _refuse(field, value, f"has {len(value)} characters", f"send 1 to {max_length}")
    return _unicode(field, value)


def _unicode(field: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse(field, value, "has half a surrogate pair", "send valid Unicode")
    return value


def _whole(record: Mapping[str, Any], field: str, low: int, high: int, unit: str) -> int:
    value = record.get(field)
    if value is None:
        _refuse(field, value, "is missing", f"send {unit}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(field, value, f"is a {type(value).__name__}", f"send {unit} as a whole number")
    if isinstance(value, float):
        if not math.isfinite(value) or value != int(value):
            _refuse(field, value, "is not a whole number", f"send {unit}")
        value = int(value)
    if not low <= value <= high:
        _refuse(field, value, "is out of range", f"send {unit} from {low} to {high}")
    return value


def parse_time(value: object, field: str = "event_time") -> int:
    """Return ms since the epoch of ISO 8601 text or epoch ms; a time without a zone is UTC.

    >>> parse_time("2024-02-29T12:00:00+01:00") == parse_time("2024-02-29T11:00:00")
    True

    Raises:
        InvalidField: it is neither.
    """
    if not isinstance(value, str):
        return _whole({field: value}, field, -(2**62), 2**62, "ms since the epoch or ISO 8601")
    try:
        moment = datetime.fromisoformat(value.strip())
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        passed = aware - _EPOCH
    except (ValueError, OverflowError):
        _refuse(field, value, "is not a time", "send ISO 8601 (2024-02-29T12:00:00Z) or epoch ms")
    return (passed.days * 86_400 + passed.seconds) * 1000 + passed.microseconds // 1000


def _time(record: Mapping[str, Any], field: str, latest: int) -> int:
    value = record.get(field)
    if value is None:
        _refuse(field, value, "is missing", "send ms since the epoch or ISO 8601")
    time = parse_time(value, field)
    if time < kernel.EARLIEST_MS:
        _refuse(field, value, "is before 2000-01-01", "send ms (not seconds) since the epoch")
    if time > latest:
        _refuse(field, value, "is more than 5 min ahead of our clock", "check clock, zone and unit")
    return time


def _card(record: Mapping[str, Any], pan_key: bytes | None) -> str:
    card = cast(str, _text(record, "card_id", kernel.MAX_ID, required=True))
    if not looks_like_pan(card):
        return card
    if pan_key is None:
        _refuse(
            "card_id", card, "looks like a card number", "send a token, or set FRAUD_PAN_HMAC_KEY"
        )
    return tokenised(card, pan_key)


def _ip_address(record: Mapping[str, Any]) -> str | None:
    value = _text(record, "ip", kernel.MAX_IP_ADDRESS, required=False)
    if value is None:
        return None
    try:
        ipaddress.ip_address(value)
    except ValueError:
        _refuse(
            "ip", value, "is not an IP address", "send IPv4 or IPv6 without port, or leave it out"
        )
    return value


def _degrees(record: Mapping[str, Any], field: str, limit: int) -> float | None:
    value = record.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(field, value, f"is a {type(value).__name__}", "send degrees as a number")
    if not -limit <= value <= limit:
        _refuse(field, value, "is out of range", f"send degrees from -{limit} to {limit}")
    return float(value)


def _attributes(record: Mapping[str, Any]) -> dict[str, str]:
    value = record.get("attributes")
    if value is None:
        return {}
    if not isinstance(value, dict):
        _refuse("attributes", value, "is not a map", "send texts under names")
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str):
            _refuse("attributes", {key: text}, "is not a text to a text", "send texts only")
        _unicode("attributes", key + text)
    return dict(value)


def _known(record: Mapping[str, Any], allowed: frozenset[str], name: str) -> None:
    unknown = sorted(str(key) for key in record if key not in allowed)
    if unknown:
        wrong = f"is not a field of {name}"
        remedy = "leave it out or put it into attributes"
        _refuse(unknown[0], record.get(unknown[0], ""), wrong, remedy)


def _currency(record: Mapping[str, Any], currencies: CurrencyTable) -> str:
    currency = record.get("currency")
    if not isinstance(currency, str) or not is_code(currency):
        _refuse("currency", currency, "is not an ISO 4217 code", "send three capital letters")
    if currency not in currencies.scales:
        _refuse("currency", currency, "has no rate", "add it to FRAUD_CURRENCY_RATES")
    return currency


def _amount(record: Mapping[str, Any], currencies: CurrencyTable) -> int:
    amount = _whole(record, "amount", 0, kernel.MAX_AMOUNT, "minor units")
    currency = record.get("currency")
    known = isinstance(currency, str) and currency in currencies.scales
    if known and currencies.to_base(amount, cast(str, currency)) > kernel.MAX_AMOUNT:
        _refuse(
            "amount", amount, "is out of range", f"at most {kernel.MAX_AMOUNT} after conversion"
        )
    return amount


def _channel(record: Mapping[str, Any]) -> str:
    channel = record.get("channel")
    if channel is None:
        return "OTHER"
    if channel not in CHANNELS:
        _refuse("channel", channel, "is unknown", f"send one of {', '.join(CHANNELS)}")
    return cast(str, channel) or "OTHER"


def _category(record: Mapping[str, Any]) -> int | None:
    if record.get("mcc") is None:
        return None
    return _whole(record, "mcc", 0, 9999, "an ISO 18245 code")


@dataclass(frozen=True, slots=True)
class _Rules:
    """What the rules depend on beside the transaction: `latest` is the last event time, in ms."""

    latest: int
    currencies: CurrencyTable
    pan_key: bytes | None


_READERS: Final[dict[str, Callable[[Mapping[str, Any], _Rules], Any]]] = {
    "currency": lambda record, rules: _currency(record, rules.currencies),
    "amount": lambda record, rules: _amount(record, rules.currencies),
    "channel": lambda record, rules: _channel(record),
    "mcc": lambda record, rules: _category(record),
    "ip_country": lambda record, rules: _country(record, "ip_country"),
    "card_country": lambda record, rules: _country(record, "card_country"),
    "merchant_country": lambda record, rules: _country(record, "merchant_country"),
    "transaction_id": lambda record, rules: _text(
        record, "transaction_id", kernel.MAX_ID, required=True
    ),
    "event_time": lambda record, rules: _time(record, "event_time", rules.latest),
    "card_id": lambda record, rules: _card(record, rules.pan_key),
    "customer_id": lambda record, rules: _text(
        record, "customer_id", kernel.MAX_OPTIONAL_ID, required=False
    ),
    "merchant_id": lambda record, rules: _text(record, "merchant_id", kernel.MAX_ID, required=True),
    "device_id": lambda record, rules: _text(
        record, "device_id", kernel.MAX_OPTIONAL_ID, required=False
    ),
    "ip": lambda record, rules: _ip_address(record),
    "latitude": lambda record, rules: _degrees(record, "latitude", 90),
    "longitude": lambda record, rules: _degrees(record, "longitude", 180),
    "attributes": lambda record, rules: _attributes(record),
}
"""How each field of a transaction is read, in the order in which they are checked."""


def validate_transaction(
    record: Mapping[str, Any],
    *,
    now_ms: int,
    currencies: CurrencyTable,
    pan_key: bytes | None = None,
) -> Transaction:
    """Return the record as a clean Transaction, every field present.

    Times become epoch ms, empty optional texts None, a card number its token. `amount` stays in
    minor units of `currency`, which must have a rate in `currencies`.

    Raises:
        InvalidField: names field, value and remedy; a card number in it is masked.
    """
    _known(record, _TRANSACTION_FIELDS, "Transaction")
    rules = _Rules(now_ms + kernel.MAX_AHEAD_MS, currencies, pan_key)
    return cast(Transaction, {field: reader(record, rules) for field, reader in _READERS.items()})


def invalid_fields(
    record: Mapping[str, Any],
    *,
    now_ms: int,
    currencies: CurrencyTable,
    pan_key: bytes | None = None,
) -> list[InvalidField]:
    """Return everything that `validate_transaction` would refuse, one error a field."""
    rules = _Rules(now_ms + kernel.MAX_AHEAD_MS, currencies, pan_key)
    found = []
    for unknown in sorted(str(key) for key in record if key not in _TRANSACTION_FIELDS):
        try:
            _known({unknown: record.get(unknown)}, _TRANSACTION_FIELDS, "Transaction")
        except InvalidField as error:
            found.append(error)
    for reader in _READERS.values():
        try:
            reader(record, rules)
        except InvalidField as error:
            found.append(error)
    return found


def _country(record: Mapping[str, Any], field: str) -> str | None:
    code = _text(record, field, 64, required=False)
    if code is not None and not (
        len(code) == 2 and code.isascii() and code.isalpha() and code.isupper()
    ):
        _refuse(field, code, "is not an ISO 3166 code", "send two capital letters or leave it out")
    return code


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


def validate_label(
    record: Mapping[str, Any], *, now_ms: int, pan_key: bytes | None = None
) -> Label:
    """Return the record as a clean Label; the card id is treated as in a transaction.

    Raises:
        InvalidField: names field, value and remedy.
    """
    _known(record, _LABEL_FIELDS, "Label")
    verdict, source = record.get("label"), record.get("source") or "OTHER"
    if verdict not in ("FRAUD", "GENUINE"):
        _refuse("label", verdict, "is unknown", "send FRAUD or GENUINE")
    if source not in _SOURCES:
        _refuse("source", source, "is unknown", f"send one of {', '.join(_SOURCES)}")
    latest = now_ms + kernel.MAX_AHEAD_MS
    return {
        "transaction_id": cast(str, _text(record, "transaction_id", kernel.MAX_ID, required=True)),
        "card_id": _card(record, pan_key),
        "label": verdict,
        "source": cast(Any, source),
        "transaction_time": _time(record, "transaction_time", latest),
        "label_time": _label_time(record),
    }


def _label_time(record: Mapping[str, Any]) -> int:
    # Labels may be sent ahead of the time at which they count, so only the past is bounded.
    if record.get("label_time") is None:
        _refuse("label_time", None, "is missing", "send ms since the epoch or ISO 8601")
    return _time(record, "label_time", 2**62)


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
