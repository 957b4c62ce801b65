"""`python -m trainer archive`: the archiver."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from runtime.command_line import Json, errors, say, write_report
from runtime.settings import load_settings
from schemas.errors import ConfigurationError
from trainer.commands.options import ArchiveUrl


def archive(
    url: ArchiveUrl = None,
    once: Annotated[bool, typer.Option("--once", help="stop at the present ends")] = False,
    maintain: Annotated[
        bool, typer.Option("--maintain", help="only compact and delete old rows")
    ] = False,
    json_path: Json = None,
) -> None:
    """Follow `features`, `decisions` and `labels` into Delta Lake tables, each row once.

    Several archivers share the partitions. Without --once it runs until stopped and maintains the
    archive every FRAUD_ARCHIVE_MAINTAIN_EVERY.

    Example: python -m trainer archive --archive var/archive --once --json -
    """
    from trainer.archive.delta_tables import Archive
    from trainer.archive.process import run
    from trainer.archive.upkeep import maintain as maintain_once

    if once and maintain:
        raise ConfigurationError("--once and --maintain are two things: give one of them")
    settings = load_settings()
    if maintain:
        place = Archive.from_settings(settings, url)
        with errors.status(f"maintaining {place.url}"):
            report = maintain_once(
                place, now_ms=time.time_ns() // 1_000_000, keep_ms=settings.archive_keep.ms
            )
        merged = sum(table["files_merged"] for table in report.values())
        say(f"{place.url}: {merged:,} files merged")
    else:
        report = run(settings, url=url, once=once)
        rows = ", ".join(f"{count:,} {name}" for name, count in report["archived"].items())
        say(f"{report['archive']}: {rows} in {report['seconds']:.1f} s")
    write_report(report, json_path)
