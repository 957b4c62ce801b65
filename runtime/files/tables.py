"""Reads Parquet and CSV files, and folders of them, as Arrow tables; texts stay texts."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from schemas.errors import ConfigurationError

PARQUET: Final = frozenset((".parquet", ".pq"))
TEXT: Final = frozenset((".csv", ".tsv", ".txt"))
COMPRESSED: Final = frozenset((".gz", ".zst", ".bz2"))
SEPARATORS: Final = (",", ";", "\t", "|")
SAMPLE_BYTES: Final = 65_536


class CutLine(NamedTuple):
    """A line of a text file with another number of cells than the first: its row, from 0."""

    row: int
    text: str


class FileTable(NamedTuple):
    """The columns that were asked for, of `rows` rows; `places` (int64[n]) are those of `table`.

    `cut` are the lines that could not be split into cells.
    """

    table: pa.Table
    rows: int
    places: npt.NDArray[np.int64]
    cut: list[CutLine]


def read_table(path: Path, columns: Sequence[str], form: dict[str, str] | None = None) -> FileTable:
    """Read the named columns of a file, or of a folder of part files in the order of their names.

    A name that no column has is matched without regard to case and blanks, if only one column fits.
    Columns of a text file are read as texts, whatever they look like. `form` says how it is
    written: `separator`, `quote` and `encoding`; the separator is guessed from the first line.

    Raises:
        ConfigurationError: the file cannot be read, or its format is not known.
    """
    parts = _parts(path)
    found = [_read_part(part, columns, form or {}) for part in parts]
    if len(found) == 1:
        return found[0]
    try:
        table = pa.concat_tables([each.table for each in found], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ConfigurationError(f"the files of {path} differ in their columns: {error}") from error
    starts = np.cumsum([0, *(each.rows for each in found)])
    places = [each.places + start for each, start in zip(found, starts[:-1], strict=True)]
    cut = [
        CutLine(line.row + int(start), line.text)
        for each, start in zip(found, starts[:-1], strict=True)
        for line in each.cut
    ]
    return FileTable(table, int(starts[-1]), np.concatenate(places), cut)


def column_names(path: Path, form: dict[str, str] | None = None) -> list[str]:
    """Return the names of the columns of a file, or of the first part of a folder.

    Raises:
        ConfigurationError: as `read_table`.
    """
    part = _parts(path)[0]
    try:
        if _kind(part) in PARQUET:
            return list(pa.parquet.read_schema(part).names)
        return _text_form(part, (), form or {}).names
    except (OSError, pa.ArrowInvalid, UnicodeError, LookupError) as error:
        raise ConfigurationError(f"cannot read {part}: {error}") from error


def _parts(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = [each for each in path.rglob("*") if each.is_file() and not _hidden(each, path)]
    parts = sorted(each for each in files if _kind(each) in PARQUET | TEXT)
    if not parts:
        raise ConfigurationError(f"{path} has no .parquet or .csv files")
    kinds = {_kind(each) in PARQUET for each in parts}
    if len(kinds) > 1:
        raise ConfigurationError(f"{path} has both Parquet and text files: name one of them")
    return parts


def _hidden(file: Path, folder: Path) -> bool:
    """Whether a name marks what Spark, Delta and Hive put beside the data."""
    return any(part[0] in "._" for part in file.relative_to(folder).parts)


def _kind(path: Path) -> str:
    suffixes = [each.lower() for each in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes = suffixes[:-1]
    return suffixes[-1] if suffixes else ""


def _read_part(path: Path, columns: Sequence[str], form: dict[str, str]) -> FileTable:
    kind = _kind(path)
    try:
        if kind in PARQUET:
            return _read_parquet(path, columns)
        if kind in TEXT:
            return _read_text(path, columns, form)
    except (
        OSError,
        UnicodeError,
        LookupError,
        pa.ArrowInvalid,
        pa.ArrowNotImplementedError,
    ) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    raise ConfigurationError(
        f"{path}: expected a .parquet, .csv, .tsv or .txt file, plain, .gz, .zst or .bz2"
    )


def _read_parquet(path: Path, columns: Sequence[str]) -> FileTable:
    # Spark's INT96 times reach beyond what int64 ns can hold.
    with pa.parquet.ParquetFile(path, memory_map=True, coerce_int96_timestamp_unit="us") as file:
        names = matched(columns, file.schema_arrow.names)
        table = file.read(columns=list(names.values()))
    table = table.select(list(names.values())).rename_columns(list(names))
    return FileTable(table, table.num_rows, np.arange(table.num_rows), [])


class _TextForm(NamedTuple):
    separator: str
    quote: str
    encoding: str
    names: list[str]


def _text_form(path: Path, columns: Sequence[str], form: dict[str, str]) -> _TextForm:
    """Return how a text file is written, as given or as its first lines show."""
    with pa.input_stream(str(path), compression="detect") as stream:
        head = stream.read(SAMPLE_BYTES)
    encoding = form.get("encoding", "utf-8")
    for mark, name in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if head.startswith(mark) and "encoding" not in form:
            encoding = name
    sample = io.TextIOWrapper(io.BytesIO(head), encoding, errors="replace", newline="").read()
    lines = sample.lstrip("\ufeff").splitlines() or [""]
    quote = form.get("quote") or _quote(lines)
    separators = [form["separator"]] if "separator" in form else list(SEPARATORS)

    def names(separator: str) -> list[str]:
        return next(csv.reader([lines[0]], delimiter=separator, quotechar=quote), [])

    best = max(separators, key=lambda each: (len(matched(columns, names(each))), len(names(each))))
    return _TextForm(best, quote, encoding, names(best))


def _quote(lines: Sequence[str]) -> str:
    """Return the sign around texts: files that quote every text by ' have no " at all."""
    body = "".join(lines[1:50])
    return "'" if '"' not in body and body.count("'") >= 2 * max(1, len(lines[1:50]) - 1) else '"'


