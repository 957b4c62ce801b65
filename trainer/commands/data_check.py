"""`python -m trainer data-check`: is this data fit to train on?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from runtime.command_line import FAILURE, Json, errors, say, write_report
from runtime.files.options import MAX_SHARE, MaxRejected, OnErrorOption, RejectOptions, Rejects
from runtime.settings import load_settings
from trainer.commands.options import Cutoff, OptionalInput, OptionalMapping, OtherArchive
from trainer.commands.sources import Source, dataset_of


def data_check(
    input_path: OptionalInput = None,
    mapping: OptionalMapping = None,
    on_error: OnErrorOption = "reject",
    max_rejected: MaxRejected = MAX_SHARE,
    rejects: Rejects = None,
    url: OtherArchive = None,
    cutoff: Cutoff = None,
    label_delay: Annotated[
        str | None, typer.Option(help="time after which labels count; default FRAUD_LABEL_DELAY")
    ] = None,
    bounds_path: Annotated[
        Path | None,
        typer.Option("--bounds", help="YAML file of bounds, see trainer/dataset/data_bounds.py"),
    ] = None,
    json_path: Json = None,
) -> None:
    """Check a dataset before training: exit code 1, and what failed, if it is not fit.

    Example: python -m trainer data-check --archive var/archive --cutoff 2026-11-01
    """
    from schemas.mapping.document import duration_ms
    from trainer.dataset.check import check
    from trainer.dataset.data_bounds import DataBounds

    settings = load_settings()
    bounds = DataBounds.load(bounds_path) if bounds_path else DataBounds()
    source = Source(
        input_path=input_path,
        mapping=mapping,
        rejects=RejectOptions(on_error=on_error, max_share=max_rejected, file=rejects),
        archive=url,
        cutoff=cutoff,
        label_delay_ms=duration_ms(label_delay) if label_delay else settings.label_delay.ms,
    )
    data, provenance = dataset_of(source, settings, Path())
    with errors.status(f"checking {len(data):,} transactions"):
        report = check(data, bounds)
    errors.print(report.table())
    write_report({**report.to_json(), "provenance": provenance}, json_path)
    for failure in report.failures:
        say(str(failure), "red")
    if report.failures:
        sys.exit(FAILURE)
