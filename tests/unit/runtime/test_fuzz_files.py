"""Whatever a file and its mapping hold, rows are used or rejected, or both are refused."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runtime.files.intake import read_transactions
from runtime.files.options import RejectOptions
from runtime.files.tables import column_names, read_table
from schemas.currency import CurrencyTable
from schemas.errors import ConfigurationError
from schemas.mapping.document import FIELDS, Mapping
from schemas.mapping.guess import guess
from schemas.rules.label import check_label_time
from schemas.rules.transaction import REQUIRED, Rules, read_field
from tests.support.fuzzing import Edits, edited, edits, fuzzed

CORPUS: Final = json.loads(Path(__file__).with_name("file_corpus.json").read_text())
"""Cases that once ended the command, or let in what no message could bring."""
NOW: Final = 1_750_000_000_000
RULES: Final = Rules.at(NOW, CurrencyTable("EUR", {"USD": 0.9, "JPY": 0.006, "KWD": 3.0}))
COLUMNS: Final = ("id", "card", "shop", "t", "amt", "cur", "lab", "more")
GOOD: Final[dict[str, Any]] = {
    "transaction_id": "id", "card_id": "card", "merchant_id": "shop", "event_time": {"column": "t"},
    "amount": {"column": "amt", "unit": "major"}, "currency": "cur",
    "label": {"column": "lab", "fraud": "1"},
}  # fmt: skip
CELLS: Final = st.sampled_from((
    "", " ", "1", "0", "007", "c1", "NULL", "\\N", "nan", "inf", "-", "true", "Yes", "1.0", "EUR",
    "usd", "JPY", "€", "978", "T1", "UK", "DE", "POS", "5411", "54110", "12,50", "1.234,56",
    "$-99.00",
    "(12.00)", "12.00 CR", "1 234,5", "1e400", "1E+15", "9" * 25, "9" * 400, "٣", "½", "²",
    "2024-01-01",
    "2024-01-01 00:00:00", "2024-02-31", "2024-01-01T24:00", "01/02/2024", "1704067200",
    "1704067200000",
    "1704067200.5", "-1", "0000-00-00", "9999-12-31", "2024-03-31 02:30", "4111111111111111",
    "192.0.2.1",
    "::1", "4294967296", "52,5", "=1+1", "x" * 300, "\x00", "é", "a\tb", "'", '"',
)) | st.text(max_size=8)  # fmt: skip
OPTIONS: Final = st.sampled_from((
    "column", "columns", "separator", "constant", "prefix", "values", "unit", "format", "start",
    "timezone",
    "decimal", "fraud", "genuine", "delay", "known", "generate",
))  # fmt: skip
VALUES: Final[st.SearchStrategy[Any]] = st.sampled_from((
    *COLUMNS, "s", "ms", "us", "ns", "h", "d", "major", "minor", "integer", "text", ",", ".",
    "row_number",
    "Europe/Berlin", "UTC", "Nowhere", "../../etc", "%Y-%m-%d", "%d.%m.%Y", "%Q", "%",
    "2024-01-01", "1e9",
    "7d", "999999d", "-1d", "²d", "1.d", "1", "0", 1, 0, 1.5, True, False, None, 2**70,
    float("nan"),
    date(2024, 1, 1), datetime(2024, 1, 1), [], ["id", "card"], ["t", 1], [[]], {}, {"1": "EUR"},
    {1: 2},
)) | st.text(max_size=6)  # fmt: skip
SPECIFICATIONS: Final = st.sampled_from(COLUMNS) | st.dictionaries(OPTIONS, VALUES, max_size=4) | (
    st.builds(
        lambda column, more: {"column": column, **more},
        st.sampled_from(COLUMNS), st.dictionaries(OPTIONS, VALUES, max_size=2),
    )
)  # fmt: skip
FORMS: Final = st.dictionaries(
    st.sampled_from(("separator", "quote", "encoding", "skip", "missing")),
    st.sampled_from((";", ",", "\t", "\n", "a", '"', "'", "", "€", ",,", "utf-16", "latin-1",
                     "cp1252", "rot13",
                     "base64", "idna", "undefined", "none", 0, 1, 5, -1, 10**9, True,
                     ["NULL", "-"],
                     [1], [])),
    max_size=2,
)  # fmt: skip
ARROW: Final = st.sampled_from((
    (pa.string(), st.text(max_size=8) | CELLS), (pa.large_string(), CELLS),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.int8(), st.integers(-128, 127)), (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.bool_(), st.booleans()),
    (pa.float64(), st.floats()), (pa.float32(), st.floats(width=32)),
    (pa.binary(), st.binary(max_size=9)),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    (pa.decimal128(38, 10), st.integers(-(10**9), 10**9).map(lambda each: Decimal(each) / 8)),
    (pa.decimal128(38, 0), st.integers(-(10**37), 10**37).map(Decimal)),
    (pa.decimal256(76, 0), st.integers(-(10**75), 10**75).map(Decimal)),
    (pa.date32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.date64(), st.integers(-(2**36), 2**36).map(lambda each: each * 86_400_000)),
    (pa.timestamp("s"), st.integers(-(2**52), 2**52)),
    (pa.timestamp("ms"), st.integers(-(2**62), 2**62)),
    (pa.timestamp("us", "Europe/Berlin"), st.integers(-(2**62), 2**62)),
    (pa.timestamp("ns"), st.integers(-(2**62), 2**62)),
    (pa.time32("s"), st.times().map(lambda each: each.replace(microsecond=0))),
    (pa.duration("s"), st.integers(0, 10**6).map(lambda each: timedelta(seconds=each))),
    (pa.list_(pa.int64()), st.lists(st.integers(0, 9), max_size=2)),
    (pa.struct([("a", pa.int64())]), st.fixed_dictionaries({"a": st.integers(0, 9)})),
    (pa.null(), st.none()),
))  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Return a strategy of mappings: good ones with other fields and options, and other bytes."""
    fields = GOOD | draw(st.dictionaries(st.sampled_from(FIELDS), SPECIFICATIONS, max_size=3))
    document: dict[str, Any] = {"fields": fields}
    form = draw(FORMS)
    if form:
        document["file"] = form
    text = yaml.safe_dump(document, allow_unicode=True).encode()
    return edited(text, draw(st.just(Edits()) | edits((b"{", b"[", b"&a *a", b"!!int x", b": "))))


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a strategy of names and contents of files."""
    if draw(st.booleans()):
        return draw(_texts())
    return draw(_parquet())


@st.composite
def _texts(draw: st.DrawFn) -> tuple[str, bytes]:
    sign = draw(st.sampled_from((",", ";", "\t", "|", "^")))
    names = draw(st.just(list(COLUMNS)) | st.lists(st.sampled_from(COLUMNS), max_size=9))
    rows = draw(st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), max_size=5))
    quoted = draw(st.booleans())
    lines = [sign.join(names)]
    lines += [sign.join(f'"{cell}"' if quoted else cell for cell in row) for row in rows]
    text = draw(st.sampled_from(("", "\ufeff", "sep=;\n", "\n"))) + "\n".join(lines)
    encoding = draw(st.sampled_from(("utf-8", "utf-8", "utf-16", "utf-16-le", "utf-32", "cp1252")))
    content = edited(
        text.encode(encoding, errors="replace"), draw(edits((b'"', b"\n", b"\r", b",")))
    )
    return draw(st.sampled_from(("a.csv", "a.tsv", "a.csv.gz", "a.csv.zst", "a.csv.bz2"))), content


@st.composite
def _parquet(draw: st.DrawFn) -> tuple[str, bytes]:
    rows = draw(st.integers(0, 4))
    columns: dict[str, Any] = {
        "id": pa.array([f"t{row}" for row in range(rows)], pa.string()),
        "card": pa.array(["c1"] * rows, pa.string()), "shop": pa.array(["s"] * rows, pa.string()),
        "t": pa.array([NOW - row for row in range(rows)], pa.int64()),
        "amt": pa.array([1.5] * rows, pa.float64()), "cur": pa.array(["EUR"] * rows, pa.string()),
        "lab": pa.array([1] * rows, pa.int64()), "more": pa.array(["m"] * rows, pa.string()),
    }  # fmt: skip
    for name in draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=4)):
        kind, cells = draw(ARROW)
        values = draw(st.lists(st.none() | cells, min_size=rows, max_size=rows))
        array = _array(values, kind)
        coded = draw(st.booleans()) and not pa.types.is_nested(kind) and kind != pa.null()
        columns[name] = array.dictionary_encode() if coded else array
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content = sink.getvalue().to_pybytes()
    return "a.parquet", edited(content, draw(st.just(Edits()) | edits()))


def _array(values: list[Any], kind: Any) -> Any:
    if pa.types.is_date32(kind):
        return pa.array(values, pa.int32()).cast(kind)
    if pa.types.is_date64(kind) or pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = [each and each.encode(errors="replace").decode() for each in values]
    return pa.array(values, kind)


def harm(folder: Path, document: bytes, name: str, content: bytes) -> None:
    """Read a file by a mapping, and propose one; fails if that does any harm."""
    path, mapping, rejects = folder / name, folder / "m.yaml", folder / "rejects"
    path.write_bytes(content)
    mapping.write_bytes(document)
    options = RejectOptions(max_share=1.0, file=rejects)
    try:
        found = read_transactions(path, Mapping.load(mapping), RULES, options)
    except ConfigurationError as error:
        _named(error, folder)
    else:
        assert found.table.num_rows + sum(found.rejected.values()) == found.rows
        for row in found.table.to_pylist():
            for field in REQUIRED:
                assert read_field(field, row, RULES) == row[field]
            if row.get("label_time") is not None:
                check_label_time(row["label_time"], row["event_time"], NOW, row["label_time"])
            assert row["base_amount"] == RULES.currencies.to_base(row["amount"], row["currency"])
    try:
        names = column_names(path)
        guess(read_table(path, [each for each in names if names.count(each) == 1]).table)
    except ConfigurationError as error:
        _named(error, folder)


def _named(error: ConfigurationError, folder: Path) -> None:
    if str(folder) not in str(error):
        pytest.fail(f"{error} does not name the file")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@fuzzed(examples=150)
@given(documents(), files())
def test_any_file_by_any_mapping_is_read_or_refused(
    folder: Path, document: bytes, file: tuple[str, bytes]
) -> None:
    harm(folder, document, *file)


@fuzzed(examples=150)
@given(files())
def test_any_file_by_a_good_mapping_is_read_or_refused(
    folder: Path, file: tuple[str, bytes]
) -> None:
    harm(folder, yaml.safe_dump({"fields": GOOD}).encode(), *file)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case["what"])
def test_what_once_did_harm_is_read_or_refused(folder: Path, case: dict[str, str]) -> None:
    harm(folder, case["mapping"].encode(), case["name"], bytes.fromhex(case["content"]))
