"""Files as people have them: read as they are written, and what cannot be used set aside."""

from __future__ import annotations

import bz2
import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runtime.files.intake import Intake, read_transactions
from runtime.files.options import RejectOptions
from runtime.files.tables import column_names, read_table
from schemas.currency import CurrencyTable
from schemas.errors import ConfigurationError
from schemas.mapping.document import Mapping
from schemas.rules.transaction import Rules

NOW = 1_750_000_000_000
HEAD = "id,card,shop,t,amt,cur"
GOOD = "1,007,0012,2024-01-01 00:00:00,10.00,EUR"
FIELDS = {
    "transaction_id": {"column": "id"}, "card_id": {"column": "card"},
    "merchant_id": {"column": "shop"}, "event_time": {"column": "t"},
    "amount": {"column": "amt", "unit": "major"}, "currency": {"column": "cur"},
}  # fmt: skip


def intake(path: Path, options: RejectOptions | None = None, **form: str) -> Intake:
    mapping = Mapping("m.yaml", FIELDS, form)
    return read_transactions(path, mapping, Rules.at(NOW, CurrencyTable()), options)


def cells(path: Path, **form: str) -> list[list[str]]:
    table = read_table(path, ["id", "card"], form).table
    return [list(row.values()) for row in table.to_pylist()]


