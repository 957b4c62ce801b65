"""The command `demo`, which shows the whole system at work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadtest.commands.outcome import finish
from loadtest.options import Customers, NewPattern, Seed
from runtime.command_line import Json
from runtime.command_line import errors as err


def demo(
    rate: Annotated[float, typer.Option(min=1, help="transactions a second")] = 200.0,
    seconds: Annotated[
        float | None,
        typer.Option(min=1, envvar="DEMO_SECONDS", help="how long to run; default: until Ctrl-C"),
    ] = None,
    data: Annotated[Path, typer.Option(help="directory, emptied first")] = Path("var/demo"),
    customers: Customers = 2_000,
    seed: Seed = 7,
    new_pattern_day: NewPattern = None,
    json_path: Json = None,
) -> None:
    """Show the whole system at work: history, a model, live traffic, decisions and their reasons.

    With --seconds, the report is the last line on standard output.

    Example: python -m loadtest demo --rate 200 --seconds 60
    """
    import time

    from loadtest.demo.demo import Demo
    from loadtest.demo.demo import run as shown
    from loadtest.demo.view import DemoDetails
    from loadtest.measure.view import RunView
    from loadtest.measure.watch import RunWatch

    watch = RunWatch()
    details = DemoDetails(watch)
    plan = Demo(
        directory=data,
        rate=rate,
        seconds=seconds,
        customers=customers,
        seed=seed,
        today=int(time.time() // 86_400),
        new_pattern_day=new_pattern_day,
    )
    view = RunView(watch, err, details=details)
    with view:
        found = shown(plan, watch, view, details)
    if json_path is None and not found["interrupted"]:
        json_path = Path("-")
    finish(found, json_path, check=False)
