"""The rule book: what a Transaction and a Label may be, with a precise refusal of each bad value.

Every door uses it: Kafka (JSON, Confluent framing, and whatever the kernel of `codec.transactions`
does not take), the gateway, and files by `schemas.mapping`. The kernel is a short cut that takes
only what the rule book would leave unchanged; a test compares the two.

What identifies or measures a payment is required: without it the record is refused. The rest
(CONTEXT) describes it: what cannot be read there is missing and named in `unread`, which costs a
feature and never the decision.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from schemas.card_numbers import card_number, is_token, number_in, tokenised
from schemas.codec import transactions_kernel as kernel
from schemas.columns import CHANNELS, KINDS
from schemas.currency import CURRENCIES, CurrencyTable
from schemas.errors import InvalidField
from schemas.records import Transaction
from schemas.rules.countries import country_code
from schemas.rules.fields import only_known, refuse, text_of, time_of, valid_unicode, whole_number

_NUMBER: Final = re.compile(r"\s*-?\d+(\.\d+)?\s*")
_FIELDS: Final = frozenset(Transaction.__annotations__)


def card_of(record: Mapping[str, Any], pan_key: bytes | None) -> str:
    """Return the card id; a card number is replaced by its token, or refused without a key."""
    card = cast(str, text_of(record, "card_id", kernel.MAX_ID, required=True))
    number = card_number(card)
    if number is None:
        return card
    if pan_key is None:
        refuse(
            "card_id", card, "looks like a card number", "send a token, or set FRAUD_PAN_HMAC_KEY"
        )
    return tokenised(number, pan_key)


def id_of(record: Mapping[str, Any], field: str) -> str:
    """Return the id of a payment or a merchant, which must not hold a card number."""
    text = cast(str, text_of(record, field, kernel.MAX_ID, required=True))
    if number_in(text) is not None:
        refuse(field, text, "looks like a card number", "send an id that does not hold one")
    return text


def _optional_id(record: Mapping[str, Any], field: str, pan_key: bytes | None) -> str | None:
    text = text_of(record, field, kernel.MAX_OPTIONAL_ID, required=False)
    number = None if text is None or is_token(text) else number_in(text)
    if number is None:
        return text
    if pan_key is None:
        refuse(field, text, "looks like a card number", "send a token, or set FRAUD_PAN_HMAC_KEY")
    return tokenised(number, pan_key)


def _ip_address(record: Mapping[str, Any]) -> str | None:
    value = text_of(record, "ip", kernel.MAX_IP_ADDRESS, required=False)
    if value is None:
        return None
    try:
        ipaddress.ip_address(value)
    except ValueError:
        refuse(
            "ip", value, "is not an IP address", "send IPv4 or IPv6 without port, or leave it out"
        )
    return value


def _degrees(record: Mapping[str, Any], field: str, limit: int) -> float | None:
    value = record.get(field)
    if value is None or value == "":
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(field, value, f"is a {type(value).__name__}", "send degrees as a number")
    if not -limit <= value <= limit:
        refuse(field, value, "is out of range", f"send degrees from -{limit} to {limit}")
    return float(value)


def _attributes(record: Mapping[str, Any]) -> dict[str, str]:
    value = record.get("attributes")
    if value is None:
        return {}
    if not isinstance(value, dict):
        refuse("attributes", value, "is not a map", "send texts under names")
    if len(value) > kernel.MAX_ATTRIBUTES + kernel.GATEWAY_ATTRIBUTES:
        refuse(
            "attributes",
            len(value),
            "are too many",
            f"send at most {kernel.MAX_ATTRIBUTES} of them",
        )
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str):
            refuse("attributes", {key: text}, "is not a text to a text", "send texts only")
        valid_unicode("attributes", key + text)
        if len(key) > kernel.MAX_ATTRIBUTE_NAME or len(text) > kernel.MAX_ATTRIBUTE:
            refuse(
                "attributes", {key: text}, "is too long",
                f"names have at most {kernel.MAX_ATTRIBUTE_NAME} characters and texts "
                f"{kernel.MAX_ATTRIBUTE}",
            )  # fmt: skip
        if number_in(key) is not None or number_in(text) is not None:
            refuse("attributes", {key: text}, "looks like a card number", "leave it out")
    return dict(value)


def _code(text: object) -> str:
    """Return a code as it is kept, "" for what is not a text."""
    return text.strip().upper() if isinstance(text, str) else ""


def _currency(record: Mapping[str, Any], currencies: CurrencyTable) -> str:
    currency = text_of(record, "currency", 64, required=True)
    code = _code(currency)
    if code not in CURRENCIES:
        refuse("currency", currency, "is not an ISO 4217 code", "send three letters")
    if code not in currencies.scales:
        refuse("currency", currency, "has no rate", "add it to FRAUD_CURRENCY_RATES")
    return code


def _amount(record: Mapping[str, Any], currencies: CurrencyTable) -> int:
    amount = whole_number(record, "amount", -kernel.MAX_AMOUNT, kernel.MAX_AMOUNT, "minor units")
    if amount < 0:
        refuse(
            "amount",
            amount,
            "is negative",
            "of a refund send what is given back, with the kind REFUND",
        )
    code = _code(record.get("currency"))
    if code in currencies.scales and currencies.to_base(amount, code) > kernel.MAX_AMOUNT:
        refuse("amount", amount, "is out of range", f"at most {kernel.MAX_AMOUNT} after conversion")
    return amount


def _channel(record: Mapping[str, Any]) -> str:
    channel = text_of(record, "channel", 64, required=False)
    if channel is None:
        return "OTHER"
    code = _code(channel)
    if code not in CHANNELS:
        refuse("channel", channel, "is unknown", f"send one of {', '.join(CHANNELS)}")
    return code


def _kind(record: Mapping[str, Any]) -> str:
    kind = text_of(record, "kind", 64, required=False)
    if kind is None:
        return "PURCHASE"
    code = _code(kind)
    if code not in KINDS:
        refuse("kind", kind, "is unknown", f"send one of {', '.join(KINDS)}, or leave it out")
    return code


def _category(record: Mapping[str, Any]) -> int | None:
    value = record.get("mcc")
    if value is None or value == "":
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        record = {"mcc": int(value)}
    return whole_number(record, "mcc", 0, 9999, "an ISO 18245 code")


def _country(record: Mapping[str, Any], field: str) -> str | None:
    text = text_of(record, field, 64, required=False)
    if text is None:
        return None
    try:
        return country_code(text)
    except ValueError:
        refuse(field, text, "is not an ISO 3166 code", "send two letters or leave it out")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the rules depend on beside the record.

    `latest` is the last event time that is accepted, in ms; `pan_key` turns card numbers into
    tokens, without it they are refused.
    """

    latest: int
    currencies: CurrencyTable
    pan_key: bytes | None = None

    @classmethod
    def at(cls, now_ms: int, currencies: CurrencyTable, pan_key: bytes | None = None) -> Rules:
        """Return the rules for what arrives at `now_ms`: clocks may differ by five minutes."""
        return cls(now_ms + kernel.MAX_AHEAD_MS, currencies, pan_key)

    @property
    def now_ms(self) -> int:
        """The moment that the rules are of."""
        return self.latest - kernel.MAX_AHEAD_MS


