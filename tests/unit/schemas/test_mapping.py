"""Any column to any field."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.errors import ConfigurationError
from schemas.mapping import Mapping, duration_ms

BASE = """
fields:
  transaction_id: id
  card_id: {columns: [bank, account], separator: ":"}
  merchant_id: {column: shop, prefix: m}
  event_time: {column: when, unit: s}
  amount: {column: value, unit: major}
  currency: {constant: EUR}
  label: {column: bad, fraud: 1, delay: 2d}
"""


def mapping(tmp_path: Path, text: str = BASE) -> Mapping:
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    return Mapping.load(path)


def table() -> pa.Table:
    return pa.table(
        {"id": [1, 2], "bank": ["a", "b"], "account": [7, 8], "shop": [3, 4], "when": [10, 20],
         "value": [12.34, 0.29], "bad": [0, 1]}
    )  # fmt: skip


def test_every_kind_of_specification(tmp_path: Path) -> None:
    rows = mapping(tmp_path).apply(table()).to_pylist()
    assert rows[1] == {
        "transaction_id": "2", "card_id": "b:8", "merchant_id": "m4", "event_time": 20_000,
        "amount": 29, "currency": "EUR", "label": True, "label_time": 20_000 + 2 * 86_400_000,
    }  # fmt: skip


def test_a_time_column_and_a_text_time_are_utc(tmp_path: Path) -> None:
    moment = datetime(2024, 5, 1, 12, tzinfo=UTC)
    expected = int(moment.timestamp() * 1000)
    typed = table().set_column(4, "when", pa.array([moment, moment]))
    written = table().set_column(4, "when", pa.array(["2024-05-01 12:00:00"] * 2))
    for candidate in (typed, written):
        rows = mapping(tmp_path).apply(candidate).to_pylist()
        assert rows[0]["event_time"] == expected


def test_an_absent_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="shop"):
        mapping(tmp_path).apply(table().drop(["shop"]))


def test_an_unknown_field_and_a_missing_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"colour.*card_id"):
        mapping(tmp_path, "fields: {colour: x, transaction_id: id}")


def test_a_value_that_cannot_be_an_amount_is_named(tmp_path: Path) -> None:
    broken = table().set_column(5, "value", pa.array([1.0, float("nan")]))
    with pytest.raises(ConfigurationError, match=r"amount.*row 1.*nan"):
        mapping(tmp_path).apply(broken)


def test_amounts_round_half_to_even_and_decimals_stay_exact(tmp_path: Path) -> None:
    for halves in ([0.125, 0.375], [Decimal("0.125"), Decimal("0.375")]):
        rows = mapping(tmp_path).apply(table().set_column(5, "value", pa.array(halves))).to_pylist()
        assert [row["amount"] for row in rows] == [12, 38]


def test_a_label_may_have_a_time_of_its_own(tmp_path: Path) -> None:
    text = BASE.replace("{column: bad, fraud: 1, delay: 2d}", "{column: bad, known: then}")
    timed = table().append_column("then", pa.array([None, 77_000], pa.int64()))
    rows = mapping(tmp_path, text).apply(timed).to_pylist()
    assert [row["label_time"] for row in rows] == [10_000, 77_000]
    assert [row["label"] for row in rows] == [False, True]


def test_a_label_with_a_time_of_its_own_may_be_delayed_as_well(tmp_path: Path) -> None:
    text = BASE.replace(
        "{column: bad, fraud: 1, delay: 2d}", "{column: bad, known: then, delay: 90m}"
    )
    timed = table().append_column("then", pa.array([None, 77_000], pa.int64()))
    rows = mapping(tmp_path, text).apply(timed).to_pylist()
    assert [row["label_time"] for row in rows] == [10_000 + 5_400_000, 77_000 + 5_400_000]


MOMENT = 1_700_000_000_123
UNITS = [("s", MOMENT // 1000, MOMENT - 123), ("ms", MOMENT, MOMENT),
         ("us", MOMENT * 1000, MOMENT), ("ns", MOMENT * 1_000_000, MOMENT)]  # fmt: skip


@pytest.mark.parametrize(("unit", "number", "expected"), UNITS)
def test_times_of_every_unit_become_milliseconds(
    tmp_path: Path, unit: str, number: int, expected: int
) -> None:
    """Also in a column with an empty cell, which only the time of a label may have."""
    text = BASE.replace("{column: when, unit: s}", f"{{column: when, unit: {unit}}}")
    text = text.replace("fraud: 1, delay: 2d", f"known: then, unit: {unit}")
    timed = table().set_column(4, "when", pa.array([number, number]))
    timed = timed.append_column("then", pa.array([None, number], pa.int64()))
    rows = mapping(tmp_path, text).apply(timed).to_pylist()
    assert [row["event_time"] for row in rows] == [expected, expected]
    assert [row["label_time"] for row in rows] == [expected, expected]


def test_amounts_in_minor_units_are_taken_as_they_are(tmp_path: Path) -> None:
    text = BASE.replace("{column: value, unit: major}", "value")
    rows = mapping(tmp_path, text).apply(table().set_column(5, "value", pa.array([1234, 29])))
    assert [row["amount"] for row in rows.to_pylist()] == [1234, 29]


def test_an_empty_value_of_a_required_field_is_named(tmp_path: Path) -> None:
    holed = table().set_column(3, "shop", pa.array([3, None]))
    with pytest.raises(ConfigurationError, match=r"merchant_id.*row 1"):
        mapping(tmp_path).apply(holed)


def test_an_empty_optional_value_stays_missing(tmp_path: Path) -> None:
    holed = table().append_column("phone", pa.array([None, "x"]))
    rows = mapping(tmp_path, BASE + "  device_id: phone\n").apply(holed).to_pylist()
    assert [row["device_id"] for row in rows] == [None, "x"]


def test_a_blank_cell_is_a_missing_text(tmp_path: Path) -> None:
    blank = table().append_column("phone", pa.array(["", "x"]))
    rows = mapping(tmp_path, BASE + "  device_id: {column: phone, prefix: d}\n").apply(blank)
    assert [row["device_id"] for row in rows.to_pylist()] == [None, "dx"]
    with pytest.raises(ConfigurationError, match=r"merchant_id.*row 0"):
        mapping(tmp_path).apply(table().set_column(3, "shop", pa.array(["", "s"])))


def test_ids_are_dictionaries_of_their_distinct_values(tmp_path: Path) -> None:
    many = pa.concat_tables([table()] * 50)
    shops = mapping(tmp_path).apply(many).column("merchant_id").chunk(0)
    assert pa.types.is_dictionary(shops.type)
    assert shops.dictionary.to_pylist() == ["m3", "m4"]


WHOLE = [[5, 3, 5], [-(2**40), 7, 7], [None, 1, 2]]


@pytest.mark.parametrize("numbers", WHOLE)
def test_whole_numbers_become_their_decimal_text(tmp_path: Path, numbers: list[int | None]) -> None:
    text = BASE + "  device_id: phone\n"
    wide = pa.concat_tables([table(), table().slice(0, 1)]).append_column(
        "phone", pa.array(numbers)
    )
    rows = mapping(tmp_path, text).apply(wide).to_pylist()
    assert [row["device_id"] for row in rows] == [n if n is None else str(n) for n in numbers]


SHIPPED = ("handbook", "generator")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_mappings_load(name: str) -> None:
    Mapping.load(Path("loadtest/mappings") / f"{name}.yaml")


DURATIONS = [
    ("7d", 604_800_000),
    ("90m", 5_400_000),
    ("30s", 30_000),
    ("500ms", 500),
    ("1.5h", 5_400_000),
    (3, 3),
]


@pytest.mark.parametrize(("text", "expected"), DURATIONS)
def test_durations(text: str | int, expected: int) -> None:
    assert duration_ms(text) == expected


def test_a_bad_duration_is_named() -> None:
    with pytest.raises(ConfigurationError, match="soon"):
        duration_ms("soon")
