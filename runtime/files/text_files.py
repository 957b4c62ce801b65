"""Text files of rows and cells: how one is written, as given or as its first lines show."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.csv

from runtime.files.headers import chosen, matched
from schemas.errors import ConfigurationError

SEPARATORS: Final = (",", ";", "\t", "|")
SAMPLE_BYTES: Final = 65_536
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_CONTENTS: Final = {
    b"PK\x03\x04": "is an archive or a workbook: unpack it, or save its sheet as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "is a workbook of a spreadsheet: save its sheet as CSV (UTF-8)",
    b"PAR1": "is a Parquet file: name it .parquet",
    b"\x1f\x8b": "is compressed by gzip: name it .csv.gz",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd: name it .csv.zst",
    b"BZh": "is compressed by bzip2: name it .csv.bz2",
    b"version https://git-lfs": "is a pointer of Git LFS: fetch the file that it stands for",
    b"<": "is HTML or XML, perhaps the page of a log-in: download the file itself",
}
"""What files begin with that are not text files of rows."""
_SEPARATOR_LINE: Final = re.compile(r"""["']?sep=([\t !#-&(-/:-@[-`{-~])["']?""")
"""What Excel writes before the header, and reads."""


class WrongEncodingError(ConfigurationError):
    """A text file is not in the encoding that it was read in."""


class CutLine(NamedTuple):
    """A line of a text file with another number of cells than the first: its row, from 0."""

    row: int
    text: str


class TextForm(NamedTuple):
    """How a text file is written; `skip` is the number of lines before those with the names."""

    separator: str
    quote: str
    encoding: str
    skip: int
    names: list[str]


def text_form(path: Path, columns: Sequence[str], form: dict[str, str]) -> TextForm:
    """Return how a text file is written, as given or as its first lines show.

    Raises:
        ConfigurationError: it is not a text file, or has no lines.
    """
    with pa.input_stream(str(path), compression="detect") as stream:
        head = stream.read(SAMPLE_BYTES)
    for start, wrong in _CONTENTS.items():
        if head.startswith(start):
            raise ConfigurationError(f"{path} {wrong}")
    encoding = form.get("encoding") or _encoding(path, head)
    if codecs.lookup(encoding).name == "utf-8":
        # Not left to Arrow, which loses a line of too few cells if its bytes are not UTF-8.
        encoding = "utf-8-sig"
    sample = io.TextIOWrapper(io.BytesIO(head), encoding, errors="replace", newline="").read()
    lines = sample.lstrip("\ufeff").splitlines()
    if not any(line.strip() for line in lines):
        raise ConfigurationError(f"{path} is empty: it has no line with names of columns")
    skip = int(form.get("skip", 0))
    own = _SEPARATOR_LINE.fullmatch(lines[0].strip()) if skip == 0 else None
    if own is not None:
        skip = 1
    lines = lines[skip:] or [""]
    while not lines[0].strip() and len(lines) > 1:  # as the reader does
        lines = lines[1:]
    quote = form.get("quote") or _quote(lines)
    given = form.get("separator") or (own[1] if own else None)

    def names(separator: str) -> list[str]:
        return next(csv.reader([lines[0]], delimiter=separator, quotechar=quote), [])

    best = max(
        [given] if given else SEPARATORS,
        key=lambda each: (len(matched(columns, names(each))), len(names(each))),
    )
    return TextForm(best, quote, encoding, skip, names(best))


def read_text(
    path: Path, columns: Sequence[str], form: dict[str, str]
) -> tuple[pa.Table, list[CutLine]]:
    """Return the named columns of a text file that it has, and the lines that cannot be split.

    Raises:
        ConfigurationError: it is not a text file, or not in the encoding that it is said to have.
    """
    found = text_form(path, columns, form)
    names = chosen(path, columns, found.names)
    cut: list[CutLine] = []

    def note(row: Any) -> str:
        # The first row has the number 2: the header counts, and what is skipped before it.
        cut.append(CutLine(row.number - 2 - found.skip, f"{row.text} ({row.actual_columns} cells)"))
        return "skip"

    if not names:
        return pa.table({}), []
    try:
        table = pa.csv.read_csv(
            pa.input_stream(str(path), compression="detect"),
            read_options=pa.csv.ReadOptions(
                encoding=found.encoding, skip_rows=found.skip, use_threads=False
            ),
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
    except (UnicodeError, pa.ArrowInvalid) as error:
        if isinstance(error, UnicodeError) or "UTF8" in str(error):
            encoding = found.encoding.removesuffix("-sig")
            raise WrongEncodingError(
                f"{path} is not in {encoding} ({error}): write file: {{encoding: cp1252}} or "
                "whatever it was written in"
            ) from error
        if "Empty CSV" in str(error):  # a first line without an end, and nothing below it
            return pa.table({name: pa.array([], pa.string()) for name in names}), []
        raise
    return table.rename_columns(list(names)), cut


def _encoding(path: Path, head: bytes) -> str:
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    for name, zeros in (("utf-16-le", head[1:400:2]), ("utf-16-be", head[0:400:2])):
        if zeros and zeros.count(0) > len(zeros) / 2:
            raise ConfigurationError(
                f"{path} has zero bytes, as {name} has: write file: {{encoding: {name}}}"
            )
    return "utf-8"


def _quote(lines: Sequence[str]) -> str:
    """Return the sign around texts: files that quote every text by ' have no " at all."""
    body = "".join(lines[1:50])
    return "'" if '"' not in body and body.count("'") >= 2 * max(1, len(lines[1:50]) - 1) else '"'
