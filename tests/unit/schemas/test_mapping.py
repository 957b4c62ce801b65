"""Any column to any field, and the rule book at the door of files."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas.currency import CurrencyTable
from schemas.errors import ConfigurationError
from schemas.mapping.document import Mapping, duration_ms
from schemas.mapping.guess import guess
from schemas.mapping.mapped import MappedTable, apply
from schemas.rules.transaction import Rules

NOW = 1_750_000_000_000
START = 1_704_067_200_000
"""2024-01-01."""
DAY = 86_400_000
BASE = """
fields:
  transaction_id: id
  card_id: card
  merchant_id: shop
  event_time: {column: t}
  amount: {column: amt, unit: major}
  currency: cur
"""


def mapping(tmp_path: Path, text: str = BASE) -> Mapping:
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    return Mapping.load(path)


def table(**columns: Any) -> pa.Table:
    rows = max((len(each) for each in columns.values()), default=2)
    plain = {
        "id": [f"t{row}" for row in range(rows)], "card": [f"c{row}" for row in range(rows)],
        "shop": [f"s{row}" for row in range(rows)],
        "t": [f"2024-01-01 00:00:{row:02}" for row in range(rows)],
        "amt": [f"{row + 10}.50" for row in range(rows)], "cur": ["EUR"] * rows,
    }  # fmt: skip
    return pa.table({**plain, **columns})


def mapped(
    tmp_path: Path, text: str = BASE, pan_key: bytes | None = None, **columns: Any
) -> MappedTable:
    rates = CurrencyTable("EUR", {"JPY": 0.006, "KWD": 3.0, "USD": 0.9})
    return apply(mapping(tmp_path, text), table(**columns), Rules.at(NOW, rates, pan_key))


def values(found: MappedTable, name: str) -> list[Any]:
    listed: list[Any] = found.table.column(name).to_pylist()
    return listed


def with_time(spec: str) -> str:
    return BASE.replace("{column: t}", spec)


def with_amount(spec: str) -> str:
    return BASE.replace("{column: amt, unit: major}", spec)


def test_every_kind_of_specification(tmp_path: Path) -> None:
    text = """
fields:
  transaction_id: {generate: row_number, prefix: "row-"}
  card_id: {columns: [bank, account], separator: ":"}
  merchant_id: {column: shop, prefix: m}
  event_time: {column: when, unit: s}
  amount: {column: value, unit: minor}
  currency: {constant: EUR}
  label: {column: bad, fraud: 1, delay: 2d}
