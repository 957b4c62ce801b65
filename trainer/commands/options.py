"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HISTORY = typer.Option("--input", help="Parquet or CSV file of history")
MAPPING = typer.Option("--mapping", help="YAML mapping of its columns, with a label")
THREADS = "threads of XGBoost; more than there are free cores make it slower"

InputFile = Annotated[Path, HISTORY]
OptionalInput = Annotated[Path | None, HISTORY]
MappingFile = Annotated[Path, MAPPING]
OptionalMapping = Annotated[Path | None, MAPPING]
ArchiveUrl = Annotated[
    str | None, typer.Option("--archive", help="folder or s3:// URL; default FRAUD_ARCHIVE_URL")
]
OtherArchive = Annotated[
    str | None, typer.Option("--archive", help="folder or s3:// URL, instead of --input")
]
Cutoff = Annotated[
    str | None, typer.Option(help="with --archive: what was known then (UTC); default now")
]
BundleFolder = Annotated[Path, typer.Option("--output", help="folder for bundles")]
RunFolder = Annotated[Path, typer.Option("--state", help="folder for runs")]
ModelName = Annotated[
    str | None, typer.Option("--model-id", help="name; default made from the clock")
]
LabelDelayDays = Annotated[float, typer.Option(min=0.001, help="label delay")]
Threads = Annotated[int, typer.Option(min=1, help=THREADS)]
