"""The commands `verify` (live equals replay) and `page` (the live page's memory stays steady)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from loadtest.options import Check, Partitions, Scorers, Seed, Workers
from runtime.command_line import Json, say, write_report
from runtime.command_line import errors as err
from schemas.errors import ConfigurationError


def verify(
    input_path: Annotated[Path, typer.Option("--input", help="Parquet or CSV file")],
    mapping: Annotated[Path, typer.Option(help="YAML mapping of its columns")],
    rows: Annotated[int | None, typer.Option(min=1, help="only the first rows")] = None,
    live: Annotated[
        float, typer.Option(min=0, help="send at this rate to running services; 0: a backlog")
    ] = 0.0,
    kills: Annotated[
        int,
        typer.Option(min=0, help="times to kill each service; also restarts Kafka and Redis"),
    ] = 0,
    workers: Workers = 1,
    scorers: Scorers = 1,
    partitions: Partitions = 4,
    seed: Seed = 7,
    model: Annotated[Path | None, typer.Option(help="bundle to score with; default: none")] = None,
    data: Annotated[Path, typer.Option(help="folder for the stack and the files")] = Path(
        "var/verify"
    ),
    json_path: Json = None,
) -> None:
    """Prove that features served live equal those of a replay of the same file, bit for bit.

    Exits with 1 if a transaction is lost or answered in two ways, or if a card's features differ.

    Example: python -m loadtest verify --input day.parquet
    --mapping loadtest/mappings/handbook.yaml --rows 200000 --kills 5
    """
    from loadtest.deploy.deployment import empty_directory
    from loadtest.proof.verify import VerifyOptions, passed, verify

    options = VerifyOptions(
        input=input_path,
        mapping=mapping,
        rows=rows,
        mode="live" if live else "backlog",
        rate=live,
        workers=workers,
        scorers=scorers,
        partitions=partitions,
        kills=kills,
        seed=seed,
        model=model,
    )
    empty_directory(data)
    with Progress(
        "[progress.description]{task.description}", BarColumn(), MofNCompleteColumn(), console=err
    ) as bar:
        task = bar.add_task("starting Kafka and Redis", total=None)
        report = verify(
            options,
            data,
            lambda text, done, total: bar.update(
                task, description=text, completed=done, total=total
            ),
        )
    err.print_json(data=report)
    write_report(report, json_path)
    if not passed(report):
        sys.exit(1)


def live_page(
    address: Annotated[str, typer.Option(help="URL of a running dashboard that sees traffic")],
    username: Annotated[str, typer.Option(help="account; its password is in FRAUD_PAGE_PASSWORD")],
    minutes: Annotated[float, typer.Option(min=0.1, help="how long to stay")] = 10.0,
    check: Check = False,
    json_path: Json = None,
) -> None:
    """Watch the live page in Chromium: its load time, and whether its memory stays steady.

    Example: FRAUD_PAGE_PASSWORD=… python -m loadtest page --address http://127.0.0.1:8050
    --username vera --minutes 10 --json -
    """
    from loadtest.measure import bounds
    from loadtest.measure.page import PageVisit, visit

    password = os.environ.get("FRAUD_PAGE_PASSWORD")
    if not password:
        raise ConfigurationError("FRAUD_PAGE_PASSWORD is not set: set it to the password")
    what = PageVisit(
        address=address.rstrip("/"), username=username, password=password, seconds=60 * minutes
    )
    with Progress(BarColumn(), TimeRemainingColumn(), console=err, transient=True) as bar:
        task = bar.add_task("page", total=1.0)
        found = visit(what, lambda share: bar.update(task, completed=share))
    grown = ", ".join(f"{name} {each:+.1%}" for name, each in found["growth"].items())
    say(f"loaded in {found['load_ms']} ms; growth from the middle third to the last: {grown}")
    write_report(found, json_path)
    if not check:
        return
    kept, broken = bounds.check(found)
    (kept if found["steady"] else broken).append(f"steady {found['steady']}")
    for text in kept:
        say(f"kept: {text}")
    for text in broken:
        say(f"broken: {text}", "red")
    if broken:
        raise typer.Exit(1)
