"""The commands `generate` (history of the world as a file) and `compile` (its kernels)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from loadtest.options import (
    FIRST_DAY,
    Customers,
    DriftDay,
    FirstDay,
    FraudFactor,
    Messages,
    NewPattern,
    NewPatternFactor,
    Seed,
    day_of,
)
from runtime.command_line import Json, say, write_report
from runtime.command_line import errors as err


def generate(
    days: Annotated[int, typer.Option(min=1, help="days of history")],
    output: Annotated[Path, typer.Option(help="Parquet file to write")],
    customers: Customers = 3_000,
    seed: Seed = 7,
    first_day: FirstDay = FIRST_DAY,
    new_pattern_day: NewPattern = None,
    new_pattern_factor: NewPatternFactor = 1.0,
    drift_day: DriftDay = None,
    fraud_factor: FraudFactor = 1.0,
    messages: Messages = False,
    json_path: Json = None,
) -> None:
    """Write labelled history of the generated world; loadtest/mappings/generator.yaml maps it.

    Further columns are `fraud` (the truth) and `scenario` (the kind of fraud).

    Example: python -m loadtest generate --days 60 --customers 5000 --output var/history.parquet
    """
    from loadtest.world.history import write_history
    from loadtest.world.world import World

    first = day_of(first_day)
    pattern = None if new_pattern_day is None else first + new_pattern_day
    world = World(
        customers,
        seed,
        new_pattern_day=pattern,
        new_pattern_factor=new_pattern_factor,
        drift_day=None if drift_day is None else first + drift_day,
        fraud_factor=fraud_factor,
    )
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("days", total=days)
        done = write_history(
            world,
            first,
            days,
            output,
            lambda day: bar.update(task, completed=day),
            messages=messages,
        )
    rows = sum(done.rows)
    say(
        f"wrote {output}: {rows:,} transactions, {done.frauds:,} frauds, "
        f"{done.reported:,} reported as fraud"
    )
    found = {"transactions": rows, "frauds": done.frauds, "labels": done.reported}
    write_report(
        found | {"customers": customers, "seed": seed, "rows_by_day": done.rows}, json_path
    )


def compile_kernels() -> None:
    """Compile the load generator's kernels into the cache.

    Example: python -m loadtest compile
    """
    import numpy as np

    from loadtest.traffic.answers import read_answers
    from loadtest.traffic.encode import encode_transactions
    from loadtest.traffic.ledger import Ledger
    from loadtest.world.world import World

    with err.status("compiling the load generator (once, some seconds)"):
        encoded = encode_transactions(World(300, seed=1).day(20_000))
        ledger = Ledger(0)
        ledger.sent(encoded.identity, np.zeros(len(encoded.identity), np.int64))
        ledger.received(read_answers(encoded.values, 0))
