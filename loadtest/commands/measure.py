"""The commands `run`, `max` and `limit`, which put load on the whole path."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from loadtest.commands.outcome import finish, open_view
from loadtest.options import (
    FIRST_DAY,
    Bootstrap,
    Check,
    Customers,
    FirstDay,
    LabelOrder,
    ModelDir,
    NewPattern,
    NoModel,
    Partitions,
    Prefix,
    Redis,
    Scorers,
    Seed,
    Start,
    WarmUp,
    Workers,
    feed_of,
    target_of,
)
from runtime.command_line import Json, say
from schemas.errors import ConfigurationError


def run(
    rate: Annotated[float, typer.Option(min=0, help="transactions a second, open loop")] = 0.0,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="how long to send")] = None,
    speedup: Annotated[
        float, typer.Option(min=0, help="send a file at so many times its own pace")
    ] = 0.0,
    input_path: Annotated[Path | None, typer.Option("--input", help="Parquet or CSV file")] = None,
    mapping: Annotated[Path | None, typer.Option(help="YAML mapping of its columns")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="only the first rows of the file")] = None,
    labels: Annotated[LabelOrder, typer.Option(help="when labels are sent")] = "due",
    queued: Annotated[
        int, typer.Option(min=0, help="transactions queued while the services are stopped")
    ] = 0,
    swap_at: Annotated[
        float | None, typer.Option(min=0, help="second at which --swap-to becomes champion")
    ] = None,
    swap_to: Annotated[Path | None, typer.Option(help="model bundle to swap to")] = None,
    swaps: Annotated[
        int, typer.Option(min=1, help="swaps, alternating between --swap-to and the first champion")
    ] = 1,
    swap_every: Annotated[float, typer.Option(min=0.1, help="seconds between swaps")] = 2.0,
    shadow: Annotated[
        list[Path] | None, typer.Option(help="model bundle that scores as a shadow; repeatable")
    ] = None,
    customers: Customers = 20_000,
    seed: Seed = 7,
    first_day: FirstDay = FIRST_DAY,
    new_pattern_day: NewPattern = None,
    bootstrap: Bootstrap = None,
    redis: Redis = None,
    prefix: Prefix = None,
    partitions: Partitions = 4,
    workers: Workers = 1,
    scorers: Scorers = 1,
    services: Start = True,
    model: ModelDir = None,
    no_model: NoModel = False,
    warm_up: WarmUp = 10.0,
    check: Check = False,
    json_path: Json = None,
) -> None:
    """Send transactions through the services and account for every one.

    The generated world's stream at a rate, or a file with its labels in event-time order.

    Example: python -m loadtest run --rate 1000 --seconds 60 --check --json report.json

    Example: python -m loadtest run --input day.parquet
    --mapping loadtest/mappings/handbook.yaml --speedup 3600

    Example: python -m loadtest run --rate 1000 --seconds 60
    --swap-at 20 --swap-to var/models/next --swaps 10 --swap-every 2
    """
    from loadtest.measure.measured_run import RunPlan
    from loadtest.measure.measured_run import run as measured
    from loadtest.measure.swap import Swap
    from loadtest.traffic.sender import Order

    if bool(rate) == bool(speedup):
        raise ConfigurationError(
            "give either --rate (per second) or --speedup (of a file's own pace)"
        )
    if input_path is None and (speedup or seconds is None):
        raise ConfigurationError("the generated stream has no end: give --rate and --seconds")
    if (swap_at is None) != (swap_to is None):
        raise ConfigurationError("give both --swap-at and --swap-to, or neither")
    if swaps > 1 and (swap_to is None or no_model or not services):
        raise ConfigurationError(
            "--swaps needs --swap-at, --swap-to and a first champion: "
            "leave --no-model and --no-services out"
        )
    if queued and not services:
        raise ConfigurationError("--queued stops and starts the services: leave --no-services out")
    swap = None
    if swap_at is not None and swap_to is not None:
        swap = Swap(swap_at, (swap_to,), swaps, swap_every)
    plan = RunPlan(
        target=target_of(bootstrap, redis, prefix, partitions, services),
        feed=feed_of(
            customers,
            seed,
            first_day,
            new_pattern_day,
            input_path=input_path,
            mapping=mapping,
            rows=rows,
            labels=labels,
        ),
        order=Order(rate=rate, speedup=speedup, seconds=seconds),
        workers=workers,
        scorers=scorers,
        start_services=services,
        model=model,
        no_model=no_model,
        queued=queued,
        warm_up_s=warm_up if input_path is None else 0.0,
        swap=swap,
        shadows=tuple(shadow or ()),
    )
    watch, view = open_view()
    with view:
        found = measured(plan, watch, view)
    finish(found, json_path, check=check)


def maximum(
    p99_ms: Annotated[float, typer.Option(min=1, help="bound on p99")] = 50.0,
    hold: Annotated[float, typer.Option(min=1, help="seconds to hold the rate")] = 30.0,
    first_rate: Annotated[float, typer.Option(min=1, help="rate to begin with")] = 2_000.0,
    budget: Annotated[float, typer.Option(min=1, help="time limit in seconds")] = 300.0,
    with_limit: Annotated[
        bool, typer.Option("--with-limit", help="also measure the bare echo in the same run")
    ] = False,
    customers: Customers = 20_000,
    seed: Seed = 7,
    bootstrap: Bootstrap = None,
    redis: Redis = None,
    prefix: Prefix = None,
    partitions: Partitions = 4,
    workers: Workers = 1,
    scorers: Scorers = 1,
    services: Start = True,
    model: ModelDir = None,
    no_model: NoModel = False,
    warm_up: WarmUp = 10.0,
    check: Check = False,
    json_path: Json = None,
) -> None:
    """Find the highest rate that the services hold with p99 within a bound.

    Example: python -m loadtest max --p99-ms 50 --with-limit --json max.json
    """
    from loadtest.measure.maximum import RateSearch
    from loadtest.measure.maximum import run as measured
    from loadtest.measure.measured_run import RunPlan
    from loadtest.traffic.sender import Order

    plan = RunPlan(
        target=target_of(bootstrap, redis, prefix, partitions, services),
        feed=feed_of(customers, seed, FIRST_DAY, None),
        order=Order(rate=first_rate),
        workers=workers,
        scorers=scorers,
        start_services=services,
        model=model,
        no_model=no_model,
        warm_up_s=warm_up,
    )
    search = RateSearch(p99_ms=p99_ms, hold_s=hold, first_rate=first_rate, budget_s=budget)
    watch, view = open_view()
    with view:
        found = measured(plan, search, watch, view, with_limit=LIMIT_COUNT if with_limit else 0)
    if "limit" in found:
        bare = found["limit"]["throughput_per_s"]
        say(f"bare echo {bare:,.0f}/s, ratio {found['ratio_to_limit']:.3f}")
    finish(found, json_path, check=check)
    if not found["held"]:
        say(f"no rate was held with p99 within {p99_ms:g} ms", "red")
        raise typer.Exit(1)


LIMIT_COUNT: Final = 1_000_000


def limit(
    count: Annotated[int, typer.Option(min=1_000, help="transactions sent flat out")] = LIMIT_COUNT,
    seconds: Annotated[float, typer.Option(min=0.5, help="then at 1,000/s for latency")] = 5.0,
    customers: Customers = 20_000,
    seed: Seed = 7,
    bootstrap: Bootstrap = None,
    redis: Redis = None,
    prefix: Prefix = None,
    partitions: Partitions = 4,
    json_path: Json = None,
) -> None:
    """Measure the bare echo: the same hops, sender and receiver, without the services.

    Example: python -m loadtest limit --json limit.json
    """
    from loadtest.deploy.deployment import deploy
    from loadtest.measure.limit import measure

    watch, view = open_view()
    with view:
        view.say("starting Kafka and Redis" if bootstrap is None else "connecting")
        feed = feed_of(customers, seed, FIRST_DAY, None)
        with deploy(target_of(bootstrap, redis, prefix, partitions, True)) as place:
            found = measure(place, feed, watch, view, count=count, seconds=seconds)
    finish(found, json_path, check=False)
