"""What becomes of rows that cannot be used, as options of every command that reads a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

OnError = Literal["reject", "stop"]
MAX_SHARE: Final = 0.05
OnErrorOption = Annotated[
    OnError, typer.Option("--on-error", help="what to do with a row that cannot be used")
]
MaxRejected = Annotated[
    float,
    typer.Option("--max-rejected", min=0.0, max=1.0, help="largest share of rows to be rejected"),
]
Rejects = Annotated[
    Path | None, typer.Option("--rejects", help="CSV file for the rejected rows and their reasons")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectOptions:
    """What becomes of rows that cannot be used.

    They are written to `file`, or only counted without one; reading stops at the first with
    `on_error` "stop", and after the whole file if more than `max_share` of its rows are rejected.
    """

    on_error: OnError = "reject"
    max_share: float = MAX_SHARE
    file: Path | None = None
