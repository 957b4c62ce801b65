"""The compiled reader and writer of Avro's primitives equal fastavro."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import avro_reader, avro_writer
from schemas.codec.byte_spans import as_array

OPTIONAL_DOUBLE = ["null", "double"]
LONG = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 63, 64, -64, -65, 2**62])


def by_fastavro(schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, value)
    return out.getvalue()


@given(number=LONG)
@settings(deadline=None)
def test_longs(number: int) -> None:
    out = np.zeros(12, np.uint8)
    end = avro_writer.write_long(out, 1, np.int64(number))
    written = by_fastavro("long", number)
    assert out[1:end].tobytes() == written
    assert avro_reader.read_long(out, 1, end) == (number, end)
    assert avro_reader.read_long(out, 1, end - 1)[1] == -1


@pytest.mark.parametrize("damage", [b"\x80" * 9 + b"\x02", b"\x80" * 10 + b"\x00", b"\xff" * 11])
def test_a_long_of_more_than_64_bits_is_refused(damage: bytes) -> None:
    assert avro_reader.read_long(as_array(damage), 0, len(damage))[1] == -1


@given(text=st.text(max_size=200))
@settings(deadline=None)
def test_texts(text: str) -> None:
    data, expected = text.encode(), by_fastavro("string", text)
    out = np.zeros(len(expected), np.uint8)
    assert avro_writer.write_text(out, 0, as_array(data), 0, len(data)) == len(expected)
    assert out.tobytes() == expected
    start = len(expected) - len(data)
    assert avro_reader.read_text(out, 0, len(out)) == (start, len(out))
    assert avro_reader.read_text(out, 0, len(out) - 1)[1] == -1


@given(value=st.none() | st.floats(allow_nan=False))
@settings(deadline=None)
def test_optional_doubles(value: float | None) -> None:
    out = np.zeros(9, np.uint8)
    end = avro_writer.write_optional_double(out, 0, np.nan if value is None else value)
    assert out[:end].tobytes() == by_fastavro(OPTIONAL_DOUBLE, value)
    bits, position = avro_reader.read_optional_double(out, 0, end)
    assert position == end
    np.testing.assert_equal(np.uint64(bits).view(np.float64), np.nan if value is None else value)
    assert avro_reader.read_optional_double(out, 0, end - 1)[1] == -1


@pytest.mark.parametrize("branch", [b"\x01", b"\x04", b"\xff", b""])
def test_a_branch_that_is_neither_null_nor_the_value_is_refused(branch: bytes) -> None:
    assert avro_reader.read_branch(as_array(branch), 0, len(branch))[1] == -1


@given(entries=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4))
@settings(deadline=None)
def test_maps_are_skipped_and_a_cut_one_is_refused(entries: dict[str, str]) -> None:
    data = by_fastavro({"type": "map", "values": "string"}, entries)
    assert avro_reader.skip_texts(as_array(data), 0, len(data), 2) == len(data)
    assert avro_reader.skip_texts(as_array(data), 0, len(data) - 1, 2) == -1


def test_a_count_that_no_block_can_hold_is_refused_before_it_is_walked() -> None:
    data = by_fastavro("long", 2**60) + b"\x00" * 5
    assert avro_reader.skip_texts(as_array(data), 0, len(data), 2) == -1
