"""`python -m stream_features mapping`: proposes and tries out the mapping of a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from runtime.command_line import Json, say, write_report
from runtime.files.options import Rejects
from runtime.settings import load_settings

if TYPE_CHECKING:  # Arrow is loaded once a command runs
    import pyarrow as pa

app = typer.Typer(no_args_is_help=True, help="Propose and try out the mapping of a file.")
FileArgument = Annotated[Path, typer.Argument(help="Parquet or CSV file, or a folder of parts")]


@app.command()
def guess(file: FileArgument) -> None:
    """Propose a mapping for a file on standard output; look at it before it is used.

    Example: python -m stream_features mapping guess history.csv > history.yaml
    """
    from schemas.mapping.guess import guess as proposal

    names, table, form = _read(file)
    fields = proposal(table)
    unused = [name for name in names if name not in _used(fields)]
    print(f"# Proposed for {file.name}. Unused columns: {', '.join(unused) or 'none'}.")
    document = {"fields": fields, **({"file": form} if form else {})}
    print(yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=90), end="")
    unknown = [name for name, spec in fields.items() if _open(spec)]
    if unknown:
        say(f"no column says for certain what {', '.join(unknown)} is: replace the '?'", "yellow")
        sys.exit(1)


def _read(file: Path) -> tuple[list[str], pa.Table, dict[str, str]]:
    """Return the names of a file's columns, those that occur once, and how the file is written.

    A text file is in UTF-8, or as Windows writes.
    """
    from runtime.files.tables import column_names, read_table
    from runtime.files.text_files import WrongEncodingError

    form: dict[str, str] = {}
    while True:
        names = column_names(file, form)
        once = [name for name in names if names.count(name) == 1]
        try:
            return names, read_table(file, once, form).table, form
        except WrongEncodingError:
            if form:
                raise
            form = {"encoding": "cp1252"}


def _open(spec: Any) -> bool:
    """Whether a proposal leaves something to a person."""
    return spec == "?" or (isinstance(spec, dict) and "?" in spec.values())


def _used(fields: dict[str, Any]) -> set[str]:
    used: set[str] = set()
    for spec in fields.values():
        if isinstance(spec, str):
            used.add(spec)
        else:
            used.update(spec.get("columns", [spec.get("column", "")]))
    return used


@app.command()
def check(
    file: FileArgument,
    mapping: Annotated[Path, typer.Argument(help="YAML mapping of its columns")],
    rows: Annotated[int, typer.Option(min=1, help="rows to show")] = 3,
    rejects: Rejects = None,
    json_path: Json = None,
) -> None:
    """Show the first rows as they will be read, and what would be rejected and why.

    The exit code is 1 if a row would be rejected.

    Example: python -m stream_features mapping check history.csv history.yaml --rejects bad.csv
    """
    from runtime.files.intake import read_transactions, rules_of
    from runtime.files.options import RejectOptions
    from schemas.mapping.document import Mapping

    options = RejectOptions(max_share=1.0, file=rejects)
    found = read_transactions(file, Mapping.load(mapping), rules_of(load_settings()), options)
    Console().print(_shown(found.table.column_names, found.table.slice(0, rows).to_pylist()))
    for line in found.summary():
        say(line, "yellow")
    for name, count in found.unread.items():
        say(f"{name}: missing in {count:,} rows because it cannot be read", "yellow")
    rejected = sum(found.rejected.values())
    say(f"{found.rows - rejected:,} of {found.rows:,} rows can be used")
    write_report(found.report(), json_path)
    if rejected:
        sys.exit(1)


def _shown(names: Sequence[str], rows: list[dict[str, Any]]) -> Table:
    """Return a table with a line for each field and a column for each row."""
    table = Table(title="the first rows as they will be read")
    table.add_column("field", no_wrap=True)
    for number in range(1, len(rows) + 1):
        table.add_column(f"row {number}", overflow="fold")
    for name in names:
        table.add_row(name, *(_text(name, row[name]) for row in rows))
    return table


def _text(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name in ("event_time", "label_time"):
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="milliseconds")
    return str(value)
