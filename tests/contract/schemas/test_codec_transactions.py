"""The batch decoder of transactions equals the reference codec and says what it refuses."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import avro as codec
from schemas.codec import transactions_kernel as kernel
from schemas.codec.transactions import DecodedTransactions, decode_transactions
from schemas.codec.vectors import encode_feature_vectors
from schemas.columns import CHANNELS, KINDS, pack_country, pack_position
from schemas.currency import CurrencyTable
from schemas.errors import BadMessage, InvalidField, UndecodableMessage, UnknownSchema
from schemas.features import FINGERPRINT, VECTOR_SIZE
from schemas.keys import hash_id, normalise_ip
from tests.support.schemas.codec_strategies import NOW, transactions

CURRENCIES: Final = CurrencyTable("EUR", {"USD": 0.9137, "JPY": 0.0061})
GOOD: Final[dict[str, Any]] = {
    "transaction_id": "t1", "event_time": 1_700_000_000_000, "card_id": "card-1",
    "customer_id": None, "merchant_id": "m1", "amount": 1234, "currency": "EUR", "mcc": 5411,
    "channel": "ECOM", "device_id": "d1", "ip": "192.0.2.1", "ip_country": "DE",
    "card_country": "DE", "merchant_country": None, "latitude": 52.5, "longitude": 13.4,
    "attributes": {"till": "7"}, "kind": "PURCHASE", "unread": [],
}  # fmt: skip


def avro(**changes: Any) -> bytes:
    return codec.encode("Transaction", GOOD | changes)


def as_json(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def decode(*messages: bytes | None, pan_key: bytes | None = None) -> DecodedTransactions:
    return decode_transactions(messages, now_ms=NOW, currencies=CURRENCIES, pan_key=pan_key)


def refusal(message: bytes | None) -> BadMessage:
    """Refusal of a message that stands between two good ones, which must be served."""
    decoded = decode(avro(), message, avro())
    assert decoded.rows.tolist() == [0, 2]
    assert decoded.ids == [b"t1", b"t1"]
    [(row, error)] = decoded.rejected
    assert row == 1
    return error


def same_columns(one: DecodedTransactions, other: DecodedTransactions) -> None:
    for left, right in zip(one.columns, other.columns, strict=True):
        np.testing.assert_array_equal(left, right)


@given(records=st.lists(transactions(), max_size=5))
@settings(deadline=None)
def test_columns_are_those_of_the_records_that_fastavro_reads(
    records: list[dict[str, Any]],
) -> None:
    messages = [codec.encode("Transaction", record) for record in records]
    decoded = decode(*messages)
    assert decoded.rejected == []
    assert decoded.bodies == [message[codec.HEADER_SIZE :] for message in messages]
    assert decoded.ids == [record["transaction_id"].encode() for record in records]
    assert decoded.cards == [record["card_id"].encode() for record in records]
    columns = decoded.columns
    nan = float("nan")
    for row, message in enumerate(messages):
        record = codec.decode(message)[1]
        degrees = [
            np.array([nan if record[axis] is None else record[axis]])
            for axis in ("latitude", "longitude")
        ]
        ip, mcc, device = record["ip"], record["mcc"], record["device_id"]
        assert columns.time[row] == record["event_time"]
        assert columns.amount[row] == CURRENCIES.to_base(record["amount"], record["currency"])
        assert columns.transaction[row] == hash_id(record["transaction_id"])
        assert columns.card[row] == hash_id(record["card_id"])
        assert columns.merchant[row] == hash_id(record["merchant_id"])
        assert columns.device[row] == (hash_id(device) if device else 0)
        assert columns.ip[row] == (hash_id(normalise_ip(ip)) if ip else 0)
        assert columns.position[row] == pack_position(degrees[0], degrees[1])[0]
        assert columns.mcc[row] == (-1 if mcc is None else mcc)
        assert CHANNELS[columns.channel[row]] == record["channel"]
        assert KINDS[columns.kind[row]] == record["kind"]
        for name in ("card_country", "merchant_country", "ip_country"):
            assert getattr(columns, name)[row] == pack_country(record[name])


@given(records=st.lists(transactions(), min_size=1, max_size=3))
@settings(deadline=None)
def test_json_gives_the_same_columns_and_bodies_as_avro(records: list[dict[str, Any]]) -> None:
    from_json = decode(*(json.dumps(record).encode() for record in records))
    from_avro = decode(*(codec.encode("Transaction", record) for record in records))
    same_columns(from_json, from_avro)
    assert from_json.bodies == from_avro.bodies


@given(record=transactions(), data=st.data())
@settings(deadline=None)
def test_damaged_bytes_never_raise_and_agree_with_fastavro(
    record: dict[str, Any], data: st.DataObject
) -> None:
    message = bytearray(codec.encode("Transaction", record))
    place = data.draw(st.integers(codec.HEADER_SIZE, len(message) - 1))
    message[place] ^= data.draw(st.integers(1, 255))
    damaged = bytes(message)
    decoded = decode(avro(), damaged, avro())
    assert {0, 2} <= set(decoded.rows.tolist())
    if 1 in decoded.rows:
        read = codec.decode(damaged)[1]
        kept = codec.decode(codec.header("Transaction") + decoded.bodies[1])[1]
        assert kept["amount"] == read["amount"]
        assert kept["card_id"] == read["card_id"]


TYPES = {
    '"string"': kernel.TEXT,
    '["null", "string"]': kernel.OPTIONAL_TEXT,
    '"long"': kernel.LONG,
    '["null", "int"]': kernel.OPTIONAL_INT,
    '["null", "double"]': kernel.OPTIONAL_DOUBLE,
    "enum": kernel.ENUM,
    "array": kernel.ARRAY,
    "map": kernel.MAP,
}


def test_the_layout_of_a_transaction_is_that_of_its_schema() -> None:
    fields = codec.raw_schema("Transaction")["fields"]
    expected = [
        (
            field["name"],
            TYPES[field["type"]["type"] if isinstance(field["type"], dict) else
                  json.dumps(field["type"])],
        )
        for field in fields
    ]  # fmt: skip
    assert list(kernel.LAYOUT) == expected
    symbols = {
        each["name"]: each["type"]["symbols"] for each in fields if "symbols" in each["type"]
    }
    assert symbols == {"channel": list(CHANNELS), "kind": list(KINDS)}
    assert kernel.CODES.tolist() == [len(symbols.get(name, [])) for name in kernel.NUMBER_FIELDS]
    assert kernel.SPANS == kernel.ATTRIBUTES + 1 == kernel.UNREAD + 2 == len(kernel.TEXT_FIELDS) + 2
    assert kernel.TEXT_FIELDS[kernel.MERCHANT_COUNTRY] == "merchant_country"
    assert kernel.NUMBER_FIELDS[kernel.CHANNEL] == "channel"


def test_a_map_in_blocks_with_sizes_is_read_as_by_fastavro() -> None:
    plain = avro(attributes={})
    blocked = plain[:-3] + b"\x01\x08\x02a\x02b\x00" + plain[-2:]
    assert codec.decode(blocked)[1]["attributes"] == {"a": "b"}
    assert decode(blocked).rows.tolist() == [0]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (b"", UndecodableMessage),
        (None, UndecodableMessage),
        (b"neither of them", UndecodableMessage),
        (b'{"transaction_id": ', UndecodableMessage),
        (b'{"amount": 1, "amount": 2}', UndecodableMessage),
        (b"[" * 100_000, UndecodableMessage),
        (b'{"a":' * 10_000, UndecodableMessage),
        (b"\xff\xfe{}", UndecodableMessage),
        (avro()[:40], UndecodableMessage),
        (avro() + b"x", UndecodableMessage),
        (avro(attributes={"blob": "x" * 1_000_000}), UndecodableMessage),
        (as_json(attributes={"blob": "x" * 1_000_000}), UndecodableMessage),
        (codec.MARKER + b"strange!" + avro()[10:], UnknownSchema),
    ],
    ids=lambda value: None,
)
def test_what_cannot_be_read_is_refused_and_the_next_is_served(
    message: bytes | None, kind: type[BadMessage]
) -> None:
    assert isinstance(refusal(message), kind)


@pytest.mark.parametrize("make", [avro, as_json])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", -1),
        ("amount", 10**12 + 1),
        ("amount", 2**63 - 1),
        ("currency", "XXX"),
        ("currency", "euro"),
        ("currency", ""),
        ("event_time", NOW + 300_001),
        ("event_time", 0),
        ("event_time", -1),
        ("event_time", 1_700_000_000),
        ("transaction_id", ""),
        ("transaction_id", "x" * 10_000),
        ("card_id", ""),
        ("card_id", "ü" * 65),
        ("merchant_id", ""),
        ("merchant_id", "x" * 10_000),
        ("card_id", "4111111111111111"),
        ("card_id", "4111-1111 1111-1111"),
    ],
)
def test_a_bad_value_is_refused_by_name_in_either_encoding(
    make: Any, field: str, value: object
) -> None:
    error = refusal(make(**{field: value}))
    assert isinstance(error, InvalidField)
    assert error.field == field
    assert error.reason.startswith(f"{field} = ")
    assert "4111111111111111" not in error.reason


UNREADABLE: list[tuple[str, object]] = [
    ("mcc", -1), ("mcc", 10_000), ("ip", "300.1.1.1"), ("ip", "192.0.2.01"), ("ip", "localhost"),
    ("ip_country", "Germany"), ("merchant_country", "D"),
    ("ip_country", "QQ"), ("latitude", 90.1), ("latitude", float("nan")),
    ("longitude", float("-inf")), ("longitude", -180.5), ("device_id", "x" * 10_000),
    ("customer_id", "x" * 257),
]  # fmt: skip


@pytest.mark.parametrize("make", [avro, as_json])
@pytest.mark.parametrize(("field", "value"), UNREADABLE)
def test_context_that_cannot_be_read_is_missing_in_either_encoding(
    make: Any, field: str, value: object
) -> None:
    found, missing = decode(make(**{field: value})), decode(make(**{field: None}))
    same_columns(found, missing)
    told = codec.decode(codec.header("Transaction") + found.bodies[0])[1]
    assert told["unread"] == [field]
    assert found.unread == {field: 1}
    plain = codec.encode("Transaction", told | {"unread": []})
    assert plain[codec.HEADER_SIZE :] == missing.bodies[0]


@pytest.mark.parametrize("make", [avro, as_json])
def test_what_a_gateway_could_not_read_is_named_beside_what_we_cannot(make: Any) -> None:
    sent = make(ip=None, mcc=-1, unread=["ip", "latitude", "no_field", "mcc"])
    decoded = decode(sent)
    told = codec.decode(codec.header("Transaction") + decoded.bodies[0])[1]
    assert told["unread"] == ["mcc", "ip"]  # there is a latitude
    assert decoded.unread == {"ip": 1, "mcc": 1}
    again = decode(codec.header("Transaction") + decoded.bodies[0])
    assert again.bodies == decoded.bodies
    same_columns(again, decoded)


@pytest.mark.parametrize("make", [avro, as_json])
@pytest.mark.parametrize("code", ["T1", "A1", "XX", "EU", "ZZ", ""])
def test_a_country_that_is_not_known_is_missing_and_was_read(make: Any, code: str) -> None:
    decoded = decode(make(ip_country=code))
    assert decoded.bodies == decode(make(ip_country=None)).bodies
    assert decoded.unread == {}


def test_a_kind_in_any_case_is_read_and_an_unknown_one_is_refused() -> None:
    kinds = decode(*(as_json(kind=kind) for kind in ("refund", " Reversal ", None, "")))
    assert [KINDS[kind] for kind in kinds.columns.kind.tolist()] == [
        "REFUND", "REVERSAL", "PURCHASE", "PURCHASE",
    ]  # fmt: skip
    error = refusal(as_json(kind="refnd"))
    assert isinstance(error, InvalidField)
    assert error.reason == (
        "kind = 'refnd' is unknown: send one of PURCHASE, REFUND, REVERSAL, VERIFICATION, "
        "or leave it out"
    )


@pytest.mark.parametrize("make", [avro, as_json])
def test_codes_are_read_in_any_case_and_null_island_is_not_a_place(make: Any) -> None:
    loose = make(currency="usd", card_country="uk", ip_country="xk", latitude=0.0, longitude=-0.0)
    strict = make(currency="USD", card_country="GB", ip_country="XK", latitude=None, longitude=None)
    same_columns(decode(loose), decode(strict))


@pytest.mark.parametrize("number", ["4111111111111111", "4111 1111-1111 1111"])
def test_a_card_number_becomes_a_token_when_there_is_a_key(number: str) -> None:
    one, other = (
        decode(avro(), make(card_id=number), pan_key=b"secret") for make in (avro, as_json)
    )
    assert one.cards == other.cards
    assert one.cards[1].startswith(b"pan1-")
    assert number.encode() not in one.bodies[1]
    assert decode(avro(card_id="4111111111111111"), pan_key=b"secret").cards == [one.cards[1]]
    assert decode(avro(card_id=number), pan_key=b"other").cards != [one.cards[1]]


def test_an_empty_optional_text_counts_as_missing() -> None:
    decoded = decode(avro(device_id="", ip="", ip_country="", customer_id=""))
    expected = decode(avro(device_id=None, ip=None, ip_country=None, customer_id=None))
    same_columns(decoded, expected)
    assert decoded.bodies == expected.bodies


def test_time_with_a_zone_and_without_are_the_same_moment() -> None:
    first = as_json(event_time="2023-11-14T23:13:20+01:00")
    second = as_json(event_time="2023-11-14T22:13:20")
    assert decode(first, second, avro()).columns.time.tolist() == [1_700_000_000_000] * 3


def test_addresses_of_one_network_are_one_entity() -> None:
    texts = ["2001:db8::1", "2001:0DB8:0:0:ffff::2", "::ffff:192.0.2.1", "192.0.2.1"]
    ip = decode(*(avro(ip=text) for text in texts)).columns.ip
    assert ip[0] == ip[1] != ip[2]
    assert ip[2] == ip[3]
    neighbours = decode(avro(ip="2001:db8:0:1::1"), avro(ip="192.0.2.2")).columns.ip
    assert len({*ip.tolist(), *neighbours.tolist()}) == 4


@given(
    records=st.lists(transactions(), max_size=4),
    data=st.data(),
    computed=st.integers(-(2**63), 2**63 - 1),
)
@settings(deadline=None)
def test_feature_vectors_are_the_bytes_of_fastavro(
    records: list[dict[str, Any]], data: st.DataObject, computed: int
) -> None:
    bodies = decode(*(codec.encode("Transaction", record) for record in records)).bodies
    long = st.integers(-(2**63), 2**63 - 1)
    count = len(records)
    offsets, received = (
        data.draw(st.lists(long, min_size=count, max_size=count)) for _ in range(2)
    )
    flags = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    vectors = np.arange(count * VECTOR_SIZE, dtype=np.float32).reshape(count, VECTOR_SIZE)
    vectors[:, 5] = np.nan
    messages = encode_feature_vectors(
        source_partition=np.arange(count),
        source_offset=np.array(offsets, np.int64),
        received_at=np.array(received, np.int64),
        computed_at=computed,
        flags=np.array(flags, np.uint8),
        vectors=vectors,
        bodies=bodies,
    )
    assert messages == [
        codec.encode(
            "FeatureVector",
            {
                "source_partition": row, "source_offset": offsets[row],
                "received_at": received[row], "computed_at": computed,
                "duplicate": bool(flags[row] & 1), "late": bool(flags[row] & 2),
                "fingerprint": FINGERPRINT, "vector": vectors[row].astype("<f4").tobytes(),
                "transaction": record,
            },
        )
        for row, record in enumerate(records)
    ]  # fmt: skip


@pytest.mark.parametrize("make", [avro, as_json])
def test_the_largest_amount_holds_after_conversion(make: Any) -> None:
    """10^12 minor units of the base currency are served; what is above them is refused."""
    currencies = CurrencyTable("EUR", {"CHF": 2.0})
    messages = [make(amount=amount, currency="CHF") for amount in (5 * 10**11, 5 * 10**11 + 1)]
    decoded = decode_transactions(messages, now_ms=NOW, currencies=currencies)
    assert decoded.columns.amount.tolist() == [10**12]
    [(row, error)] = decoded.rejected
    assert (row, error.field) == (1, "amount")


def test_times_are_served_from_2000_up_to_five_minutes_ahead() -> None:
    first, last = 946_684_800_000, NOW + 300_000
    times = [first - 1, first, last, last + 1]
    decoded = decode(*(avro(event_time=time) for time in times))
    assert decoded.columns.time.tolist() == [first, last]
    assert [error.field for _, error in decoded.rejected] == ["event_time"] * 2


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="1 bodies"):
        encode_feature_vectors(
            source_partition=[0], source_offset=[0], received_at=[0], computed_at=0,
            flags=np.zeros(1, np.uint8), vectors=np.zeros((1, 3), np.float32), bodies=[b""],
        )  # fmt: skip


def test_each_message_is_judged_by_the_time_it_arrived() -> None:
    message = codec.encode(
        "Transaction",
        {
            "transaction_id": "t",
            "event_time": NOW,
            "card_id": "c",
            "merchant_id": "m",
            "amount": 1,
            "currency": "EUR",
        },
    )
    arrived = np.array([NOW, NOW - 600_000, NOW + 10**9])
    decoded = decode_transactions([message] * 3, now_ms=arrived, currencies=CurrencyTable())
    assert decoded.rows.tolist() == [0, 2]
    assert [row for row, _ in decoded.rejected] == [1]


@pytest.mark.parametrize(
    ("attributes", "kept"),
    [
        ({f"a{number}": "x" for number in range(102)}, True),
        ({f"a{number}": "x" for number in range(103)}, False),
        ({"ü" * 64: "ü" * 1_000}, True),
        ({"x" * 65: "y"}, False),
        ({"x": "y" * 1_001}, False),
        ({"order": "4111 1111 1111 1111 12/29"}, False),
        ({"4111111111111111": "x"}, False),
        ({"a": "", "": "b"}, True),
    ],
)
def test_attributes_are_read_alike_in_both_encodings(
    attributes: dict[str, str], kept: bool
) -> None:
    for make in (avro, as_json):
        [body] = decode(make(attributes=attributes)).bodies
        read = codec.decode(codec.header("Transaction") + body)[1]
        assert read["attributes"] == (attributes if kept else {})
        assert read["unread"] == ([] if kept else ["attributes"])