WRITTEN = {
    "plain.csv": b"id,card\n1,007\n2,12345678901234567890\n",
    "semicolons.csv": b"id;card\n1;007\n2;12345678901234567890\n",
    "tabs.tsv": b"id\tcard\n1\t007\n2\t12345678901234567890\n",
    "bars.txt": b"id|card\n1|007\n2|12345678901234567890\n",
    "windows.csv": b"\xef\xbb\xbfid,card\r\n1,007\r\n2,12345678901234567890\r\n",
    "wide.csv": "id,card\n1,007\n2,12345678901234567890\n".encode("utf-16"),
    "quoted.csv": b'"id","card"\n"1","007"\n"2","12345678901234567890"\n',
    "single.csv": b"id,card\n'1','007'\n'2','12345678901234567890'\n",
    "upper.csv": b"ID, Card\n1,007\n2,12345678901234567890\n",
    "more.csv": b"note,id,card\nx,1,007\ny,2,12345678901234567890\n",
    "wider.csv": "id,card\n1,007\n2,12345678901234567890\n".encode("utf-32"),
    "excel.csv": b"sep=;\r\nid;card\r\n1;007\r\n2;12345678901234567890\r\n",
    "old_mac.csv": b"id,card\r1,007\r2,12345678901234567890\r",
    "gaps.csv": b"\nid,card\n\n1,007\n\n2,12345678901234567890\n",
    "zipped.csv.gz": gzip.compress(b"id,card\n1,007\n2,12345678901234567890\n"),
    "zipped.csv.bz2": bz2.compress(b"id,card\n1,007\n2,12345678901234567890\n"),
    "zipped.csv.zst": bytes(pa.compress(
        b"id,card\n1,007\n2,12345678901234567890\n", codec="zstd", asbytes=True
    )),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_a_text_file_of_any_form_keeps_its_texts(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(WRITTEN[name])
    assert cells(tmp_path / name) == [["1", "007"], ["2", "12345678901234567890"]]


def test_lines_before_the_header_are_skipped_as_the_mapping_says(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Report of January\n\nid^card\n1^007\nbroken\n2^8\n")
    found = read_table(tmp_path / "a.csv", ["id", "card"], {"skip": "2", "separator": "^"})
    assert found.table.to_pylist() == [{"id": "1", "card": "007"}, {"id": "2", "card": "8"}]
    assert [line.row for line in found.cut] == [1]


def test_a_text_may_hold_separators_and_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,card\n"1\n2","a,b"\n')
    assert cells(tmp_path / "a.csv") == [["1\n2", "a,b"]]


def test_another_encoding_is_given_or_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("id,card\n1,Müller\n".encode("latin-1"))
    assert cells(tmp_path / "a.csv", encoding="latin-1") == [["1", "Müller"]]
    with pytest.raises(ConfigurationError, match=r"a\.csv"):
        cells(tmp_path / "a.csv")


def test_a_folder_is_its_part_files_in_order(tmp_path: Path) -> None:
    for number, rows in ((1, [3, 4]), (0, [1, 2])):
        part = pa.table({"id": rows, "card": [f"c{row}" for row in rows]})
        pq.write_table(part, tmp_path / f"part-{number:05}.parquet")
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log" / "0.parquet").touch()
    assert cells(tmp_path) == [[1, "c1"], [2, "c2"], [3, "c3"], [4, "c4"]]
    assert column_names(tmp_path) == ["id", "card"]


def test_times_of_spark_are_read(tmp_path: Path) -> None:
    times = pa.table({"id": pa.array([1_704_067_200_123_456], pa.timestamp("us"))})
    pq.write_table(times, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    [moment] = read_table(tmp_path / "a.parquet", ["id"]).table.column("id").cast(pa.int64())
    assert moment.as_py() == 1_704_067_200_123_456


UNREADABLE: list[tuple[str, Callable[[Path], object], str]] = [
    ("absent.csv", lambda _: None, r"absent\.csv"),
    ("notes.pdf", lambda path: path.touch(), r"expected a \.parquet"),
    ("broken.parquet", lambda path: path.write_bytes(b"PAR1"), r"broken\.parquet"),
    ("empty", lambda path: path.mkdir(), "no .parquet or .csv files"),
    ("cut.csv.gz", lambda path: path.write_bytes(gzip.compress(b"id\n1\n" * 999)[:40]), "cut"),
    ("none.csv", lambda path: path.touch(), "is empty"),
    ("blank.csv", lambda path: path.write_text(" \n\n"), "is empty"),
    ("book.xlsx", lambda path: path.touch(), "save its sheet as CSV"),
    ("book.csv", lambda path: path.write_bytes(b"PK\x03\x04\0\0"), "save its sheet as CSV"),
    ("old.csv", lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0\0"), "save its sheet as CSV"),
    ("day.csv.zip", lambda path: path.touch(), "unpack it first"),
    ("day.json", lambda path: path.touch(), "write it as Parquet or CSV"),
    ("gz.csv", lambda path: path.write_bytes(gzip.compress(b"id\n1\n")), r"name it \.csv\.gz"),
    ("pq.csv", lambda path: path.write_bytes(b"PAR1"), r"name it \.parquet"),
    ("lfs.csv", lambda path: path.write_text("version https://git-lfs.github.com\n"), "Git LFS"),
    ("page.csv", lambda path: path.write_text("<html>\n"), "log-in"),
    ("wide.csv", lambda path: path.write_bytes("id\n1\n".encode("utf-16-le")), "utf-16-le"),
    ("big.csv", lambda path: path.write_bytes("id\n1\n".encode("utf-16-be")), "utf-16-be"),
    ("latin.csv", lambda path: path.write_bytes(b"id\nM\xfcller\n"), "encoding: cp1252"),
    ("signs.csv", lambda path: path.write_text("a^id\n1^2\n"), r"'a\^id': write file.*separator"),
    ("title.csv", lambda path: path.write_text("Report\nid,b\n1,2\n"), "skip"),
    ("bare.csv", lambda path: path.write_text("1,c1\n2,c2\n"), "first line must be the names"),
    ("twice.csv", lambda path: path.write_text("id,id\n1,2\n"), "several columns that 'id'"),
    ("cases.csv", lambda path: path.write_text("ID,Id\n1,2\n"), "'ID', 'Id'; rename"),
]


@pytest.mark.parametrize(("name", "make", "said"), UNREADABLE)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, name: str, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(ConfigurationError, match=said):
        read_table(tmp_path / name, ["id"])


UNTIDY = f"""{HEAD}
{GOOD}
2,7,12,2019-11-31,10.00,EUR
3,7,12,2024-01-01 00:00:02,€-99.00,EUR
4,7,12,2024-01-01 00:00:03,"1,234.50",EUR
5,7,12,2099-01-01 00:00:03,10.00,EUR
6,7,12,2024-01-01 00:00:05,10.00,XXX
7,,12,2024-01-01 00:00:06,10.00,EUR
8,7,12,2024-01"""


def test_each_bad_row_is_rejected_with_row_column_value_and_reason(tmp_path: Path) -> None:
    path, rejects = tmp_path / "a.csv", tmp_path / "rejects.csv"
    path.write_text(UNTIDY)
    found = intake(path, RejectOptions(max_share=1.0, file=rejects))
    assert found.table.column("transaction_id").to_pylist() == ["1", "4"]
    assert found.table.column("card_id").to_pylist() == ["007", "7"]
    assert found.table.column("amount").to_pylist() == [1000, 123_450]
    assert (found.rows, sum(found.rejected.values())) == (8, 6)
    with rejects.open() as stream:
        listed = list(csv.DictReader(stream))
    assert [(row["row"], row["column"], row["value"]) for row in listed[:5]] == [
        ("2", "t", "2019-11-31"), ("3", "amt", "€-99.00"), ("5", "t", "2099-01-01 00:00:03"),
        ("6", "cur", "XXX"), ("7", "card", ""),
    ]  # fmt: skip
    assert listed[5]["row"] == "8"
    assert "number of cells" in listed[5]["reason"]
    assert "6 of 8 rows are rejected" in found.summary()[0]
    assert "1 × amount is negative" in found.summary()[0]


def test_reading_stops_at_the_first_or_beyond_a_share(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(UNTIDY)
    with pytest.raises(ConfigurationError, match=r"row 2, column 't': '2019-11-31'"):
        intake(path, RejectOptions(on_error="stop"))
    with pytest.raises(ConfigurationError, match=r"more than 70\.0%.*--max-rejected"):
        intake(path, RejectOptions(max_share=0.7))
    assert intake(path, RejectOptions(max_share=0.75)).rows == 8


def test_rows_keep_their_numbers_across_part_files(tmp_path: Path) -> None:
    (tmp_path / "part-0.csv").write_text(f"{HEAD}\n{GOOD}\nbroken\n{GOOD}\n")
    (tmp_path / "part-1.csv").write_text(f"{HEAD}\n{GOOD}\n2,7,12,never,10.00,EUR\n")
    rejects = tmp_path / "rejects"
    intake(tmp_path, RejectOptions(max_share=1.0, file=rejects))
    with rejects.open() as stream:
        places = [(row["file"], row["row"]) for row in csv.DictReader(stream)]
    assert places == [("part-0.csv", "2"), ("part-1.csv", "2")]


@pytest.mark.parametrize("text", [HEAD, f"{HEAD}\n", f"{HEAD}\r\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ConfigurationError, match="no rows below its names"):
        intake(tmp_path / "a.csv")


def test_part_files_that_lack_a_column_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEAD}\n{GOOD}\n")
    (tmp_path / "b.csv").write_text("ID;shop;Card;t;amt\n2;s;c;2024-01-01;10\n")
    found = intake(tmp_path, RejectOptions(max_share=1.0))
    assert found.table.column("card_id").to_pylist() == ["007"]
    assert found.rejected == {"currency is missing": 1}
    assert "column 'cur' is not in 1 of 2 files, the first is b.csv" in found.notes
    (tmp_path / "c.csv").write_text("something\nelse\n")
    with pytest.raises(ConfigurationError, match=r"c\.csv has no column 'id'"):
        intake(tmp_path, RejectOptions(max_share=1.0))


def test_the_first_rejected_row_is_named_with_its_part_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEAD}\n{GOOD}\n")
    (tmp_path / "b.csv").write_text(f"{HEAD}\n{GOOD}\n2,7,12,never,10.00,EUR\n")
    with pytest.raises(ConfigurationError, match=r"b\.csv, row 2, column 't': 'never'"):
        intake(tmp_path, RejectOptions(on_error="stop"))


def test_a_cut_line_in_another_encoding_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(f"{HEAD}\n{GOOD}\n2,caf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="encoding: cp1252"):
        intake(tmp_path / "a.csv")
    found = intake(tmp_path / "a.csv", RejectOptions(max_share=0.5), encoding="cp1252")
    assert sum(found.rejected.values()) == 1