_READERS: Final[dict[str, Callable[[Mapping[str, Any], Rules], Any]]] = {
    "currency": lambda record, rules: _currency(record, rules.currencies),
    "amount": lambda record, rules: _amount(record, rules.currencies),
    "kind": lambda record, rules: _kind(record),
    "channel": lambda record, rules: _channel(record),
    "mcc": lambda record, rules: _category(record),
    "ip_country": lambda record, rules: _country(record, "ip_country"),
    "card_country": lambda record, rules: _country(record, "card_country"),
    "merchant_country": lambda record, rules: _country(record, "merchant_country"),
    "transaction_id": lambda record, rules: id_of(record, "transaction_id"),
    "event_time": lambda record, rules: time_of(record, "event_time", rules.latest),
    "card_id": lambda record, rules: card_of(record, rules.pan_key),
    "customer_id": lambda record, rules: _optional_id(record, "customer_id", rules.pan_key),
    "merchant_id": lambda record, rules: id_of(record, "merchant_id"),
    "device_id": lambda record, rules: _optional_id(record, "device_id", rules.pan_key),
    "ip": lambda record, rules: _ip_address(record),
    "latitude": lambda record, rules: _degrees(record, "latitude", 90),
    "longitude": lambda record, rules: _degrees(record, "longitude", 180),
    "attributes": lambda record, rules: _attributes(record),
}
"""How each field of a transaction is read, in the order in which they are checked."""
REQUIRED: Final = (
    "transaction_id", "card_id", "merchant_id", "event_time", "amount", "currency",
)  # fmt: skip
"""What identifies or measures a payment."""
CHECKED: Final = (*REQUIRED, "kind")
"""Fields that a transaction is refused for; a missing `kind` is a purchase."""
CONTEXT: Final = tuple(field for field in _READERS if field not in CHECKED)
"""What describes a payment."""
_MISSING: Final[Mapping[str, Any]] = {"channel": "OTHER", "attributes": {}}
"""What stands for a missing field, None if it is not named here."""


