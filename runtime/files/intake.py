"""The door for files: read, mapped and checked as messages are; rejected rows are set aside."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa

from runtime.clock import SystemClock
from runtime.command_line import errors, say
from runtime.files.options import RejectOptions
from runtime.files.tables import FileTable, read_table
from runtime.settings import Settings, load_settings
from schemas.errors import ConfigurationError
from schemas.mapping.document import Mapping
from schemas.mapping.faults import RowFault, counted, fault
from schemas.mapping.mapped import MappedTable, apply
from schemas.rules.transaction import Rules

MAX_KINDS: Final = 12


class Intake(NamedTuple):
    """The usable rows of a file (see `schemas.mapping.mapped.MappedTable`), and what to report."""

    table: pa.Table
    rows: int
    rejected: dict[str, int]
    unread: dict[str, int]
    notes: list[str]

    def summary(self) -> list[str]:
        """Return lines for people; none if there is nothing to say."""
        lines = []
        if self.rejected:
            kinds = [f"{count:,} × {kind}" for kind, count in self.rejected.items()]
            more = [] if len(kinds) <= MAX_KINDS else [f"{len(kinds) - MAX_KINDS} more kinds"]
            total = sum(self.rejected.values())
            listed = ", ".join([*kinds[:MAX_KINDS], *more])
            lines.append(f"{total:,} of {self.rows:,} rows are rejected: {listed}")
        return [*lines, *self.notes]

    def report(self) -> dict[str, Any]:
        """Return what was read as a JSON document."""
        return {
            "rows": self.rows,
            "rejected": self.rejected,
            "unread": self.unread,
            "notes": self.notes,
        }


def rules_of(settings: Settings) -> Rules:
    """Return the rules that the settings stand for, at the present moment."""
    return Rules.at(SystemClock().now_ms(), settings.currencies, settings.pan_key)


def read_transactions(
    path: Path,
    mapping: Mapping,
    rules: Rules,
    rejects: RejectOptions | None = None,
    *,
    rows: int | None = None,
) -> Intake:
    """Read a file of transactions, at most its first `rows` rows.

    Raises:
        ConfigurationError: the file or the mapping cannot be used, or too many rows are rejected.
    """
    options = rejects or RejectOptions()
    found = read_table(path, mapping.columns(), mapping.file)
    if found.rows == 0:
        raise ConfigurationError(f"{path} has no rows below its names of columns")
    if rows is not None:
        found = _first(found, rows)
    mapped = apply(mapping, found.table, rules)
    notes = [*found.notes, *mapped.notes]
    faults = _faults(found, mapped)
    if options.file is not None and faults:
        write_rejects(options.file, faults, found)
    intake = Intake(mapped.table, found.rows, counted(faults), mapped.unread, notes)
    if faults:
        _judge(path, intake, faults[0], found, options)
    return intake


def read_for_command(
    path: Path, mapping: Path, rejects: RejectOptions, *, rows: int | None = None
) -> Intake:
    """Read a file by the rules of the settings, and say what a person should know of it.

    Raises:
        ConfigurationError: as `read_transactions`.
    """
    chosen = Mapping.load(mapping)
    with errors.status(f"reading {path}"):
        found = read_transactions(path, chosen, rules_of(load_settings()), rejects, rows=rows)
    for line in found.summary():
        say(line, "yellow")
    if not found.table.num_rows:
        raise ConfigurationError(f"{path}: none of its rows can be used")
    return found


def _first(found: FileTable, rows: int) -> FileTable:
    kept = int((found.places < rows).sum())
    cut = [line for line in found.cut if line.row < rows]
    return found._replace(
        table=found.table.slice(0, kept), rows=kept + len(cut), places=found.places[:kept], cut=cut
    )


def _faults(found: FileTable, mapped: MappedTable) -> list[RowFault]:
    """Return the faults of a file in the order of its rows."""
    faults = [each._replace(row=int(found.places[each.row])) for each in mapped.faults]
    faults += [
        fault(line.row, "", line.text, "the line has another number of cells than the header")
        for line in found.cut
    ]
    return sorted(faults, key=lambda each: each.row)


def _judge(
    path: Path, intake: Intake, first: RowFault, found: FileTable, options: RejectOptions
) -> None:
    total = sum(intake.rejected.values())
    part, row = found.locate(first.row)
    shown = f"row {row + 1}, column {first.column!r}: {first.value!r}: {first.reason}"
    if part != path:
        shown = f"{part.name}, {shown}"
    if options.on_error == "stop":
        raise ConfigurationError(f"{path}: {shown}")
    if total > options.max_share * intake.rows:
        where = f"; all are in {options.file}" if options.file else ""
        raise ConfigurationError(
            f"{path}: {intake.summary()[0]}; that is more than {options.max_share:.1%} of them "
            f"(--max-rejected). The first is {shown}{where}"
        )


def write_rejects(path: Path, faults: list[RowFault], found: FileTable) -> None:
    """Write rejected rows to a CSV file, numbered from 1 after the header of their own file.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(("row", "column", "value", "reason", "file"))
            for each in faults:
                part, row = found.locate(each.row)
                writer.writerow((row + 1, each.column, each.value, each.reason, part.name))
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error}") from error
