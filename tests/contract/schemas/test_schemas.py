"""The contract: golden messages still decode, and the codec refuses what it must."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import avro
from schemas.codec.transactions import decode_transactions
from schemas.currency import CurrencyTable
from schemas.errors import UndecodableMessage, UnknownSchema
from schemas.topics import ALL_TOPICS

EXAMPLES: Final = Path(__file__).parents[3] / "schemas" / "examples"
TRANSACTION: Final[dict[str, Any]] = {
    "transaction_id": "t1", "event_time": 1_700_000_000_000, "card_id": "card-1",
    "customer_id": None, "merchant_id": "m1", "amount": 1234, "currency": "EUR", "mcc": 5411,
    "channel": "ECOM", "device_id": "d1", "ip": "192.0.2.1", "ip_country": "DE",
    "card_country": "DE", "merchant_country": None, "latitude": 52.5, "longitude": 13.4,
    "attributes": {"till": "7"}, "kind": "REFUND", "unread": ["ip"],
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.avro")), ids=lambda path: path.stem)
def test_a_golden_message_of_any_version_is_read_as_a_record_of_today(path: Path) -> None:
    name, record = avro.decode(path.read_bytes())
    golden = json.loads(path.with_suffix(".json").read_text())
    assert name == golden["schema"]
    readable = json.loads(json.dumps(record, default=lambda value: value.hex()))
    assert readable == with_defaults(golden["record"], avro.raw_schema(name))
    if path.read_bytes().startswith(avro.header(name)):
        assert avro.encode(name, record) == path.read_bytes()


def with_defaults(record: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return a record with the defaults of all fields that it lacks, in nested records, too."""
    whole = {}
    for field in schema["fields"]:
        name, kind = field["name"], field["type"]
        value = record[name] if name in record else field["default"]
        nested = isinstance(kind, dict) and kind["type"] == "record"
        whole[name] = with_defaults(value, kind) if nested else value
    return whole


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*-v1.avro")), ids=lambda path: path.stem)
def test_a_message_of_an_older_version_gets_todays_defaults_without_being_decoded(
    path: Path,
) -> None:
    message = path.read_bytes()
    name, record = avro.decode(message)
    newer = avro.brought_up_to_date(name, message)
    if message.startswith(avro.header(name)):
        assert newer is None
    else:
        assert newer == avro.encode(name, record)


def test_a_schema_that_did_not_only_grow_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    other = copy.deepcopy(avro.raw_schema("Label"))
    del other["fields"][0]
    monkeypatch.setattr(avro, "superseded", lambda: iter([other]))
    avro._tails.cache_clear()
    assert avro.brought_up_to_date("Label", avro.header_of(other) + b"body") is None
    avro._tails.cache_clear()


def test_there_is_a_golden_message_of_every_version_of_every_schema() -> None:
    written = {path.read_bytes()[: avro.HEADER_SIZE] for path in EXAMPLES.glob("*.avro")}
    today = {avro.header(name) for name in avro.SCHEMA_FILES}
    assert written == today | {avro.header_of(schema) for schema in avro.superseded()}


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A transaction's schema of a version ago: before `customer_id`, `channel` and `attributes`."""
    schema = copy.deepcopy(avro.raw_schema("Transaction"))
    newer = {"customer_id", "channel", "attributes", "kind", "unread"}
    schema["fields"] = [each for each in schema["fields"] if each["name"] not in newer]
    monkeypatch.setattr(avro, "superseded", lambda: iter([copy.deepcopy(schema)]))
    for known in (avro._writers, avro._tails):
        known.cache_clear()
    yield schema
    for known in (avro._writers, avro._tails):
        known.cache_clear()


def test_a_producer_that_is_not_yet_upgraded_is_understood(older: dict[str, Any]) -> None:
    names = [field["name"] for field in older["fields"]]
    out = io.BytesIO()
    fastavro.schemaless_writer(
        out, fastavro.parse_schema(older), {name: TRANSACTION[name] for name in names}
    )
    message = avro.header_of(older) + out.getvalue()
    expected = TRANSACTION | {
        "customer_id": None, "channel": "OTHER", "attributes": {}, "kind": "PURCHASE", "unread": [],
    }  # fmt: skip
    assert avro.decode(message) == ("Transaction", expected)
    both = [message, avro.encode("Transaction", expected)]
    by_batch = decode_transactions(
        both, now_ms=TRANSACTION["event_time"], currencies=CurrencyTable()
    )
    assert by_batch.rejected == []
    assert by_batch.ids == [b"t1", b"t1"]
    assert by_batch.bodies[0] == by_batch.bodies[1]


def test_every_topic_has_a_schema() -> None:
    assert {topic.schema for topic in ALL_TOPICS} == set(avro.SCHEMA_FILES)


@given(
    amount=st.integers(0, 2**62),
    text=st.text(min_size=1, max_size=64),
    mcc=st.none() | st.integers(0, 9999),
)
def test_any_transaction_survives_the_round_trip(amount: int, text: str, mcc: int | None) -> None:
    record = TRANSACTION | {"amount": amount, "transaction_id": text, "mcc": mcc}
    assert avro.decode(avro.encode("Transaction", record)) == ("Transaction", record)


@pytest.mark.parametrize("data", [b"", b"\x00", b"{}", b"\xc3\x01short"])
def test_what_is_not_single_object_encoding_is_refused(data: bytes) -> None:
    with pytest.raises(UndecodableMessage):
        avro.decode(data)


def test_an_unknown_fingerprint_is_named() -> None:
    with pytest.raises(UnknownSchema, match="0102030405060708"):
        avro.decode(avro.MARKER + bytes(range(1, 9)) + b"body")


@pytest.mark.parametrize("cut", [11, 20, 40])
def test_a_message_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(UndecodableMessage, match="cut short"):
        avro.decode(avro.encode("Transaction", TRANSACTION)[:cut])


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(UndecodableMessage, match="3 bytes too many"):
        avro.decode(avro.encode("Transaction", TRANSACTION) + b"abc")