"""
    found = mapped(
        tmp_path, text, bank=["a", "b"], account=[7, 8], shop=[3, 4],
        when=[START // 1000, START // 1000 + 20], value=[1234, 29], bad=[0, 1],
    )  # fmt: skip
    assert found.faults == []
    assert found.table.to_pylist()[1] == {
        "transaction_id": "row-2", "card_id": "b:8", "merchant_id": "m4",
        "event_time": START + 20_000, "amount": 29, "base_amount": 29, "currency": "EUR",
        "label": True, "label_time": START + 20_000 + 2 * DAY,
    }  # fmt: skip


def test_an_absent_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="shop"):
        apply(mapping(tmp_path), table().drop(["shop"]), Rules.at(NOW, CurrencyTable()))


REFUSED = [
    ("fields: {colour: x, transaction_id: id}", r"colour.*card_id"),
    (BASE + "  card_country: {constant: NO}\n", r"card_country.*boolean, False.*quotes"),
    (BASE.replace("merchant_id: shop", "merchant_id: {column: shop, prefix: 007}"), r"number, 7"),
    (with_time("{column: t, unit: fortnight}"), "fortnight"),
    (with_time("{column: t, unit: h}"), "start: 2024-01-01"),
    (with_time("{column: t, zone: UTC}"), r"zone.*timezone"),
    (with_time("{format: '%Y'}"), "exactly one of column"),
    (with_time("{columns: [], format: '%Y'}"), "not a list of names"),
    (with_time("{columns: t}"), "not a list of names"),
    (with_time("{column: t, unit: s, format: '%Y'}"), "give one of them"),
    (with_time("{column: t, unit: s, timezone: Europe/Berlin}"), "give one of them"),
    (with_time("{column: t, start: 2024-01-01}"), "write unit"),
    (with_amount("{columns: [amt, cur]}"), r"columns.*it takes column"),
    (BASE + "  channel: {column: c, values: {NO: POS}}\n", "boolean, False"),
    (BASE + "  channel: {column: c, values: [POS]}\n", "not a table"),
    (BASE + "  label: {column: bad, fraud: [1, 2]}\n", "not a single value"),
    (BASE + "  label: {column: bad, delay: soon}\n", "mapping.yaml.*soon"),
    (BASE + "  label: {column: bad, delay: 400d}\n", "more than a year"),
    (BASE + "file: {seperator: ';'}\n", r"seperator.*separator"),
    (BASE + "file: {separator: '||'}\n", "not one sign of ASCII"),
    (BASE + "file: {skip: two}\n", "not a number of lines"),
    (BASE + "file: {missing: NULL}\n", r'write \["NULL"'),
    (BASE + "file: {missing: [null]}\n", "quotes"),
    ("[" * 5000, "cannot read"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_a_mapping_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        mapping(tmp_path, text)


SECONDS = [START, START + 1000]
BERLIN = "{column: t, timezone: Europe/Berlin}"
TIMES: list[tuple[str, list[Any] | pa.Array, list[int]]] = [
    ("{column: t}", ["2024-01-01 00:00:00", "2024-01-01T00:00:01"], SECONDS),
    ("{column: t}", ["2024-01-01 00:00:00.123456", "2024-01-01T01:00:01.9999+01:00"],
     [START + 123, START + 1999]),
    ("{column: t}", ["1704067200000", "2024-01-01T00:00:01Z"], SECONDS),
    ("{column: t}", [START, START + 1000], SECONDS),
    ("{column: t}", [float(START), START + 1000.7], SECONDS),
    ("{column: t, unit: s}", [START / 1000 + 0.123, START / 1000 + 1], [START + 123, START + 1000]),
    ("{column: t, unit: s}", ["1704067200.123", "1704067201"], [START + 123, START + 1000]),
    ("{column: t, unit: us}", [START * 1000 + 999, START * 1000 + 1_000_000], SECONDS),
    ("{column: t, unit: ns}", [START * 1_000_000 + 5, (START + 1000) * 1_000_000], SECONDS),
    ("{column: t, unit: h, start: 2024-01-01}", [0, 744], [START, START + 31 * DAY]),
    ("{column: t, unit: d, start: 2024-01-01}", ["1", "2.5"], [START + DAY, START + 5 * DAY // 2]),
    ("{column: t}", [date(2024, 1, 1), date(2024, 1, 2)], [START, START + DAY]),
    ("{column: t}", [datetime(2024, 1, 1, 0, 0, 0, 123_999, tzinfo=UTC)] * 2, [START + 123] * 2),
    ("{column: t}", pa.array([START * 1_000_000 + 1] * 2, pa.timestamp("ns", "Europe/Berlin")),
     [START] * 2),
    (BERLIN, ["2024-01-01 01:00:00", "2024-01-01 01:00:01"], SECONDS),
    (BERLIN, pa.array([START // 1000 + 3600] * 2, pa.timestamp("s")), [START] * 2),
    ("{column: t, format: '%d/%m/%Y %H:%M'}", ["01/01/2024 00:00", "02/01/2024 00:00"],
     [START, START + DAY]),
    ("{columns: [y, m, d, c], format: '%Y-%m-%d-%H:%M'}", ["unused", "unused"],
     [START + 23_460_000, START + DAY]),
    ("{column: t}", pa.array([Decimal(START)] * 2, pa.decimal128(38, 0)), [START] * 2),
    ("{column: t, unit: d, start: 1899-12-30}", ["45292", "45292.5"], [START, START + DAY // 2]),
    ("{column: t, unit: s}", ["1.7040672e9", "1704067201.0"], SECONDS),
    ("{column: t, format: '%Y%m%d'}", [20240101, 20240102], [START, START + DAY]),
    ("{column: t, format: '%m/%d/%Y %I:%M %p'}", ["1/1/2024 12:00 AM", "1/2/2024 12:00 am"],
     [START, START + DAY]),
    ("{column: t}", pa.array([b"2024-01-01", b"2024-01-02"]), [START, START + DAY]),
    ("{column: t}", pa.array([START, START + 1000], pa.uint64()), SECONDS),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "cells", "expected"), TIMES)
def test_times_of_every_form_become_milliseconds(
    tmp_path: Path, spec: str, cells: Any, expected: list[int]
) -> None:
    found = mapped(
        tmp_path, with_time(spec), t=cells, y=[2024, 2024], m=[1, 1], d=[1, 2], c=["06:31", "00:00"]
    )
    assert found.faults == []
    assert values(found, "event_time") == expected


BAD_TIMES = [
    ("{column: t}", "2024-02-31 00:00:00", "not a time"),
    ("{column: t}", "2019-11-31", "not a time"),
    ("{column: t}", "", "missing"),
    ("{column: t}", "1704067200", "before 2000-01-01"),
    ("{column: t}", "2025-07-01", "ahead of our clock"),
    ("{column: t, format: '%d.%m.%Y'}", "31.02.2024", "not a time"),
    (BERLIN, "2024-03-31 02:30:00", "not a time"),
    (BERLIN, "2024-10-27 02:30:00", "shows it twice"),
    ("{column: t}", "01/02/2024", 'format: "%d/%m/%Y" or "%m/%d/%Y"'),
    ("{column: t}", "31.12.2024 23:59", "format"),
    ("{column: t}", "45292.5", "unit"),
    ("{column: t}", "1.704067200e9", "unit"),
    ("{column: t}", "2024-01-01T24:00:00", "ISO 8601"),
    ("{column: t}", "2016-12-31T23:59:60Z", "ISO 8601"),
    ("{column: t}", "0000-00-00 00:00:00", "ISO 8601"),
    ("{column: t}", "\\N", "ISO 8601"),
    ("{column: t}", "1900-01-01", "before 2000-01-01"),
    ("{column: t}", "9999-12-31", "ahead of our clock"),
    ("{column: t}", "20240101120000", "ahead of our clock"),
]


@pytest.mark.parametrize(("spec", "cell", "said"), BAD_TIMES)
def test_a_row_whose_time_cannot_be_is_rejected_alone(
    tmp_path: Path, spec: str, cell: str, said: str
) -> None:
    good = "01.01.2024" if "format" in spec else "2024-01-01 00:00:00"
    found = mapped(tmp_path, with_time(spec), t=[good, cell])
    assert len(values(found, "event_time")) == 1
    [fault] = found.faults
    assert (fault.row, fault.column, fault.value) == (1, "t", cell)
    assert said in fault.reason


def test_a_time_of_day_alone_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="columns"):
        mapped(tmp_path, t=pa.array([60, 70], pa.time32("s")))


EXTREMES = [
    pa.array([2**40, START // 1000], pa.timestamp("s")),
    pa.array([2**62, START * 1000], pa.timestamp("us")),
    pa.array([-(2**62), START * 1000], pa.timestamp("us")),
    pa.array([-(2**63) + 1, START * 1_000_000], pa.timestamp("ns")),
    pa.array([2**31 - 1, START // DAY], pa.date32()),
    pa.array([2**64 - 1, START], pa.uint64()),
    pa.array([2**50, START + 3_600_000], pa.timestamp("ms")),
]


@pytest.mark.parametrize("cells", EXTREMES, ids=lambda cells: str(cells.type))
def test_a_time_beyond_what_can_be_said_costs_its_row_and_not_the_file(
    tmp_path: Path, cells: pa.Array
) -> None:
    spec = BERLIN if cells.type == pa.timestamp("ms") else "{column: t}"
    found = mapped(tmp_path, with_time(spec), t=cells)
    assert [fault.row for fault in found.faults] == [0]
    assert values(found, "event_time") == [START]


AMOUNTS: list[tuple[str, list[Any] | pa.Array, list[int]]] = [
    ("{column: amt, unit: major}", [12.34, 0.29], [1234, 29]),
    ("{column: amt, unit: major}", [0.125, 0.375], [12, 38]),
    ("{column: amt, unit: major}", [Decimal("0.125"), Decimal("0.375")], [12, 38]),
    ("{column: amt, unit: major}", ["0.125", "1.015"], [12, 102]),
    ("{column: amt, unit: major}", pa.array([Decimal("1.50"), Decimal("2")], pa.decimal128(38, 18)),
     [150, 200]),
    ("{column: amt, unit: major}", ["€1,234.50", "€134.09"], [123_450, 13_409]),
    ("{column: amt, unit: major}", ["1.000,50", "1.000"], [100_050, 100_000]),
    ("{column: amt, unit: major}", ["1 234,50 €", "12,5"], [123_450, 1250]),
    ("{column: amt, unit: major}", ["1'234.50", "EUR 7"], [123_450, 700]),
    ("{column: amt, unit: major, decimal: ','}", ["1,234", "1.000"], [123, 100_000]),
    ("{column: amt, unit: major, decimal: '.'}", ["1,234", "1.000"], [123_400, 100]),
    ("{column: amt}", [1234, 29], [1234, 29]),
    ("{column: amt}", ["1234", "29.0"], [1234, 29]),
    ("{column: amt}", [1234.0, 29.0], [1234, 29]),
    ("{column: amt}", pa.array([b"1234", b"29"]), [1234, 29]),
    ("{column: amt, unit: major}", pa.array(["1.5", "2"]).dictionary_encode(), [150, 200]),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "cells", "expected"), AMOUNTS)
def test_amounts_of_every_form_become_minor_units(
    tmp_path: Path, spec: str, cells: Any, expected: list[int]
) -> None:
    found = mapped(tmp_path, with_amount(spec), amt=cells)
    assert found.faults == []
    assert values(found, "amount") == expected


BAD_AMOUNTS = [
    ("{column: amt, unit: major}", "€-99.00", "negative"),
    ("{column: amt, unit: major}", "(12.00)", "negative"),
    ("{column: amt, unit: major}", "12.00-", "negative"),
    ("{column: amt, unit: major}", "twelve", "not a number"),
    ("{column: amt, unit: major}", "1,23,4.00", "not a number"),
    ("{column: amt, unit: major}", "1,234", "not a number"),
    ("{column: amt, unit: major}", "", "missing"),
    ("{column: amt}", "12.5", "not a number"),
    ("{column: amt}", "1000000000001", "out of range"),
    ("{column: amt, unit: major}", "99999999999999999999", "not a number"),
    ("{column: amt, unit: major}", "12.5%", "not a number"),
    ("{column: amt, unit: major}", "12.00 CR", "negative"),
    ("{column: amt, unit: major}", "12.50 USD", "another currency"),
    ("{column: amt, unit: major}", "NULL", "not a number"),
]


@pytest.mark.parametrize(("spec", "cell", "said"), BAD_AMOUNTS)
def test_a_row_whose_amount_cannot_be_is_rejected_alone(
    tmp_path: Path, spec: str, cell: str, said: str
) -> None:
    found = mapped(tmp_path, with_amount(spec), amt=["10", cell])
    assert len(values(found, "amount")) == 1
    [fault] = found.faults
    assert (fault.row, fault.column, fault.value) == (1, "amt", cell)
    assert said in fault.reason


def test_whole_numbers_beyond_64_bits_and_columns_without_values_cost_their_rows(
    tmp_path: Path,
) -> None:
    found = mapped(tmp_path, with_amount("amt"), amt=pa.array([2**64 - 1, 5], pa.uint64()))
    assert values(found, "amount") == [5]
    assert {each.kind for each in mapped(tmp_path, amt=pa.nulls(2)).faults} == {"amount is missing"}


TYPES: list[tuple[str, str, Any]] = [
    ("card", "card_id", [{"a": 1}, {"a": 2}]),
    ("card", "card_id", [b"c", b"\xff\xfe"]),
    ("amt", "amount", [[1], [2]]),
    ("amt", "amount", [True, False]),
    ("t", "event_time", [True, False]),
    ("code", "mcc", [True, False]),
    ("code", "mcc", [date(2024, 1, 1)] * 2),
]


@pytest.mark.parametrize(("column", "field", "cells"), TYPES)
def test_a_column_of_a_type_that_cannot_be_meant_is_refused(
    tmp_path: Path, column: str, field: str, cells: Any
) -> None:
    with pytest.raises(ConfigurationError, match=rf"field {field}.*(type|bytes)"):
        mapped(tmp_path, BASE + "  mcc: code\n", **{"code": [1, 2], column: cells})


def test_a_value_that_is_infinite_is_rejected(tmp_path: Path) -> None:
    found = mapped(tmp_path, amt=[1.0, float("inf")])
    assert [each.row for each in found.faults] == [1]


def test_decimals_and_rates_are_those_of_the_row_s_currency(tmp_path: Path) -> None:
    found = mapped(tmp_path, amt=["1000", "1.234", "10.00", "1"], cur=["JPY", "KWD", "usd", "XYZ"])
    assert values(found, "amount") == [1000, 1234, 1000]
    assert values(found, "base_amount") == [600, 370, 900]
    assert values(found, "currency") == ["JPY", "KWD", "USD"]
    [fault] = found.faults
    assert "ISO 4217" in fault.reason
    assert "3 decimals" not in str(found.notes)


@pytest.mark.parametrize(
    "cells", [[1000.5, 7.0], ["1000.5", "¥7"], [Decimal("1000.5"), Decimal(7)]]
)
def test_parts_of_a_yen_are_rounded_and_noted(tmp_path: Path, cells: list[Any]) -> None:
    found = mapped(tmp_path, cur=["JPY", "JPY"], amt=cells)
    assert values(found, "amount") == [1000, 7]
    assert "1 values have more decimals" in str(found.notes)


def test_a_currency_without_a_rate_is_rejected_by_name(tmp_path: Path) -> None:
    [fault] = mapped(tmp_path, cur=["EUR", "CHF"]).faults
    assert (fault.value, "FRAUD_CURRENCY_RATES" in fault.reason) == ("CHF", True)


def test_rounding_is_noted(tmp_path: Path) -> None:
    assert "1 values have more decimals" in str(mapped(tmp_path, amt=["1.005", "2.00"]).notes)


def test_ids_are_texts_whatever_they_look_like(tmp_path: Path) -> None:
    cells = ["007", "7", "12345678901234567890", "12345678901234567891", "12e34567"]
    assert values(mapped(tmp_path, card=cells), "card_id") == cells


WHOLE: list[tuple[Any, list[str | None]]] = [
    ([5, 3, 5], ["5", "3", "5"]),
    ([-(2**40), 7, 7], [str(-(2**40)), "7", "7"]),
    ([None, 1, 2], [None, "1", "2"]),
    ([1.0, None, 3.0], ["1", None, "3"]),
    ([1.5, 2.0**60, 3.0], [None, None, "3"]),
    ([Decimal("12"), None, Decimal("3")], ["12", None, "3"]),
    (["", "x", " "], [None, "x", " "]),
]


@pytest.mark.parametrize(("cells", "expected"), WHOLE)
def test_whole_numbers_become_their_decimal_text(
    tmp_path: Path, cells: Any, expected: list[str | None]
) -> None:
    found = mapped(tmp_path, BASE + "  device_id: phone\n", phone=cells)
    assert values(found, "device_id") == expected


DOUBTFUL = [
    ("4.11111E+15", "rounded by a spreadsheet"),
    ("NULL", "missing value"),
    ("\\N", "missing value"),
    ("nan", "missing value"),
    ("-", "missing value"),
    ("12.0", "decimal point"),
    ('="007"', "marks of a spreadsheet"),
    ("'007", "marks of a spreadsheet"),
]


@pytest.mark.parametrize(("cell", "said"), DOUBTFUL)
def test_ids_that_an_export_has_spoilt_are_noted_and_not_changed(
    tmp_path: Path, cell: str, said: str
) -> None:
    found = mapped(tmp_path, card=["c", cell])
    assert values(found, "card_id") == ["c", cell]
    [note] = [note for note in found.notes if note.startswith("card_id: 1 values")]
    assert said in note
    assert repr(cell) in note
    assert mapped(tmp_path, card=["c", "1E400", "7.5", "--"]).notes == []


def test_texts_that_stand_for_a_missing_value_are_named(tmp_path: Path) -> None:
    text = BASE + '  device_id: phone\nfile: {missing: ["NULL", "-"]}\n'
    found = mapped(tmp_path, text, card=["c", "NULL"], phone=["-", "p"], amt=["1", "-"])
    assert values(found, "device_id") == [None]
    assert [each.kind for each in found.faults] == ["card_id is missing"]
    assert found.notes == []


def test_texts_of_the_file_stand_for_codes_of_ours(tmp_path: Path) -> None:
    text = BASE.replace(
        "currency: cur", 'currency: {column: cur, values: {"978": EUR, "392": JPY}}'
    )
    text += "  channel: {column: how, values: {Chip Transaction: POS, Online: ECOM}}\n"
    text += '  mcc: {column: what, values: {grocery: "5411"}}\n'
    found = mapped(
        tmp_path, text, cur=["978", "392", "EUR"], amt=[1, 2, 3],
        how=["Chip Transaction", "atm", "Phone"], what=["grocery", "742", "travel"],
    )  # fmt: skip
    assert values(found, "currency") == ["EUR", "JPY", "EUR"]
    assert values(found, "channel") == ["POS", "ATM", None]
    assert values(found, "mcc") == [5411, 742, None]
    assert found.unread == {"channel": 1, "mcc": 1}


def test_an_empty_value_of_a_required_field_rejects_the_row(tmp_path: Path) -> None:
    for hole in (None, ""):
        found = mapped(tmp_path, shop=["s", hole])
        assert [(each.row, each.column) for each in found.faults] == [(1, "shop")]


def test_ids_that_are_too_long_are_rejected(tmp_path: Path) -> None:
    found = mapped(tmp_path, card=["c" * 64, "ü" * 64, "c" * 65])
    assert [each.row for each in found.faults] == [2]
    assert "65 characters" in found.faults[0].reason


def test_a_card_number_is_refused_or_becomes_its_token(tmp_path: Path) -> None:
    cards = ["4111111111111111", "4111 1111 1111 1111", "4111111111111112"]
    found = mapped(tmp_path, card=cards)
    assert [each.row for each in found.faults] == [0, 1]
    assert "411111" not in str(found.faults)
    tokens = values(mapped(tmp_path, pan_key=b"k" * 32, card=cards), "card_id")
    assert tokens[0] == tokens[1] != tokens[2]
    assert tokens[0].startswith("pan1-")


CONTEXT: list[tuple[str, Any, list[Any]]] = [
    ("ip_country", ["DE", "T1", "UK", "gb", "USA"], ["DE", None, "GB", "GB", None]),
    ("channel", ["POS", "ecom", "ecommerce", None, ""], ["POS", "ECOM", None, None, None]),
    ("mcc", ["0742", "5411", "999999", "x", ""], [742, 5411, None, None, None]),
    ("latitude", [1.5, -91.0, None, float("nan"), 90.0], [1.5, None, None, None, 90.0]),
    ("ip", ["192.0.2.7", "::ffff:192.0.2.7", "nowhere", None, ""],
     ["192.0.2.7", "::ffff:192.0.2.7", None, None, None]),
    ("ip", [732758368, 4294967296, 0, None, 3232235777],
     ["43.173.1.96", None, "0.0.0.0", None, "192.168.1.1"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "cells", "expected"), CONTEXT)
def test_context_that_cannot_be_read_costs_the_field_and_not_the_row(
    tmp_path: Path, name: str, cells: Any, expected: list[Any]
) -> None:
    found = mapped(tmp_path, BASE + f"  {name}: it\n", it=cells)
    assert found.faults == []
    assert values(found, name) == expected
    lost = [cell for cell, kept in zip(cells, expected, strict=True) if cell and kept is None]
    lost = [cell for cell in lost if cell not in ("T1",)]  # which says that it is not known
    assert found.unread == ({name: len(lost)} if lost else {})


LABELS: list[tuple[str, Any, list[Any]]] = [
    ("{column: bad, fraud: true}", ["true", "False", ""], [True, False, None]),
    ("{column: bad, fraud: 'Yes'}", ["Yes", "No", "No"], [True, False, False]),
    ("{column: bad, fraud: 1}", ["1", "0", "0"], [True, False, False]),
    ("{column: bad}", [1.0, 0.0, None], [True, False, None]),
    ("{column: bad}", [True, False, None], [True, False, None]),
    ("{column: bad, fraud: false}", [True, False, None], [False, True, None]),
    ("{column: bad, fraud: 1}", ["1.0", "0.0", " "], [True, False, None]),
    ("{column: bad, fraud: 1.0}", ["1", "0", None], [True, False, None]),
    ("{column: bad, fraud: T}", ["T", "F", "F"], [True, False, False]),
    ("{column: bad}", [1.0, 0.0, float("nan")], [True, False, None]),
    ("{column: bad}", [Decimal("1.0"), Decimal("0"), None], [True, False, None]),
    ("{column: bad}", pa.array([1, 0, 0]).dictionary_encode(), [True, False, False]),
]


@pytest.mark.parametrize(("spec", "cells", "expected"), LABELS)
def test_labels_of_every_form(tmp_path: Path, spec: str, cells: Any, expected: list[Any]) -> None:
    found = mapped(tmp_path, BASE + f"  label: {spec}\n", bad=cells)
    assert values(found, "label") == expected
    assert found.notes == []


def test_yaml_s_own_booleans_are_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"boolean.*quotes"):
        mapped(tmp_path, BASE + "  label: {column: bad, fraud: Yes}\n", bad=["Yes", "No"])


def test_a_label_that_no_row_has_is_noted(tmp_path: Path) -> None:
    found = mapped(tmp_path, BASE + "  label: {column: bad, fraud: fraud}\n", bad=["Y", "N"])
    assert "no row is fraud" in str(found.notes)
    assert "'Y', 'N'" in str(found.notes)


def test_labels_that_say_neither_are_noted(tmp_path: Path) -> None:
    cells = ["Y", "N", "pending", "NULL"]
    found = mapped(tmp_path, BASE + "  label: {column: bad, fraud: 'Y'}\n", bad=cells)
    assert values(found, "label") == [True, False, False, False]
    assert "everything but 'Y' is read as genuine: 'N', 'pending', 'NULL'" in str(found.notes)
    text = BASE + "  label: {column: bad, fraud: 'Y', genuine: 'N'}\n"
    found = mapped(tmp_path, text, bad=cells)
    assert values(found, "label") == [True, False, None, None]
    assert "no label: 'pending', 'NULL'" in str(found.notes)


def test_a_column_without_labels_is_noted(tmp_path: Path) -> None:
    found = mapped(tmp_path, BASE + "  label: bad\n", bad=pa.nulls(2))
    assert "the column holds nothing" in str(found.notes)


def test_a_label_is_not_known_before_its_transaction_or_in_another_age(tmp_path: Path) -> None:
    text = BASE + "  label: {column: bad, known: then}\n"
    found = mapped(tmp_path, text, bad=[1, 1, 0], then=[START * 1000, START - DAY, None])
    assert [(each.row, each.column, each.kind) for each in found.faults] == [
        (0, "then", "label_time is more than a year ahead"),
        (1, "then", "label_time is before transaction_time"),
    ]


def test_a_column_that_never_changes_is_noted(tmp_path: Path) -> None:
    assert "card_id is 'one' in every row" in mapped(tmp_path, card=["one", "one"]).notes


def test_a_label_may_have_a_time_of_its_own_and_a_delay(tmp_path: Path) -> None:
    text = BASE + "  label: {column: bad, known: then, delay: 90m}\n"
    found = mapped(tmp_path, text, bad=[0, 1, 1], then=[None, START + 77_000, START])
    assert values(found, "label_time") == [
        START + 5_400_000, START + 77_000 + 5_400_000, START + 5_400_000
    ]  # fmt: skip


def test_ids_are_dictionaries_of_their_distinct_values(tmp_path: Path) -> None:
    shops = mapped(tmp_path, shop=[3, 4] * 50).table.column("merchant_id").chunk(0)
    assert pa.types.is_dictionary(shops.type)
    assert shops.dictionary.to_pylist() == ["3", "4"]


@pytest.mark.parametrize("name", ["handbook", "generator"])
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


def test_notes_show_no_card_number(tmp_path: Path) -> None:
    text = BASE + "  customer_id: who\n  mcc: code\n  label: {column: bad, fraud: Y}\n"
    number = "4111111111111111"
    found = mapped(
        tmp_path, text, who=["x" * 257 + number] * 2, code=[number] * 2, bad=[number] * 2
    )
    assert len(found.notes) >= 3
    assert number[:12] not in str(found.notes)


KIND = "  kind: {column: type, values: {R: refund, chk: VERIFICATION}}\n"


def test_a_column_of_kinds_is_read_by_its_values_and_by_our_own_names(tmp_path: Path) -> None:
    found = mapped(tmp_path, BASE + KIND, type=["R", "purchase", "", "chk", "Reversal", "sale"])
    assert values(found, "kind") == ["REFUND", "PURCHASE", None, "VERIFICATION", "REVERSAL"]
    [fault] = found.faults
    assert (fault.row, fault.column, fault.value, fault.kind) == (
        5, "type", "sale", "kind is unknown",
    )  # fmt: skip


def test_negative_amounts_may_be_refunds_whatever_the_column_of_kinds_says(tmp_path: Path) -> None:
    text = BASE.replace("unit: major}", "unit: major, negative: refund}")
    amounts = ["10.50", "-3.20", "(4.00)", "5.00-", "7.00"]
    found = mapped(tmp_path, text, amt=amounts)
    assert values(found, "amount") == [1050, 320, 400, 500, 700]
    assert values(found, "base_amount") == [1050, 320, 400, 500, 700]
    assert values(found, "kind") == ["PURCHASE", "REFUND", "REFUND", "REFUND", "PURCHASE"]
    both = mapped(tmp_path, text + KIND, amt=amounts, type=["chk", "purchase", "", "R", "R"])
    assert values(both, "kind") == ["VERIFICATION", "REFUND", "REFUND", "REFUND", "REFUND"]
    assert found.faults == both.faults == []


def test_a_negative_amount_without_a_way_to_read_it_names_the_remedy(tmp_path: Path) -> None:
    [fault] = mapped(tmp_path, amt=["-1.00"]).faults
    assert fault.reason == (
        "amount is negative: of a refund send what is given back, with the kind REFUND"
    )


def test_unread_context_is_counted_by_field_in_the_rows_that_are_kept(tmp_path: Path) -> None:
    text = BASE + "  ip: ip\n  mcc: mcc\n  ip_country: land\n"
    found = mapped(
        tmp_path, text, amt=["1", "2", "-3"], ip=["here", "192.0.2.1", "there"],
        mcc=["0742", "x", "y"], land=["T1", "QQ", "EU"],
    )  # fmt: skip
    assert found.unread == {"ip": 1, "ip_country": 1, "mcc": 1}


@pytest.mark.parametrize(
    ("amounts", "back"),
    [
        (["1.00", "2.00-"], "refund"), (["(3.20)"], "refund"), (["€-3.20"], "refund"),
        (["3.20 CR"], "refund"), ([1.0, -2.0], "refund"), ([1, None], None), (["1e-5"], None),
        ([[-1]], None),
    ],
)  # fmt: skip
def test_a_proposed_mapping_reads_negative_amounts_as_refunds(
    amounts: list[Any], back: str | None
) -> None:
    assert guess(pa.table({"amount": amounts}))["amount"].get("negative") == back
