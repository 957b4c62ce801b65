"""The commands `gateway` (load over HTTP) and `frameworks` (cost of a web framework)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadtest.commands.outcome import finish
from loadtest.options import (
    FIRST_DAY,
    Bootstrap,
    Check,
    Customers,
    ModelDir,
    NoModel,
    Partitions,
    Prefix,
    Redis,
    Seed,
    WarmUp,
    day_of,
    target_of,
)
from runtime.command_line import Json, errors, say, write_report
from schemas.errors import ConfigurationError


def gateway_load(
    connections: Annotated[int, typer.Option(min=1, help="kept connections")] = 16,
    seconds: Annotated[float, typer.Option(min=0.5, help="how long to send")] = 30.0,
    batch: Annotated[
        bool, typer.Option("--batch", help="send batches of --rows to /score-transactions")
    ] = False,
    rows: Annotated[int, typer.Option(min=1, help="transactions per batch")] = 5_000,
    deadline: Annotated[
        int | None, typer.Option(min=1, help="Request-Timeout-Ms; default: the gateway's own")
    ] = None,
    faults: Annotated[
        bool, typer.Option("--faults", help="instead, stop scorer, Redis and Kafka in turn")
    ] = False,
    rate: Annotated[float, typer.Option(min=1, help="with --faults: requests a second")] = 200.0,
    away: Annotated[
        float, typer.Option(min=1, help="with --faults: length of an outage (s)")
    ] = 20.0,
    data: Annotated[Path, typer.Option(help="with --faults: directory, emptied first")] = Path(
        "var/gateway"
    ),
    customers: Customers = 20_000,
    seed: Seed = 7,
    bootstrap: Bootstrap = None,
    redis: Redis = None,
    prefix: Prefix = None,
    partitions: Partitions = 4,
    model: ModelDir = None,
    no_model: NoModel = False,
    warm_up: WarmUp = 5.0,
    check: Check = False,
    json_path: Json = None,
) -> None:
    """Measure one gateway in a closed loop, with the whole pipeline behind it.

    Example: python -m loadtest gateway --connections 16 --seconds 30 --check --json gateway.json

    Example: python -m loadtest gateway --connections 2 --seconds 30 --batch

    Example: python -m loadtest gateway --faults --rate 200 --away 20
    """
    from loadtest.deploy.deployment import empty_directory
    from loadtest.measure.gateway import GatewayRunPlan
    from loadtest.measure.gateway import run as measured
    from loadtest.proof.gateway_faults import FaultPlan
    from loadtest.proof.gateway_faults import run as disturbed

    if faults:
        if bootstrap is not None or redis is not None:
            raise ConfigurationError(
                "--faults stops Kafka and Redis, so it starts its own: "
                "leave --bootstrap and --redis out"
            )
        if check:
            raise ConfigurationError(
                "--faults fails on any lost or late answer by itself: leave --check out"
            )
        plan = FaultPlan(
            directory=empty_directory(data),
            rate=rate,
            away_s=away,
            customers=customers,
            seed=seed,
            deadline_ms=deadline or 100,
        )
        found = disturbed(plan, say)
    else:
        found = measured(
            GatewayRunPlan(
                target=target_of(bootstrap, redis, prefix, partitions, True),
                connections=connections,
                seconds=seconds,
                warm_up_s=warm_up,
                batch=rows if batch else 0,
                deadline_ms=deadline,
                customers=customers,
                seed=seed,
                first_day=day_of(FIRST_DAY),
                model=model,
                no_model=no_model,
            ),
            say,
        )
    finish(found, json_path, check=check)


def frameworks(
    rounds: Annotated[int, typer.Option(min=3, help="batches of 500 requests for each")] = 11,
    json_path: Json = None,
) -> None:
    """Measure the cost of ASGI alone, Starlette and FastAPI per request, without a network.

    Example: python -m loadtest frameworks --json -
    """
    from loadtest.frameworks import measure

    with errors.status("measuring for a few seconds"):
        found = measure(rounds)
    for name, cost in found.items():
        say(f"{name:22s} {cost:7.1f} µs of processor time per request")
    write_report(found, json_path)
