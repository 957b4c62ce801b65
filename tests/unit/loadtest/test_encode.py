"""The compiled encoder against the reference codec."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from loadtest.traffic.encode import encode_transactions
from loadtest.world.world import World
from schemas.codec import avro
from schemas.keys import hash_id, identities


@pytest.fixture(scope="module")
def day() -> pa.Table:
    return World(300, seed=3).day(20_100)


def test_every_message_decodes_to_its_row(day: pa.Table) -> None:
    encoded = encode_transactions(day)
    fields = day.drop_columns(["fraud", "scenario", "label", "label_time"]).to_pylist()
    for value, key, row in zip(encoded.values, encoded.keys, fields, strict=True):
        name, record = avro.decode(value)
        assert name == "Transaction"
        assert record.pop("attributes") == {}
        assert (record.pop("kind"), record.pop("unread")) == ("PURCHASE", [])
        assert record == row
        assert key.decode() == row["card_id"]


def test_bytes_equal_the_reference_codec(day: pa.Table) -> None:
    encoded = encode_transactions(day)
    for value in encoded.values[:50]:
        assert avro.encode(*avro.decode(value)) == value


def test_a_table_with_only_required_columns() -> None:
    table = pa.table(
        {"transaction_id": ["1", "2"], "event_time": [5, -7], "card_id": ["a", "a"],
         "merchant_id": ["é", ""], "amount": [0, 10**12], "currency": ["EUR", "EUR"]}
    )  # fmt: skip
    encoded = encode_transactions(table)
    records = [avro.decode(value)[1] for value in encoded.values]
    assert [record["merchant_id"] for record in records] == ["é", ""]
    assert [record["event_time"] for record in records] == [5, -7]
    assert [record["amount"] for record in records] == [0, 10**12]
    assert {record["channel"] for record in records} == {"OTHER"}
    assert all(record["device_id"] is None and record["latitude"] is None for record in records)
    hashes = [np.array([hash_id(text)], np.uint64) for text in ("2", "a")]
    assert encoded.identity[1] == identities(*hashes)[0]


def test_no_rows() -> None:
    assert encode_transactions(World(300, seed=3).day(20_100).slice(0, 0)).values == []
