"""`python -m stream_features mapping`: proposes and tries out the mapping of a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from runtime.command_line import Json, say, write_report
from runtime.files.options import Rejects
from runtime.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Propose and try out the mapping of a file.")
FileArgument = Annotated[Path, typer.Argument(help="Parquet or CSV file, or a folder of parts")]
SAMPLE_ROWS = 10_000


@app.command()
def guess(file: FileArgument) -> None:
    """Propose a mapping for a file on standard output; look at it before it is used.

    Example: python -m stream_features mapping guess history.csv > history.yaml
    """
    from runtime.files.tables import column_names, read_table
    from schemas.mapping.guess import guess as proposal

    names = column_names(file)
    fields = proposal(read_table(file, names).table.slice(0, SAMPLE_ROWS))
    unused = [name for name in names if name not in _used(fields)]
    print(f"# Proposed for {file.name}. Unused columns: {', '.join(unused) or 'none'}.")
    print(yaml.safe_dump({"fields": fields}, sort_keys=False, default_flow_style=None), end="")
    unknown = [name for name, spec in fields.items() if "?" in json.dumps(spec)]
    if unknown:
        say(f"no column fits {', '.join(unknown)}: replace the '?'", "yellow")
        sys.exit(1)


def _used(fields: dict[str, Any]) -> set[str]:
    return {spec if isinstance(spec, str) else spec.get("column", "") for spec in fields.values()}


@app.command()
def check(
    file: FileArgument,
    mapping: Annotated[Path, typer.Argument(help="YAML mapping of its columns")],
    rows: Annotated[int, typer.Option(min=1, help="rows to show")] = 5,
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
    table.add_column("field")
    for number in range(1, len(rows) + 1):
        table.add_column(f"row {number}")
    for name in names:
        table.add_row(name, *(_text(name, row[name]) for row in rows))
    return table


def _text(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name in ("event_time", "label_time"):
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="milliseconds")
    return str(value)