def read_field(field: str, record: Mapping[str, Any], rules: Rules) -> Any:
    """Return one field of a record as a clean Transaction has it; `amount` looks at `currency` too.

    Raises:
        InvalidField: the value breaks a rule.
    """
    return _READERS[field](record, rules)


def validate_transaction(
    record: Mapping[str, Any],
    *,
    now_ms: int,
    currencies: CurrencyTable,
    pan_key: bytes | None = None,
) -> Transaction:
    """Return the record as a clean Transaction, every field present.

    Times become epoch ms, codes capital letters, empty texts None, a card number its token.
    `amount` stays in minor units of `currency`, which must have a rate in `currencies`. Context
    that cannot be read is missing, and `unread` names it, beside what the sender could not read.

    Raises:
        InvalidField: names field, value and remedy; a card number in it is masked.
    """
    only_known(record, _FIELDS, "Transaction")
    rules = Rules.at(now_ms, currencies, pan_key)
    clean: dict[str, Any] = {}
    unread = _unread_by_sender(record)
    for field, reader in _READERS.items():
        try:
            clean[field] = reader(record, rules)
        except InvalidField:
            if field in CHECKED:
                raise
            clean[field] = _MISSING.get(field)
            unread.add(field)
    clean["unread"] = [field for field in CONTEXT if field in unread]
    return cast(Transaction, clean)


def _unread_by_sender(record: Mapping[str, Any]) -> set[str]:
    """Return what a gateway could not read, and therefore sent without its value."""
    named = record.get("unread")
    if not isinstance(named, list):
        return set()
    texts = [field for field in named if isinstance(field, str)]
    return {field for field in texts if record.get(field) in (None, "", _MISSING.get(field))}


def invalid_fields(
    record: Mapping[str, Any],
    *,
    now_ms: int,
    currencies: CurrencyTable,
    pan_key: bytes | None = None,
) -> list[InvalidField]:
    """Return everything that `validate_transaction` would refuse, one error a field."""
    rules = Rules.at(now_ms, currencies, pan_key)
    found = []
    for unknown in sorted(str(key) for key in record if key not in _FIELDS):
        try:
            only_known({unknown: record.get(unknown)}, _FIELDS, "Transaction")
        except InvalidField as error:
            found.append(error)
    for field in CHECKED:
        try:
            read_field(field, record, rules)
        except InvalidField as error:
            found.append(error)
    return found
