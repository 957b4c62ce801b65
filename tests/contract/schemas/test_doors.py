"""Whichever way a transaction comes in, it is taken or refused alike and gives the same bits."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.scoring.reading import TransactionReader
from gateway.web.problems import Problem
from runtime.clock import ManualClock
from schemas.codec import avro
from schemas.codec.transactions import DecodedTransactions, decode_transactions
from schemas.columns import CHANNELS, KINDS, TransactionColumns
from schemas.currency import CurrencyTable
from schemas.errors import InvalidField
from schemas.mapping.document import FIELDS, Mapping
from schemas.mapping.mapped import MappedTable, apply
from schemas.rules.transaction import Rules, invalid_fields
from stream_features.offline.transaction_table import table_columns

NOW: Final = 1_800_000_000_000
CURRENCIES: Final = CurrencyTable("EUR", {"USD": 0.9137, "JPY": 0.0061, "KWD": 3.0, "CLF": 40.0})
KEY: Final = b"an example key of 32 bytes......"
MAPPING: Final = Mapping("doors.yaml", {n: {"column": n} for n in FIELDS if n != "label"})
PAN: Final = [
    "4111111111111111", "4111 1111 1111 1111", "5500-0055-5555-5559", "4111 1111 1111 1111 12/29",
    "order 4111111111111111", "340000000000009_7", "94111111111111111", "1234567890123452",
    f"pan1-4111111111111111{'0' * 24}", f"pan1-{'4' * 8}-4111111111111111{'0' * 16}",
]  # fmt: skip
ID = st.text(st.characters(exclude_categories=["Cs"]), max_size=70) | st.sampled_from(
    ["007", "7", "12345678901234567890", "ü" * 64, "ü" * 65, "x" * 64, "x" * 65, " ", *PAN]
)
COUNTRY = st.none() | st.sampled_from(
    ["DE", "GB", "UK", "EL", "gb", "XK", "T1", "A1", "XX", "EU", "ZZ", "QQ", "USA", "D", "", "Ü1"]
)
ADDRESS = st.none() | st.ip_addresses().map(str) | st.sampled_from(
    ["", "localhost", "192.0.2.01", "::ffff:192.0.2.7", "2001:DB8::1", "fe80::1%eth0", "300.1.1.1",
     "192.0.2.7:443", "732758368.8"]
)  # fmt: skip
DEGREES = st.none() | st.floats(-200, 200) | st.sampled_from([0.0, -0.0, 90.0, -180.0])


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "transaction_id": draw(ID),
        "event_time": draw(
            st.integers(946_684_700_000, NOW + 400_000)
            | st.sampled_from([0, -1, 946_684_799_999, 946_684_800_000])
            | st.sampled_from([NOW + 300_000, NOW + 300_001])
        ),
        "card_id": draw(ID),
        "customer_id": draw(st.none() | ID | st.sampled_from(["c" * 256, "c" * 257])),
        "merchant_id": draw(ID),
        "amount": draw(
            st.integers(0, 10**6) | st.sampled_from([-1, -9900, 10**12, 10**12 + 1, 3 * 10**11])
        ),
        "currency": draw(
            st.sampled_from(["EUR", "USD", "JPY", "KWD", "CLF", "usd", " EUR "])
            | st.sampled_from(["CHF", "XXX", "", "€"])
        ),
        "mcc": draw(st.none() | st.integers(-1, 10_000)),
        "channel": draw(st.sampled_from(CHANNELS)),
        "kind": draw(st.sampled_from(KINDS)),
        "device_id": draw(st.none() | ID),
        "ip": draw(ADDRESS),
        "ip_country": draw(COUNTRY),
        "card_country": draw(COUNTRY),
        "merchant_country": draw(COUNTRY),
        "latitude": draw(DEGREES),
        "longitude": draw(DEGREES),
    }  # fmt: skip


def over_kafka(messages: list[bytes]) -> DecodedTransactions:
    return decode_transactions(messages, now_ms=NOW, currencies=CURRENCIES, pan_key=KEY)


def from_a_file(drawn: list[dict[str, Any]]) -> MappedTable:
    table = pa.Table.from_pylist(
        drawn, pa.schema([(n, TYPES.get(n, pa.string())) for n in drawn[0]])
    )
    return apply(MAPPING, table, Rules.at(NOW, CURRENCIES, KEY))


TYPES: Final = {
    "event_time": pa.int64(), "amount": pa.int64(), "mcc": pa.int32(),
    "latitude": pa.float64(), "longitude": pa.float64(),
}  # fmt: skip


def over_rest(drawn: list[dict[str, Any]]) -> dict[int, bytes]:
    """Return by row what the gateway sends on of the records that it takes."""
    reader = TransactionReader(CURRENCIES, ManualClock(NOW), KEY)
    sent = {}
    for row, record in enumerate(drawn):
        try:
            sent[row] = avro.encode("Transaction", reader.json(json.dumps(record)))
        except Problem:
            continue
    return sent


def same_bits(one: TransactionColumns, other: TransactionColumns) -> None:
    for name, left, right in zip(one._fields, one, other, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


@given(drawn=st.lists(records(), min_size=1, max_size=8))
@settings(deadline=None, max_examples=300)
def test_every_door_takes_the_same_and_gives_the_same_bits(drawn: list[dict[str, Any]]) -> None:
    as_avro = over_kafka([avro.encode("Transaction", record) for record in drawn])
    as_json = over_kafka([json.dumps(record).encode() for record in drawn])
    file = from_a_file(drawn)
    taken = as_avro.rows.tolist()
    refused = [row for row in range(len(drawn)) if row not in taken]
    assert as_json.rows.tolist() == taken
    by_gateway = over_rest(drawn)
    assert list(by_gateway) == taken
    sent_on = over_kafka(list(by_gateway.values()))
    assert [fault.row for fault in file.faults] == refused
    same_bits(as_avro.columns, as_json.columns)
    same_bits(as_avro.columns, sent_on.columns)
    same_bits(as_avro.columns, table_columns(file.table))
    assert as_avro.bodies == as_json.bodies == sent_on.bodies
    assert as_avro.unread == as_json.unread == sent_on.unread == file.unread
    assert [text.encode() for text in file.table.column("card_id").to_pylist()] == as_avro.cards
    for fault, (_, error) in zip(file.faults, as_avro.rejected, strict=True):
        known = invalid_fields(drawn[fault.row], now_ms=NOW, currencies=CURRENCIES, pan_key=KEY)
        assert isinstance(error, InvalidField)
        assert {fault.kind, error.fault} <= {each.fault for each in known}


@given(kind=st.text(max_size=14) | st.sampled_from(["refund", " Reversal", "VERIFICATION ", ""]))
@settings(deadline=None)
def test_a_kind_is_taken_or_refused_alike_where_it_is_a_text(kind: str) -> None:
    drawn = [{**PLAIN, "kind": kind}, PLAIN]
    as_json = over_kafka([json.dumps(record).encode() for record in drawn])
    file = from_a_file([{**PLAIN, "kind": kind}, {**PLAIN, "kind": None}])
    taken = as_json.rows.tolist()
    assert 1 in taken
    assert list(over_rest(drawn)) == taken
    same_bits(as_json.columns, table_columns(file.table))
    if 0 not in taken:
        [fault], [(_, error)] = file.faults, as_json.rejected
        assert isinstance(error, InvalidField)
        assert fault.kind == error.fault == "kind is unknown"


PLAIN: Final = {
    "transaction_id": "t1", "event_time": NOW, "card_id": "c1", "customer_id": None,
    "merchant_id": "m1", "amount": 1234, "currency": "EUR", "mcc": None, "channel": "POS",
    "device_id": None, "ip": None, "ip_country": None, "card_country": None,
    "merchant_country": None, "latitude": None, "longitude": None,
}  # fmt: skip
