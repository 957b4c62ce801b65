"""What the commands share: the live view, and the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from runtime.command_line import errors as err
from runtime.command_line import say, write_report


def watched() -> Any:
    """Return a watch and the view of it on standard error."""
    from loadtest.measure.view import View
    from loadtest.measure.watch import Watch

    watch = Watch()
    return watch, View(watch, err)


def finish(found: Mapping[str, Any], json_path: Path | None, *, check: bool) -> None:
    """Print the summary, write the report, and exit 1 when something is wrong."""
    from loadtest.measure import bounds, report

    for text in report.summary(found):
        say(text)
    wrong = report.failures(found)
    if check:
        kept, broken = bounds.check(found)
        for text in kept:
            say(f"kept: {text}")
        wrong += broken
    for text in wrong:
        say(f"broken: {text}", "red")
    write_report(found, json_path)
    if wrong:
        raise typer.Exit(1)