def _read_text(path: Path, columns: Sequence[str], form: dict[str, str]) -> FileTable:
    found = _text_form(path, columns, form)
    names = matched(columns, found.names)
    cut: list[CutLine] = []

    def note(row: Any) -> str:
        # The first row has the number 2: the header counts.
        cut.append(CutLine(row.number - 2, f"{row.text} ({row.actual_columns} cells)"))
        return "skip"

    table = pa.csv.read_csv(
        pa.input_stream(str(path), compression="detect"),
        read_options=pa.csv.ReadOptions(encoding=found.encoding, use_threads=False),
        parse_options=pa.csv.ParseOptions(
            delimiter=found.separator, quote_char=found.quote, newlines_in_values=True,
            invalid_row_handler=note,
        ),
        convert_options=pa.csv.ConvertOptions(
            include_columns=list(names.values()),
            column_types=dict.fromkeys(names.values(), pa.string()),
            strings_can_be_null=False,
        ),
    )  # fmt: skip
    table = table.rename_columns(list(names))
    rows = table.num_rows + len(cut)
    places = np.delete(np.arange(rows), [line.row for line in cut])
    return FileTable(table, rows, places, cut)


def matched(wanted: Sequence[str], present: Sequence[str]) -> dict[str, str]:
    """Return the present column of each wanted one that there is.

    >>> matched(["id", "Amount"], ["ID", "amount", "Amount", "note"])
    {'id': 'ID', 'Amount': 'Amount'}
    """
    loose: dict[str, list[str]] = {}
    for name in present:
        loose.setdefault(name.strip().lower(), []).append(name)
    found: dict[str, str] = {}
    for name in wanted:
        alike = loose.get(name.strip().lower(), [])
        if name in present:
            found[name] = name
        elif len(alike) == 1:
            found[name] = alike[0]
    return found
