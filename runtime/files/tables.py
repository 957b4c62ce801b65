"""Reads Parquet and CSV files, and folders of them, as Arrow tables; texts stay texts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from runtime.files.headers import chosen
from runtime.files.text_files import CutLine, read_text, text_form
from schemas.errors import ConfigurationError

PARQUET: Final = frozenset((".parquet", ".pq"))
TEXT: Final = frozenset((".csv", ".tsv", ".txt"))
COMPRESSED: Final = frozenset((".gz", ".zst", ".bz2"))
MAX_NAMES: Final = 50
_SHEET: Final = "is a workbook of a spreadsheet: save its sheet as CSV (UTF-8)"
_ARCHIVE: Final = "is an archive: unpack it first"
_JSON: Final = "is JSON: write it as Parquet or CSV"
_OTHER_KINDS: Final = {
    ".xls": _SHEET, ".xlsx": _SHEET, ".ods": _SHEET, ".zip": _ARCHIVE, ".tar": _ARCHIVE,
    ".tgz": _ARCHIVE, ".7z": _ARCHIVE, ".json": _JSON, ".jsonl": _JSON, ".ndjson": _JSON,
}  # fmt: skip


class FileTable(NamedTuple):
    """The columns that were asked for, of `rows` rows; `places` (int64[n]) are those of `table`.

    `cut` are the lines that could not be split into cells, `parts` the files with their first rows,
    `notes` are for a person to look at.
    """

    table: pa.Table
    rows: int
    places: npt.NDArray[np.int64]
    cut: list[CutLine]
    parts: list[tuple[int, Path]]
    notes: list[str]

    def locate(self, row: int) -> tuple[Path, int]:
        """Return the file of a row, and its place there; both are counted from 0."""
        start, path = self.parts[bisect_right(self.parts, row, key=lambda part: part[0]) - 1]
        return path, row - start


def read_table(path: Path, columns: Sequence[str], form: dict[str, str] | None = None) -> FileTable:
    """Read the named columns of a file, or of a folder of part files in the order of their names.

    A name that no column has is matched without regard to case and blanks, if only one column fits.
    Columns of a text file are read as texts, whatever they look like. `form` says how it is
    written: `separator`, `quote`, `encoding`, and `skip`, the number of lines before the header;
    separator and quote are guessed from the first lines. A column that only some part files have
    is null in the others.

    Raises:
        ConfigurationError: the file cannot be read, its format is not known, or it lacks a column.
    """
    parts = _parts(path)
    found = [_read_part(part, columns, form or {}) for part in parts]
    present = {name for each in found for name in each.table.column_names}
    for part, each in zip(parts, found, strict=True):
        absent = [name for name in columns if name not in present]
        if absent or (columns and not each.table.column_names):
            raise ConfigurationError(_lacking(part, absent or columns, form))
    if len(found) == 1:
        return found[0]
    try:
        table = pa.concat_tables([each.table for each in found], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ConfigurationError(
            f"the files of {path} differ in their columns: {error}; write them with one schema"
        ) from error
    starts = np.cumsum([0, *(each.rows for each in found)])
    places = [each.places + start for each, start in zip(found, starts[:-1], strict=True)]
    cut = [
        CutLine(line.row + int(start), line.text)
        for each, start in zip(found, starts[:-1], strict=True)
        for line in each.cut
    ]
    begins = list(zip(starts[:-1].tolist(), parts, strict=True))
    notes = []
    for name in columns:
        lacking = [
            part for part, each in zip(parts, found, strict=True)
            if name not in each.table.column_names
        ]  # fmt: skip
        if lacking:
            notes.append(
                f"column {name!r} is not in {len(lacking)} of {len(parts)} files, the first is "
                f"{lacking[0].name}"
            )
    return FileTable(table, int(starts[-1]), np.concatenate(places), cut, begins, notes)


def column_names(path: Path, form: dict[str, str] | None = None) -> list[str]:
    """Return the names of the columns of a file, or of the first part of a folder.

    Raises:
        ConfigurationError: as `read_table`.
    """
    part = _parts(path)[0]
    try:
        if _kind(part) in PARQUET:
            return list(pa.parquet.read_schema(part).names)
        return text_form(part, (), form or {}).names
    except (OSError, pa.ArrowInvalid, UnicodeError, LookupError) as error:
        raise ConfigurationError(f"cannot read {part}: {error}") from error


def _lacking(path: Path, absent: Sequence[str], form: dict[str, str] | None) -> str:
    """Say which columns a file lacks, and what its first line may be instead."""
    names = column_names(path, form)
    shown = ", ".join(repr(name) for name in names[:MAX_NAMES])
    said = f"{path} has no column {', '.join(map(repr, absent))}; its columns are {shown}"
    if _kind(path) not in TEXT:
        return f"{said}: correct the mapping"
    if len(names) == 1:
        return f"{said}: write file: {{separator: …}}, or skip: the lines before the header"
    return f"{said}: correct the mapping; the first line must be the names of the columns"


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
            table, cut = read_text(path, columns, form)
            rows = table.num_rows + len(cut)
            places = np.delete(np.arange(rows), [line.row for line in cut])
            return FileTable(table, rows, places, cut, [(0, path)], [])
    except (
        OSError,
        UnicodeError,
        LookupError,
        pa.ArrowInvalid,
        pa.ArrowNotImplementedError,
    ) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    if kind in _OTHER_KINDS:
        raise ConfigurationError(f"{path} {_OTHER_KINDS[kind]}")
    raise ConfigurationError(
        f"{path}: expected a .parquet, .csv, .tsv or .txt file, plain, .gz, .zst or .bz2"
    )


def _read_parquet(path: Path, columns: Sequence[str]) -> FileTable:
    # Spark's INT96 times reach beyond what int64 ns can hold.
    with pa.parquet.ParquetFile(path, memory_map=True, coerce_int96_timestamp_unit="us") as file:
        names = chosen(path, columns, file.schema_arrow.names)
        table = file.read(columns=list(names.values()))
    table = table.select(list(names.values())).rename_columns(list(names))
    return FileTable(table, table.num_rows, np.arange(table.num_rows), [], [(0, path)], [])
