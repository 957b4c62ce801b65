"""Rules of a transaction and a label: every refusal names field, value and remedy."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.card_numbers import looks_like_pan, mask_numbers, masked, tokenised
from schemas.codec import avro, avro_reader
from schemas.codec.byte_spans import as_array
from schemas.currency import CurrencyTable
from schemas.errors import BadMessage, ConfigurationError, InvalidField, UnknownSchema
from schemas.rules.fields import parse_time
from schemas.rules.transaction import validate_transaction
from schemas.validation import read_label

NOW: Final = 1_800_000_000_000
GOOD: Final[dict[str, Any]] = {
    "transaction_id": "t1", "event_time": 1_700_000_000_000, "card_id": "card-1",
    "merchant_id": "m1", "amount": 1234, "currency": "EUR",
}  # fmt: skip
LABEL: Final[dict[str, Any]] = {
    "transaction_id": "t1", "card_id": "card-1", "label": "FRAUD", "source": "CHARGEBACK",
    "transaction_time": 1_700_000_000_000, "label_time": 1_700_600_000_000,
}  # fmt: skip


NOTHING_SAID: Final = {"channel": "OTHER", "attributes": {}, "kind": "PURCHASE", "unread": []}


def validate(pan_key: Any = None, **changes: Any) -> dict[str, Any]:
    record = {key: value for key, value in (GOOD | changes).items() if value is not ...}
    currencies = CurrencyTable()
    return dict(validate_transaction(record, now_ms=NOW, currencies=currencies, pan_key=pan_key))


def test_the_smallest_transaction_is_completed() -> None:
    clean = validate()
    assert clean == GOOD | NOTHING_SAID | dict.fromkeys(
        (
            "customer_id", "mcc", "device_id", "ip", "ip_country", "card_country",
            "merchant_country", "latitude", "longitude",
        )
    )  # fmt: skip
    assert avro.decode(avro.encode("Transaction", clean))[1] == clean


UNREADABLE: list[tuple[str, object, object]] = [
    ("mcc", "54x1", None), ("mcc", "5411", 5411), ("mcc", " 0742 ", 742), ("mcc", 10_000, None),
    ("mcc", True, None), ("channel", "pos", "POS"), ("channel", ["POS"], "OTHER"),
    ("channel", "ecommerce", "OTHER"), ("latitude", "52.5", 52.5), ("latitude", "north", None),
    ("latitude", float("nan"), None), ("latitude", 90.5, None), ("longitude", [], None),
    ("attributes", [], {}), ("attributes", {"a": 1}, {}), ("attributes", {"a": "\ud800"}, {}),
    ("ip", "fe80::1%" + "x" * 60, None), ("ip", "732758368.8", None), ("ip", 7, None),
    ("ip_country", "T1", None), ("ip_country", "XX", None), ("ip_country", "EU", None),
    ("ip_country", "UK", "GB"), ("ip_country", "gb", "GB"), ("ip_country", "XK", "XK"),
    ("card_country", "USA", None), ("merchant_country", "ZZ", None), ("ip_country", "QQ", None),
    ("device_id", "x" * 257, None), ("customer_id", 17, None),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "read"), UNREADABLE)
def test_context_that_cannot_be_read_is_missing_and_the_transaction_is_served(
    field: str, value: object, read: object
) -> None:
    assert validate(**{field: value})[field] == read


@pytest.mark.parametrize("field", GOOD)
@pytest.mark.parametrize("value", [None, ...])
def test_a_missing_required_field_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidField) as caught:
        validate(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("amount", "12.34", "is a str"),
        ("amount", 12.34, "not a whole number"),
        ("amount", float("nan"), "not a whole number"),
        ("amount", float("inf"), "not a whole number"),
        ("amount", True, "is a bool"),
        ("amount", -5, "is negative"),
        ("amount", 10**30, "out of range"),
        ("event_time", "yesterday", "is not a time"),
        ("event_time", "9999-12-31T23:59:59-23:59", "ahead of our clock"),
        ("event_time", [], "is a list"),
        ("event_time", float("nan"), "not a whole number"),
        ("event_time", "1970-01-01", "before 2000-01-01"),
        ("card_id", 17, "is a int"),
        ("card_id", "\ud800", "surrogate"),
        ("card_id", "5500005555555559", "looks like a card number"),
        ("colour", "red", "is not a field"),
    ],
)
def test_a_bad_value_is_refused_with_field_value_and_remedy(
    field: str, value: object, text: str
) -> None:
    with pytest.raises(InvalidField, match=text) as caught:
        validate(**{field: value})
    assert caught.value.field == field
    assert ": " in caught.value.reason
    assert len(caught.value.reason) < 300
    assert "5500005555555559" not in caught.value.reason


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T22:13:20.123999", 1_700_000_000_123),
        ("2023-11-14 23:13:20+01:00", 1_700_000_000_000),
        ("2023-11-14", 1_699_920_000_000),
        (1_700_000_000_000, 1_700_000_000_000),
        (1.7e12, 1_700_000_000_000),
    ],
)
def test_times(text: object, milliseconds: int) -> None:
    assert parse_time(text) == milliseconds


def test_a_time_is_served_from_2000_up_to_five_minutes_ahead_of_our_clock() -> None:
    first, last = 946_684_800_000, NOW + 300_000
    assert [validate(event_time=time)["event_time"] for time in (first, last)] == [first, last]
    assert validate(event_time="2000-01-01")["event_time"] == first
    for time in (first - 1, last + 1):
        with pytest.raises(InvalidField):
            validate(event_time=time)


def test_amounts_are_converted_by_rate_and_decimals() -> None:
    table = CurrencyTable("EUR", {"USD": 0.9, "JPY": 0.006, "KWD": 3.0})
    assert table.to_base(1001, "USD") == 901
    assert table.to_base(1000, "JPY") == 600
    assert table.to_base(1000, "KWD") == 300
    assert table.to_base(10**12, "EUR") == 10**12
    with pytest.raises(InvalidField, match="after conversion"):
        validate_transaction(
            GOOD | {"amount": 10**12, "currency": "JPY"},
            now_ms=NOW,
            currencies=CurrencyTable("EUR", {"JPY": 1.0}),
        )


def test_the_largest_amount_is_that_of_the_base_currency() -> None:
    """One minor unit above 10^12 after conversion is refused; 10^12 itself is served."""
    currencies = CurrencyTable("EUR", {"CHF": 2.0})
    most = GOOD | {"amount": 500_000_000_000, "currency": "CHF"}
    assert validate_transaction(most, now_ms=NOW, currencies=currencies)["amount"] == 5 * 10**11
    beyond = most | {"amount": 500_000_000_001}
    with pytest.raises(InvalidField, match="after conversion"):
        validate_transaction(beyond, now_ms=NOW, currencies=currencies)


SENSELESS = [{"usd": 1.0}, {"USD": 0.0}, {"USD": float("nan")}, {"USD": 1e9}]


@pytest.mark.parametrize("rates", SENSELESS)
def test_a_senseless_rate_is_a_configuration_error(rates: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="FRAUD_CURRENCY_RATES"):
        CurrencyTable("EUR", rates)


@given(data=st.binary(max_size=12))
def test_kernel_and_python_see_the_same_text(data: bytes) -> None:
    try:
        data.decode()
        valid = True
    except UnicodeDecodeError:
        valid = False
    assert avro_reader.is_utf8(as_array(data), 0, len(data)) == valid


@given(text=st.text(max_size=40))
def test_masking_keeps_the_length_and_hides_card_numbers(text: str) -> None:
    data = f'{text}"4111 1111 1111 1111"{text}'.encode()
    hidden = mask_numbers(data)
    assert len(hidden) == len(data)
    assert b"4111 1111 1111 1111" not in hidden
    assert b"1111" in hidden


PANS = ["4222222222222", "6304000000000000000", "6304-0000 0000-0000 000"]
HIDDEN = ["4111111111111111", "4111 1111 1111 1111 12/29", "order-4111111111111111-1"]
NO_PANS = ["422222222222", "63040000000000000000", "4222222222223"]


@pytest.mark.parametrize("number", PANS)
def test_card_numbers_of_13_and_of_19_digits_are_recognised_and_masked(number: str) -> None:
    assert looks_like_pan(number)
    assert number[-4:] in masked(f"card {number}.")
    assert number[:6] not in masked(f"card {number}.")
    with pytest.raises(InvalidField, match="looks like a card number"):
        validate(card_id=number)


@pytest.mark.parametrize("text", HIDDEN)
@pytest.mark.parametrize("field", ["transaction_id", "merchant_id"])
def test_ids_that_hold_a_card_number_are_refused(field: str, text: str) -> None:
    with pytest.raises(InvalidField, match=f"{field}.*looks like a card number") as caught:
        validate(**{field: text})
    assert "4111111111" not in caught.value.reason.replace(" ", "")


@pytest.mark.parametrize("text", HIDDEN)
@pytest.mark.parametrize("field", ["customer_id", "device_id"])
def test_context_that_holds_a_card_number_is_missing_or_its_token(field: str, text: str) -> None:
    key = b"k" * 32
    found = validate(**{field: text})
    assert (found[field], found["unread"]) == (None, [field])
    with_key = validate(key, **{field: text})
    assert (with_key[field], with_key["unread"]) == (tokenised("4111111111111111", key), [])


@pytest.mark.parametrize("pair", [("note", text) for text in HIDDEN] + [(HIDDEN[0], "x")])
def test_attributes_that_hold_a_card_number_are_missing(pair: tuple[str, str]) -> None:
    found = validate(attributes=dict([pair]))
    assert (found["attributes"], found["unread"]) == ({}, ["attributes"])


def test_a_card_id_that_holds_a_number_becomes_the_token_of_the_number() -> None:
    key = b"k" * 32
    for text in HIDDEN:
        token = validate(key, card_id=text)["card_id"]
        assert token == tokenised("4111111111111111", key)
        assert validate(card_id=token)["card_id"] == token


@pytest.mark.parametrize("number", NO_PANS)
def test_shorter_and_longer_numbers_are_not_card_numbers(number: str) -> None:
    assert not looks_like_pan(number)
    assert validate(card_id=number)["card_id"] == number


def test_masking_leaves_other_numbers() -> None:
    assert masked("1700000000001 t-4111111111111112") == "1700000000001 t-4111111111111112"
    assert tokenised("4111 1111 1111 1111", b"k") == tokenised("4111111111111111", b"k")


@pytest.mark.parametrize(
    "encode", [lambda r: json.dumps(r).encode(), lambda r: avro.encode("Label", r)]
)
def test_labels_are_read_in_both_encodings(encode: Any) -> None:
    assert read_label(encode(LABEL), now_ms=NOW) == LABEL
    number = LABEL | {"card_id": "4111111111111111"}
    assert read_label(encode(number), now_ms=NOW, pan_key=b"k")["card_id"].startswith("pan1-")
    with pytest.raises(InvalidField, match="card number"):
        read_label(encode(number), now_ms=NOW)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("transaction_id", ""), ("card_id", None), ("label", "MAYBE"), ("source", "GOSSIP"),
        ("transaction_time", 0), ("transaction_time", NOW + 300_001), ("label_time", None),
        ("label_time", "soon"), ("label_time", 1_700_600_000), ("amount", 3),
        ("label_time", 1_700_600_000_000_000), ("label_time", 1_699_999_000_000),
        ("label_time", NOW + 366 * 86_400_000 + 1),
    ],
)  # fmt: skip
def test_a_bad_label_is_refused_by_field(field: str, value: object) -> None:
    with pytest.raises(InvalidField) as caught:
        read_label(json.dumps(LABEL | {field: value}).encode(), now_ms=NOW)
    assert caught.value.field == field


def test_a_transaction_among_labels_is_refused() -> None:
    with pytest.raises(UnknownSchema, match="Transaction where a Label"):
        read_label(avro.encode("Transaction", validate()), now_ms=NOW)
    with pytest.raises(BadMessage):
        read_label(b"", now_ms=NOW)


def test_a_label_may_be_ahead_of_its_time_and_its_transaction_a_little_ahead_of_our_clock() -> None:
    ahead = LABEL | {"transaction_time": NOW + 300_000, "label_time": NOW + 90 * 86_400_000}
    assert read_label(json.dumps(ahead).encode(), now_ms=NOW) == ahead


def test_a_label_in_wire_format_is_read_by_the_registry() -> None:
    asked: list[tuple[bytes, str]] = []

    class Registry:
        def translate(self, message: bytes, name: str) -> bytes:
            asked.append((message, name))
            return avro.encode("Label", LABEL)

    framed = b"\0\0\0\0\7body"
    assert read_label(framed, now_ms=NOW, registry=Registry()) == LABEL
    assert asked == [(framed, "Label")]
    with pytest.raises(BadMessage):
        read_label(framed, now_ms=NOW)
