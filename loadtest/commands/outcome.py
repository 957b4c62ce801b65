"""The live view and the end of a run, which the commands share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from runtime.command_line import errors as err
from runtime.command_line import say, write_report


def open_view() -> Any:
    """Return a watch, and a view that shows it on standard error."""
    from loadtest.measure.view import RunView
    from loadtest.measure.watch import RunWatch

    watch = RunWatch()
    return watch, RunView(watch, err)


def finish(found: Mapping[str, Any], json_path: Path | None, *, check: bool) -> None:
    """Print the summary and write the report; exits with 1 if the run failed.

    With `check` a broken bound of bounds.json is a failure, too.
    """
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
