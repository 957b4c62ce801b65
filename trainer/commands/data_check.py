"""`python -m trainer data-check`: is this data fit to train on?"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress

from schemas.errors import ConfigurationError
from schemas.runtime.command_line import FAILURE, errors, say, write_report
from schemas.runtime.settings import load_settings


def data_check(
    input_path: Annotated[
        Path | None, typer.Option("--input", help="Parquet or CSV file of history")
    ] = None,
    mapping: Annotated[Path | None, typer.Option(help="YAML mapping of its columns")] = None,
    url: Annotated[
        str | None, typer.Option("--archive", help="folder or s3:// URL, instead of --input")
    ] = None,
    cutoff: Annotated[
        str | None, typer.Option(help="with --archive: labels until then (UTC); default now")
    ] = None,
    label_delay: Annotated[
        str | None, typer.Option(help="time after which labels count; default FRAUD_LABEL_DELAY")
    ] = None,
    bounds_path: Annotated[
        Path | None,
        typer.Option("--bounds", help="YAML file of bounds, see trainer/data_bounds.py"),
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="write the report here; - for stdout")
    ] = None,
) -> None:
    """Check a dataset before training: exit code 1, and what failed, if it is not fit.

    Example: python -m trainer data-check --archive var/archive --cutoff 2026-11-01
    """
    if (input_path is None) == (url is None) or (input_path is None) != (mapping is None):
        raise ConfigurationError("give --input and --mapping, or --archive")
    from schemas.mapping import duration_ms
    from trainer import dataset
    from trainer.archive import Archive
    from trainer.archive_dataset import from_archive
    from trainer.data_bounds import Bounds
    from trainer.data_check import check

    settings = load_settings()
    bounds = Bounds.load(bounds_path) if bounds_path else Bounds()
    delay = duration_ms(label_delay) if label_delay else settings.label_delay_ms
    provenance = None
    if input_path is not None and mapping is not None:
        columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=errors, transient=True) as bar:
            task = bar.add_task("replay", total=None)
            data = dataset.from_file(
                input_path,
                mapping,
                label_delay_ms=delay,
                progress=lambda done: bar.advance(task, done),
            )
    else:
        until = time.time_ns() // 1_000_000 if cutoff is None else _moment(cutoff)
        with errors.status("reading the archive"):
            data, provenance = from_archive(
                Archive.from_settings(settings, url), cutoff_ms=until, maturity_ms=delay
            )
    with errors.status(f"checking {len(data):,} transactions"):
        report = check(data, bounds)
    errors.print(report.table())
    write_report({**report.to_json(), "provenance": provenance}, json_path)
    for failure in report.failures:
        say(str(failure), "red")
    if report.failures:
        sys.exit(FAILURE)


def _moment(text: str) -> int:
    """Return ISO 8601 (UTC unless it says otherwise) or ms since the epoch as ms."""
    if text.isdigit() and len(text) > 8:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"--cutoff {text!r}: write 2026-11-01 or 2026-11-01T12:00"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
